"""Numbered pictures that are the frames of one video: put in order, and what their numbers say."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd
from pathlib import Path

from serve.errors import InputError
from serve.media.files import PICTURE_SUFFIXES

FRAME_SUFFIXES = PICTURE_SUFFIXES - {".gif"}  # which is a video of its own
"""What counts as a frame in a folder."""
DEFAULT_RATE = Fraction(25)
_SPARSE = 10
"""Times as many numbers as pictures, beyond which the names count no frames but, say, milliseconds."""
_PLACEHOLDER = re.compile(r"%(?:0(\d+))?d")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class FrameSeries:
    """A video whose frames are pictures."""

    name: str
    """What its outputs are called."""
    files: tuple[Path, ...]
    """In order of their numbers."""
    places: tuple[int, ...]
    """When each is shown, counted in frames from the first one; a missing number leaves its place free."""
    rate: Fraction | None = None
    """Frames per second; None is `DEFAULT_RATE`."""

    def __str__(self) -> str:
        return str(self.files[0].parent / f"*{self.files[0].suffix}")

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        return self.places[-1] + 1 - len(self.places)

    def resolve(self) -> "FrameSeries":
        """The same by absolute names."""
        return replace(self, files=tuple(file.resolve() for file in self.files))

    def state(self) -> dict[str, object]:
        """What shows that a picture was altered, added or taken away; ready for JSON."""
        found = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
        return {
            "frames": len(found),
            "first": found[0][0],
            "sha256": digest,
            "rate": str(self.rate or DEFAULT_RATE),
        }


def in_order(files: Iterable[Path], rate: Fraction | None = None) -> FrameSeries:
    """Pictures of one folder as a video, in the natural order of the numbers in their names: 2 before 10.

    Raises:
        InputError: pictures of several kinds, two with the same number, or several series side by side.
    """
    found = sorted(files, key=_natural)
    folder = found[0].parent
    kinds = Counter(file.suffix.lower() for file in found)
    if len(kinds) > 1:
        counted = " and ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise InputError(
            f"{folder} holds {counted} pictures; give a quoted pattern for those that are frames."
        )
    _refuse_several(found)
    return FrameSeries(folder.resolve().name, tuple(found), tuple(_places(found)), rate)


def matching(pattern: Path) -> list[Path] | None:
    """The files that a pattern like frames/%06d.png means; None if it is no such pattern."""
    pieces = _PLACEHOLDER.split(pattern.name)
    if len(pieces) != 3 or not pattern.parent.is_dir():
        return None
    before, digits, after = pieces
    number = rf"\d{{{digits},}}" if digits else r"\d+"
    wanted = re.compile(re.escape(before) + number + re.escape(after))
    return [file for file in pattern.parent.iterdir() if wanted.fullmatch(file.name) and file.is_file()]


def _natural(file: Path) -> tuple[list[str | int], str]:
    pieces = _DIGITS.split(file.stem)  # text and digits in turn
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], file.name


def _refuse_several(files: Sequence[Path]) -> None:
    """The same numbers twice are two series (left_1, right_1), or one number in two ways (1, 01)."""
    numbers: dict[tuple[int, ...], Path] = {}
    for file in files:
        own = tuple(map(int, _DIGITS.findall(file.stem)))
        other = numbers.setdefault(own, file)
        if own and other != file:
            raise InputError(
                f"{other} and {file} have the same number, so they are no frames of one video; give a quoted "
                "pattern for those that are."
            )


def _places(files: Sequence[Path]) -> Iterable[int]:
    """From the one number in which the names differ, in steps of what all steps are multiples of."""
    texts = {tuple(_DIGITS.split(file.stem)[::2]) for file in files}
    fields = list(zip(*(map(int, _DIGITS.findall(file.stem)) for file in files), strict=False))
    counting = [field for field in fields if len(set(field)) > 1]
    if len(texts) > 1 or len(counting) != 1:
        return range(len(files))
    (numbers,) = counting
    step = gcd(*(number - numbers[0] for number in numbers))
    places = [(number - numbers[0]) // step for number in numbers]
    return places if places[-1] < _SPARSE * len(files) else range(len(files))
