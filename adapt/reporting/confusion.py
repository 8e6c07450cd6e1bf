"""Picture of confusion matrices: which class is taken for which."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adapt.reporting.figures import hide_spines, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL = 0.34
"""Inches of a cell's side: room for two digits."""
LEAST_SHOWN = 0.005
"""Shares below this stay without a number."""
MOST_NUMBERED = 40
"""With more classes the cells are drawn without numbers, and smaller."""


def row_shares(confusion: np.ndarray) -> np.ndarray:
    """[C, C] counts -> shares of every true class's pixels; rows without ground truth are NaN."""
    pixels = confusion.sum(1, keepdims=True)
    shares = np.full(confusion.shape, np.nan)
    np.divide(confusion, pixels, out=shares, where=pixels > 0)
    return shares


def draw_confusions(names: Sequence[str], confusions: Mapping[str, np.ndarray], path: Path) -> None:
    """One matrix beside another, in per cent of the true class.

    Args:
        names: of the classes, C of them.
        confusions: title and counts [C, C] of each, row = ground truth, column = prediction.
        path: where the PNG goes.
    """
    cell = CELL if len(names) <= MOST_NUMBERED else 0.5 * CELL
    side = cell * len(names)
    margin = 0.075 * max(map(len, names)) + 0.3
    figure = new_figure((side + 0.15) * len(confusions) + margin, side + margin + 0.3)
    panels = figure.subplots(1, len(confusions), sharey=True, squeeze=False)[0]
    for axes, (title, confusion) in zip(panels, confusions.items(), strict=True):
        _draw(axes, row_shares(confusion), numbered=len(names) <= MOST_NUMBERED)
        axes.set_title(f"{title}, % of the true class", fontsize=9, loc="left")
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_xlabel("predicted", fontsize=9)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].set_ylabel("true", fontsize=9)
    save_figure(figure, path)


def _draw(axes: "Axes", shares: np.ndarray, numbered: bool) -> None:
    axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    axes.tick_params(length=0)
    hide_spines(axes, "top", "right", "bottom", "left")
    for row, column in np.argwhere(shares >= LEAST_SHOWN).tolist() if numbered else ():
        share = float(shares[row, column])
        color = "white" if share > 0.55 else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=color)
    for row in np.flatnonzero(np.isnan(shares).all(1)).tolist():
        axes.text(0, row, " no ground truth", va="center", fontsize=7, color="#777777")
