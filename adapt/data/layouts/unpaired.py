"""Pictures without labels, or labels without a picture: refused, but with what does pair up at hand."""

from collections.abc import Sequence
from pathlib import Path

from adapt.data.layouts.pairing import Pairs
from adapt.data.layouts.patterns import Labelled
from adapt.errors import InputError

_SHOWN = 3


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


def refuse_alone(found: Pairs, pairs: Labelled) -> None:
    """Raise UnpairedError if some pictures have no labels."""
    if not found.alone:
        return
    total = len(found.images) + len(found.alone)
    more = len(found.alone) - _SHOWN
    names = ", ".join(path.name for path in found.alone[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
    raise UnpairedError(
        f"{len(found.alone)} of {total} pictures have no label file such as {found.labels[0].name} in "
        f"{found.labels[0].parent}: {names}; add them or remove the pictures.",
        pairs,
        found.alone,
        found.surplus,
    )
