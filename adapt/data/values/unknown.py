"""What to say of label files with values that the class list lacks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.data.label_codes import LabelCode, UnknownLabels, describe_counts
from adapt.data.label_systems import guess_system
from adapt.data.values.repair import describe_damage

_SHOWN = 3  # files that the message names before it says how many more there are


def describe_unknown(
    problems: Sequence[UnknownLabels],
    paths: Sequence[Path],
    labels: Sequence[np.ndarray],
    code: LabelCode,
    files: int,
) -> str:
    """One sentence: which files, which values, what they look like and what to do.

    problems: of all such files.  paths, labels: of the first few, and what is in them.
    code: that lacks the values.  files: how many there are in all.
    """
    more = len(problems) - _SHOWN
    listed = "; ".join(f"{p.where} holds {describe_counts(p.counts)}" for p in problems[:_SHOWN])
    line = (
        f"{len(problems)} of {files} label files hold values that are not in {problems[0].book}: {listed}"
        f"{f', and {more} more' if more > 0 else ''}"
    )
    if (damage := describe_damage(labels, code)) is not None:
        return f"{line}; {damage}."
    system = guess_system(paths, code, labels)
    guess = f"; these files look like {system}" if system else ""
    advice = "take the class list that goes with them, " if system else ""
    return (
        f"{line}{guess}; {advice}add the values there (as classes or under ignore), or map them to classes "
        "with a label map."
    )
