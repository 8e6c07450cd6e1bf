"""What the values in label files mean: ids or colours to train ids.

Everything inside this project counts in *train ids*: 0..C-1 in the order of the class list, and IGNORE for
pixels that do not count. Label files hold whatever their makers chose (ids with gaps, or colours).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from adapt.data.values.edges import taken_back
from adapt.errors import InputError

IGNORE = 255  # train id of pixels that do not count
LARGEST_ID = 65535  # label files have at most 16 bits
NEAREST = 48  # of 255, how far a repaired colour may be off; JPEG at quality 75 is off by less inside areas
_UNKNOWN = -1
_SHOWN = 5  # values that an error message lists before it says how many more there are

Color = tuple[int, int, int]


class UnknownLabels(InputError):  # noqa: N818 (it names what was found)
    """A label array holds values without a meaning.

    counts: {value: pixels}, most frequent first; a value is an id, or an (R, G, B) triple in coloured labels.
    where: the file, or whatever else held them.  book: what should have named them (LabelCode.book).
    """

    def __init__(
        self, counts: Mapping[int | Color, int], where: str = "The label array", book: str = "the class list"
    ) -> None:
        self.counts = dict(counts)
        self.where = where
        self.book = book
        super().__init__(
            f"{where} holds values that are not in {book}: {describe_counts(self.counts)}; "
            "add them there, as classes or as values to ignore."
        )


def describe_counts(counts: Mapping[int | Color, int]) -> str:
    """The first few unknown values with their pixel counts, as a person would list them."""
    shown = [f"{value} ({pixels} px)" for value, pixels in list(counts.items())[:_SHOWN]]
    more = len(counts) - _SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class LabelCode:
    """The meaning of label files' values.

    ids: train id, or IGNORE, of each value in single-channel label files.
    colors: the same of each RGB colour in coloured ones.
    book: where these meanings are written, for messages.
    dropped: classes of the label files that are ignored because the class list lacks them.
    nearest: where above 0, labels that JPEG or resizing changed are repaired. An unknown colour means what
        the nearest known one does, up to this distance (the largest difference of a channel), and beyond it
        does not count; ids between those beside them are taken back (adapt/data/values/edges.py).
    """

    ids: Mapping[int, int]
    colors: Mapping[Color, int]
    book: str = field(default="the class list", compare=False)
    dropped: tuple[str, ...] = ()
    nearest: int = 0

    def repaired(self) -> "LabelCode":
        """The same, taking unknown colours for the nearest known ones, and averaged ids back."""
        return replace(self, nearest=NEAREST)

    @cached_property
    def _train_id_of_id(self) -> np.ndarray:
        table = np.full(LARGEST_ID + 1, _UNKNOWN, np.int16)
        table[list(self.ids)] = list(self.ids.values())
        return table

    @cached_property
    def _train_id_of_color(self) -> tuple[np.ndarray, np.ndarray]:
        """Packed colours in rising order, and their train ids."""
        known = {_pack(color): train_id for color, train_id in self.colors.items()}
        packed = sorted(known)
        return np.array(packed, np.int32), np.array([known[key] for key in packed], np.int16)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Label-file values to train ids.

        labels: [H, W] whole numbers (ids), or uint8 [H, W, 3] RGB colours.
        Returns uint8 [H, W]: 0..C-1 or IGNORE.
        Raises UnknownLabels if a value has no meaning.
        """
        if labels.ndim == 2 and np.issubdtype(labels.dtype, np.integer):
            labels = taken_back(labels) if self.nearest else labels
            known = (labels >= 0) & (labels <= LARGEST_ID)
            train_ids = np.where(known, self._train_id_of_id[np.where(known, labels, 0)], _UNKNOWN)
            values = labels
        elif labels.ndim == 3 and labels.shape[2] == 3 and labels.dtype == np.uint8:
            values = (labels.astype(np.int32) * (1 << 16, 1 << 8, 1)).sum(axis=2, dtype=np.int32)
            colors, train_id_of = self._train_id_of_color
            nearest = np.searchsorted(colors, values).clip(max=len(colors) - 1)
            train_ids = np.where(colors[nearest] == values, train_id_of[nearest], _UNKNOWN)
            if self.nearest:
                train_ids = self._with_nearest(values, train_ids)
        else:
            raise InputError(
                f"Labels must be whole numbers [H, W] or 8-bit colours [H, W, 3], "
                f"but are {labels.dtype} {list(labels.shape)}."
            )
        unknown = train_ids == _UNKNOWN
        if unknown.any():
            raise UnknownLabels(count_values(values[unknown], labels.ndim == 3), book=self.book)
        return train_ids.astype(np.uint8)

    def _with_nearest(self, values: np.ndarray, train_ids: np.ndarray) -> np.ndarray:
        """Packed colours [H, W] that are unknown become what the nearest known ones are."""
        found, place = np.unique(values[train_ids == _UNKNOWN], return_inverse=True)
        _, train_id_of = self._train_id_of_color
        apart, closest = self._closest(found)
        meant = np.where(apart <= self.nearest, train_id_of[closest], IGNORE).astype(train_ids.dtype)
        filled = train_ids.copy()
        filled[train_ids == _UNKNOWN] = meant[place]
        return filled

    def _closest(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of packed colours [n]: distance to the nearest known one, and its position."""
        known, _ = self._train_id_of_color
        apart = np.abs(_unpacked(packed)[:, None] - _unpacked(known)).max(axis=2)
        closest = apart.argmin(axis=1)
        return apart[np.arange(len(packed)), closest], closest

    def distances(self, labels: np.ndarray) -> np.ndarray:
        """int [H, W]: how far each colour of [H, W, 3] is from the nearest known one."""
        packed = (labels.astype(np.int32) * (1 << 16, 1 << 8, 1)).sum(axis=2, dtype=np.int32)
        found, place = np.unique(packed, return_inverse=True)
        return np.asarray(self._closest(found)[0][place].reshape(packed.shape))


def _unpacked(packed: np.ndarray) -> np.ndarray:
    """int [n, 3] of colours 0xRRGGBB."""
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.int32)


def values_in(labels: np.ndarray) -> dict[int | Color, int]:
    """{value: pixels}, most frequent first, in the label array [H, W] of ids or [H, W, 3] of colours."""
    if labels.ndim == 2:
        return count_values(labels, is_color=False)
    packed = (labels.astype(np.int32) * (1 << 16, 1 << 8, 1)).sum(axis=2, dtype=np.int32)
    return count_values(packed, is_color=True)


def count_values(values: np.ndarray, is_color: bool) -> dict[int | Color, int]:
    """{value: pixels}, most frequent first; colours are packed as 0xRRGGBB."""
    found, pixels = np.unique(values, return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    counts: dict[int | Color, int] = {}
    for value, number in zip(found[order].tolist(), pixels[order].tolist(), strict=True):
        counts[(value >> 16, value >> 8 & 255, value & 255) if is_color else value] = number
    return counts


def _pack(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]
