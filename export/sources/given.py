"""Statistics to correct with, and what is known of them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from adapt.balance.correction import excluding
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.errors import InputError


class Given(NamedTuple):
    """Statistics to correct with."""

    statistics: ShiftStatistics
    words: str
    """Where they come from."""
    of: str | None
    """Fingerprint of the graph that they are of; None if that was not written down."""
    note: str = ""
    """What could not be checked of them, in words."""
    offset: tuple[float, ...] | None = None
    """[C] logits that were added before pixels were labelled; None is 0."""
    pixels: tuple[int, ...] | None = None
    """[C] pixels of each class that they are of, where that is known."""
    tau: float | None = None
    """The strength to fold them with where none is given; None is the default of such statistics."""
    why: str = ""
    """Of gathered ones: why it is that strength, in words."""
    warnings: tuple[str, ...] = ()
    """What speaks against correcting with them, a sentence each."""
    profile: str = ""
    """Their name among several corrections of one file."""

    def leaving(self, classes: Sequence[int]) -> "Given":
        """The same with some classes that take no part. Raises InputError if less than two are left then."""
        mask = torch.isin(torch.arange(self.statistics.num_classes), torch.tensor(classes))
        statistics = excluding(self.statistics, mask)
        assert statistics.excluded is not None
        if int((~statistics.excluded).sum()) < 2:
            raise InputError(
                f"--leave would leave {int(statistics.excluded.sum())} of {statistics.num_classes} classes "
                "as they are, but at least two must take part in the correction."
            )
        return self._replace(statistics=statistics)


def index_of(name: str, classes: Sequence[str]) -> int:
    """Number of the class that --leave names. Raises InputError if none, or more than one, has the name."""
    for key in (str, str.casefold):
        found = [c for c, known in enumerate(classes) if key(known) == key(name)]
        if len(found) == 1:
            return found[0]
    listed = ", ".join(classes)
    raise InputError(f"--leave {name} is none of the classes ({listed}); give one of these names.")
