"""What speaks against correcting with some statistics, before any label is seen."""

from adapt.balance.bias import doubt
from adapt.balance.logit_statistics import ShiftStatistics, range_warning

MEASURE = "a few labelled pictures tell whether it does here (blda export eval --data)"


def warnings_of(statistics: ShiftStatistics) -> list[str]:
    """A sentence each: logits out of range, and a correction that may do harm."""
    said = doubt(statistics)
    found = [range_warning(statistics.outside, statistics.logit_range)]
    found.append(f"warning: {said}; {MEASURE}" if said else "")
    return [each for each in found if each]
