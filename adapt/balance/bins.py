"""Where the bins of logit histograms lie: in the data's own range, whatever the scale of a network's logits.

A network's logits may lie within +-0.2 or beyond +-100, and far from 0. The range is therefore taken from the
logits and widened when others come that lie beyond it, by doubling the bins' width: two neighbours become
one, so counts move into the new bins exactly. Everything follows the logits: of logits times a plus b, the
bins are those of the logits, times a plus b, and what is fitted to the counts is too.

Nothing here reads a tensor back, so that a GPU does not wait.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 256
LOGIT_RANGE = (-32.0, 32.0)
"""Range in logits where none was measured: of statistics that older versions stored."""
MARGIN = 0.25
"""Share of the first logits' range that is left free on either side for those to come."""
FAR = 64
"""How many times the logits' spread a logit may lie from the winning ones before it is cut off."""
_SOME = 1024
"""Pixels that the spread is estimated from."""
_DOUBLINGS = 64


class Bins(NamedTuple):
    """BINS bins of the same width."""

    low: Tensor
    """Scalar: left end of the first bin, in logits."""
    step: Tensor
    """Scalar: width of a bin, in logits."""

    @property
    def high(self) -> Tensor:
        """Right end of the last bin, in logits."""
        return self.low + BINS * self.step

    def to(self, device: torch.device | str) -> "Bins":
        return Bins(self.low.to(device), self.step.to(device))

    def centres(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[BINS] in logits."""
        numbers = torch.arange(BINS, device=self.low.device, dtype=dtype) + 0.5
        return self.low.to(dtype) + self.step.to(dtype) * numbers

    def around(self, extent: "Extent") -> "Bins":
        """These bins if they hold the extent, or the fewest doublings of them that do; see `fresh` for none.

        Bins of width 0 hold nothing yet: the first extent makes them anew.
        """
        first = fresh(extent, MARGIN)
        held = self._widened(extent)
        new = self.step <= 0
        low, step = (torch.where(new, a, b) for a, b in zip(first, held, strict=True))
        known = extent.low <= extent.high
        return Bins(torch.where(known, low, self.low), torch.where(known, step, self.step))

    def _widened(self, extent: "Extent") -> "Bins":
        steps = self.step * 2.0 ** torch.arange(_DOUBLINGS, device=self.low.device)  # [k]
        # In whole new bins, so that every old one lies inside of one: below the first one, and from there on.
        below = ((self.low - extent.low) / steps).clamp_min(0).ceil()
        beyond = ((extent.high - self.low) / steps).floor() + 1
        above = torch.where(extent.high < self.high, (BINS * self.step / steps).ceil(), beyond)
        chosen = (below + above > BINS).sum().clamp_max(_DOUBLINGS - 1).view(1)
        step, below, above = (each.index_select(0, chosen)[0] for each in (steps, below, above))
        spare = (BINS - below - above).clamp_min(0)  # 0 where the bins are as they were
        return Bins(self.low - (below + (spare / 2).floor()) * step, step)


class Extent(NamedTuple):
    """The range of some logits. Its low end lies above the high one where there are none."""

    low: Tensor
    high: Tensor

    def stacked(self) -> Tensor:
        """[2]: of several, the elementwise maximum is that of all of them together."""
        return torch.stack([-self.low, self.high])

    @staticmethod
    def of_stacked(both: Tensor) -> "Extent":
        """Inverse of `stacked`."""
        return Extent(-both[0], both[1])


def default_bins(device: torch.device | str = "cpu") -> Bins:
    """Over LOGIT_RANGE."""
    low, high = LOGIT_RANGE
    return Bins(torch.tensor(low, device=device), torch.tensor((high - low) / BINS, device=device))


def no_bins(device: torch.device | str = "cpu") -> Bins:
    """Bins of width 0, which `around` makes of the first extent."""
    return Bins(torch.tensor(0.0, device=device), torch.tensor(0.0, device=device))


def fresh(extent: Extent, margin: float = 0.0) -> Bins:
    """Bins over an extent and `margin` times its width on either side; over a single value, narrow ones."""
    low, width = extent.low, extent.high - extent.low
    least = torch.finfo(width.dtype).eps * 2 * BINS * extent.high.abs().clamp_min(1e-6)
    width = torch.maximum(width, least)
    step = width * (1 + 2 * margin) / (BINS - 2)  # a bin to spare on either side, for rounding
    return Bins(low - margin * width - step, step)


@torch.no_grad()
def extent_of(logits: Tensor, counted: Tensor) -> Extent:
    """The range of logits that histograms should hold.

    All of them but for what lies hopelessly far from the rest, such as the -1e9 of a class that is masked:
    it would take all resolution from the others. Whole channels are left out that nowhere come within FAR
    spreads of the winning logits, and others are cut there; histograms count both in their first or last bin.
    The spread is the largest of the channels' interquartile ranges. Infinities and NaN do not count.

    Args:
        logits: [N, C, h, w].
        counted: [N, h, w] bool, pixels that count.
    """
    f = logits.float().transpose(0, 1).flatten(1)  # [C, P]
    valid = f.isfinite() & counted.flatten()
    least = torch.where(valid, f, torch.inf).amin(1)
    most = torch.where(valid, f, -torch.inf).amax(1)
    some = _thinned(torch.where(valid, f, torch.nan), counted.flatten())
    quartiles = torch.nanquantile(some, torch.tensor([0.25, 0.75], device=f.device), dim=1)
    spread = (quartiles[1] - quartiles[0]).nan_to_num(0).amax()
    winning = torch.where(some.isnan(), -torch.inf, some).amax(0)
    centre = torch.where(winning.isinf(), torch.nan, winning).nanmedian()
    # Where nothing varies there is nothing to measure distances by.
    reach = torch.where(spread > 0, FAR * spread, torch.inf).nan_to_num(torch.inf)
    centre = centre.nan_to_num(0)
    near = (most >= centre - reach) & (least <= centre + reach)
    low = torch.where(near, least, torch.inf).amin().maximum(centre - reach)
    high = torch.where(near, most, -torch.inf).amax().minimum(centre + reach)
    return Extent(low, high)


def _thinned(values: Tensor, counted: Tensor) -> Tensor:
    """About _SOME of the columns [C, P] that count, evenly, or of all where few do."""
    P = values.shape[1]
    if P <= _SOME:
        return values
    # The k-th of the counted ones for even k, found without reading anything back.
    rank = counted.cumsum(0)
    wanted = torch.linspace(0.5, _SOME - 0.5, _SOME, device=values.device) / _SOME
    places = torch.searchsorted(rank, (wanted * rank[-1]).ceil().to(rank.dtype).clamp_min(1))
    return values.index_select(1, places.clamp_max(P - 1))


MOST_OUTSIDE = 0.001
"""Share of logits beyond the histograms' range from which on it is said."""


def range_warning(outside: float, logit_range: tuple[float, float]) -> str:
    """What is to be said of the share of logits beyond the range of histograms; empty if that is nothing."""
    if outside <= MOST_OUTSIDE:
        return ""
    low, high = logit_range
    return (
        f"{outside:.1%} of the logits lie beyond {low:.3g} to {high:.3g}, the range of the rest, "
        "and are counted at its ends: how they are distributed is not known. A masked class is one reason."
    )
