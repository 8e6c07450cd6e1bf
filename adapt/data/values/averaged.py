"""A warning where ids look averaged although all of them mean something: no value gives it away then."""

from collections.abc import Iterator

import numpy as np

from adapt.data.datasets import LabelledImages
from adapt.data.values.edges import share_of_edges

WARN_FROM = 0.1
"""Share of the pixels at edges. Of drawn streets it was 0.01, resized to the nearest pixel 0.02, by averaging
0.15 to 0.46."""
_LOOKED_AT = 8  # label files of a data set


def describe_averaged(domain: str, dataset: LabelledImages) -> Iterator[str]:
    """A line for each data set whose single-channel label files look as averaging leaves them.

    domain: what the data set is to the run.
    """
    ends = np.cumsum(dataset.sizes)
    for part, end, size in zip(dataset.parts, ends.tolist(), dataset.sizes, strict=True):
        if part.code.nearest or part.found.kind.drawn:
            continue
        chosen = {int(i) for i in np.linspace(end - size, end - 1, min(size, _LOOKED_AT)).round()}
        labels = [dataset.values(index) for index in sorted(chosen)]
        shares = [share_of_edges(each) for each in labels if each.ndim == 2]
        if shares and np.mean(shares) >= WARN_FROM:
            yield (
                f"warning: {domain}: {100 * np.mean(shares):.2g} % of the pixels at edges in "
                f"{part.found.pattern} have an id between those beside them, as resizing by averaging makes "
                "them: take the files as they were labelled, or --repair-labels nearest"
            )
