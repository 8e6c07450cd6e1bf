"""Numbers and tables as Markdown, and the words for them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml
from evidence_summary import Spread

WORDS: dict[str, str] = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text())
QUALITY = ("mean_iou", "mean_accuracy")
STRENGTHS = ("0.1", "0.2", "0.5", "1")
HARM = -0.003
"""A loss of mIoU from here on is called harm."""
OURS = {
    "posthoc": "anchors of the source",
    "source-free": "source-free anchors",
}
VARIANTS = {
    "eps 0.1": "anchors of the source, eps 0.1",
    "class anchors": "anchors of the source, pooled over classes",
    "balanced labels": "anchors of the source, balanced labels",
    "one component": "anchors of the source, one Gaussian instead of five",
    "negative half": "anchors of the source, no shift of a class's own logits",
    "source-free, eps 0.1": "source-free anchors, eps 0.1",
    "source-free, class anchors": "source-free anchors, pooled over classes",
}

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
