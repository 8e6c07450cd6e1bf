"""Numbers and tables as Markdown."""

import textwrap
from collections.abc import Sequence

from evidence_summary import Spread

MISSING = "**missing**"
WIDTH = 118


def text(paragraph: str) -> str:
    """A paragraph in lines of the documents' width."""
    return textwrap.fill(" ".join(paragraph.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def signed(share: float) -> str:
    """A difference of shares in points; a rounded zero has no sign."""
    shown = f"{100 * share:+.1f}"
    return "0.0" if float(shown) == 0 else shown


def number(value: float, sign: str = "+") -> str:
    """Two digits; - for NaN."""
    return "-" if value != value else f"{value:{sign}.2f}"


def both(iou: Spread | None, accuracy: Spread | None) -> str:
    """Mean differences of mIoU and of mAcc."""
    if iou is None or accuracy is None:
        return MISSING
    return f"{signed(iou.mean)} / {signed(accuracy.mean)}"


def ranged(found: Spread, scale: float = 100, digits: int = 1) -> str:
    """Mean, and lowest and highest where there are several."""
    mean, low, high = (f"{scale * number:.{digits}f}" for number in (found.mean, found.low, found.high))
    return mean if len(found.values) == 1 else f"{mean} ({low} to {high})"
