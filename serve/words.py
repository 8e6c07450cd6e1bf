"""What a graph's verification says, in sentences; `export verify` wrote it, this version or another one."""

from collections.abc import Mapping
from typing import Any, TypeGuard

_USED = frozenset(
    {"passed", "against", "pictures", "frames", "strengths", "agreement", "near_ties", "class_agreement"}
    | {"score_difference", "tolerance", "labelled", "profiles", "profile"}
)


def verification_sentences(record: Mapping[str, Any]) -> list[str]:
    """A sentence for each thing that the record tells, in the order in which one would ask."""
    made = [_what(record), _labels(record), _classes(record), _scores(record), _truth(record)]
    rest = [f"{_capital(name)}: {_plain(value)}." for name, value in record.items() if name not in _USED]
    return [sentence for sentence in made if sentence] + [each for each in rest if not each.endswith(": .")]


def _what(record: Mapping[str, Any]) -> str:
    if "passed" not in record:
        return ""
    words = "Passed" if record["passed"] is True else "Not passed"
    if against := record.get("against"):
        words += f": it was compared with {against}"
    if "frames" in record and "pictures" in record:
        words += f" on {record['frames']} {record['pictures']}"
    strengths = record.get("strengths")
    if isinstance(strengths, list) and strengths and all(map(_is_number, strengths)):
        words += f", at strength {_joined([f'{each:g}' for each in strengths])}"
    profiles = record.get("profiles")
    if isinstance(profiles, list) and profiles:
        words += f", under {_joined(list(map(str, profiles)))}; what follows is of {record.get('profile')}"
    return words + "."


def _labels(record: Mapping[str, Any]) -> str:
    agreement, ties = record.get("agreement"), record.get("near_ties")
    if not _is_number(agreement):
        return ""
    left_out = ""
    if _is_number(ties) and ties > 0:
        if ties >= 1:
            return "No label was compared: at every pixel two classes are too close to call."
        left_out = f", left out the {_share(ties)} of the pixels where two classes are too close to call"
    return f"{'All' if agreement == 1 else _share(agreement) + ' of the'} labels are equal{left_out}."


def _classes(record: Mapping[str, Any]) -> str:
    found = record.get("class_agreement")
    if not isinstance(found, dict) or not found or not all(map(_is_number, found.values())):
        return ""
    name, least = min(found.items(), key=lambda item: float(item[1]))
    if least == 1:
        return f"They are equal in each of the {len(found)} classes that were compared."
    return f"Least equal of the {len(found)} classes that were compared is {name}, with {_share(least)}."


def _scores(record: Mapping[str, Any]) -> str:
    if "score_difference" not in record:
        return ""
    difference, tolerance = record["score_difference"], record.get("tolerance")
    if not _is_number(difference):
        return "There were no scores to compare."
    allowed = f"; {tolerance:.2g} is allowed" if _is_number(tolerance) else ""
    return f"Scores differ by {difference:.2g} logits at most{allowed}."


def _truth(record: Mapping[str, Any]) -> str:
    if "labelled" not in record:
        return ""
    truth = record["labelled"]
    if not isinstance(truth, dict) or not _is_number(truth.get("mean_iou")):
        return "It was not compared with ground truth, for want of labelled pictures."
    change, bias = truth.get("mean_iou_change"), truth.get("sum_abs_bias")
    changed = f", {100 * change:+.2f} points beside what it was compared with" if _is_number(change) else ""
    biased = f"; the sum of |bias| is {bias:.3g}" if _is_number(bias) else ""
    return f"On labelled pictures its mean IoU is {_share(truth['mean_iou'])}{changed}{biased}."


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _share(value: float) -> str:
    """Per cent, of which as many decimals as tell it from 0 and 100."""
    for decimals in (1, 2, 3):
        words = f"{100 * value:.{decimals}f}"
        if value in (0, 1) or float(words) not in (0, 100):
            break
    return f"{words} %"


def _capital(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if value is None or isinstance(value, bool):
        return {None: "not known", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _joined(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
