"""Online balancing: what a training step takes in, and the shifts that it gets for it.

Li et al. 2025, section 3.3: the mixtures follow the network by a few steps of EM on every batch.
"""

from collections.abc import Callable

from torch import Tensor

from adapt.balance.bins import Extent, extent_of
from adapt.balance.captured import Captured
from adapt.balance.correction import ShiftTable, shift_table
from adapt.balance.histogram import Histogram, labels_at_stride, logit_histogram
from adapt.balance.logit_statistics import LogitStatistics

TABLE_POINTS = 128


class Balance:
    """The online correction's part of every step; absent when `method.balance` is not online.

    Attributes:
        statistics: the running ones.
        source_table: the step's shifts of the source, once it has taken in the source's logits. The mixed
            pictures need them again.
        target_table: the same of the target.
    """

    source_table: ShiftTable
    target_table: ShiftTable

    def __init__(
        self,
        statistics: LogitStatistics,
        total: Callable[[Tensor], Tensor],
        stride: int,
        greatest: Callable[[Tensor], Tensor] = lambda tensor: tensor,
        alone: bool = False,
    ) -> None:
        """Balance by `statistics`.

        Args:
            total: sums a tensor over the ranks of data-parallel training.
            stride: of the decoder.
            greatest: the elementwise maximum of a tensor over the ranks.
            alone: whether there is no source, so that only `take_target` is called.
        """
        self.statistics = statistics
        self._stride = stride
        self._total = total
        self._greatest = greatest
        self._alone = alone
        self._range = Captured(self._fit_range)
        self._source = Captured(self._update_source)
        self._target = Captured(self._update_target)

    def target_so_far(self) -> ShiftTable:
        """The shifts of the target before the step's own pictures of it were taken in."""
        if not hasattr(self, "target_table"):  # in the first step, also of a run that goes on
            self.target_table = shift_table(self.statistics.shift_statistics("target"), TABLE_POINTS)
        return self.target_table

    def take_source(self, logits: Tensor, labels: Tensor) -> None:
        """Take in the step's source logits; labels [N, H, W] at full size."""
        histogram = self.count(logits, labels)
        self.source_table = self._source(histogram.counts, histogram.outside)

    def take_target(self, logits: Tensor, labels: Tensor) -> None:
        """Take in the step's target logits, after the source's if there is one."""
        histogram = self.count(logits, labels)
        self.target_table = self._target(histogram.counts, histogram.outside)

    def _fit_range(self, ends: Tensor) -> None:
        self.statistics.fit_range(Extent.of_stacked(ends))

    def _update_source(self, counts: Tensor, outside: Tensor) -> ShiftTable:
        self.statistics.update_source(Histogram(counts, outside, self._stride, self.statistics.bins))
        return shift_table(self.statistics.shift_statistics("source"), TABLE_POINTS)

    def _update_target(self, counts: Tensor, outside: Tensor) -> ShiftTable:
        histogram = Histogram(counts, outside, self._stride, self.statistics.bins)
        if self._alone:
            self.statistics.update_target_alone(histogram)
        else:
            self.statistics.update_target(histogram)
        return shift_table(self.statistics.shift_statistics("target"), TABLE_POINTS)

    def count(self, logits: Tensor, labels: Tensor) -> Histogram:
        """Histogram of the step's logits over all ranks, in bins that hold them, the same on every rank."""
        logits, labels = logits.detach(), labels_at_stride(labels, self._stride)
        extent = extent_of(logits, (labels >= 0) & (labels < logits.shape[1]))
        self._range(self._greatest(extent.stacked()))
        bins = self.statistics.bins
        own = logit_histogram(logits, labels, self._stride, bins)
        # An int32 holds the pixels of any step, and is half of what ranks would exchange otherwise.
        return Histogram(self._total(own.counts.int()).long(), self._total(own.outside), self._stride, bins)
