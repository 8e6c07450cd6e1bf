"""Ground shared by all pictures that matplotlib draws: a figure without global state, and its file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.media.whole import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150


def new_figure(width: float, height: float, gap: float = 0.05) -> "Figure":
    """A figure of its own, in inches: no pyplot, so no global state, no window, no backend to choose."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=gap, wspace=0, hspace=0)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def hide_spines(axes: "Axes", *sides: str) -> None:
    """Take the frame's lines at these sides away; by default those at the top and right."""
    for side in sides or ("top", "right"):
        axes.spines[side].set_visible(False)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a PNG under a temporary name, then rename it; what is there already is replaced."""
    options: dict[str, Any] = {"format": "png", "facecolor": "white"}
    with replacing(path) as temporary:
        figure.savefig(temporary, **options)
