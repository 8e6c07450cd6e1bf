"""Pictures without labels, or labels without a picture: refused, but with what does pair up at hand."""

from collections.abc import Sequence
from pathlib import Path

from adapt.data.layouts.patterns import Labelled
from adapt.errors import InputError


class UnpairedError(InputError):
    """Not everything in a labelled folder has its partner.

    found: what does pair up, for whoever looks at the folder instead of training on it.
    alone: pictures without a label file.  surplus: label files without a picture.
    """

    def __init__(
        self, message: str, found: Labelled, alone: Sequence[Path] = (), surplus: Sequence[Path] = ()
    ) -> None:
        super().__init__(message)
        self.found = found
        self.alone = list(alone)
        self.surplus = list(surplus)
