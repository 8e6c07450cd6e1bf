"""Segments many pictures: the next one is read while the model works, and a bad one stops nothing."""

import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from serve.background import background
from serve.errors import InputError
from serve.images.render import Painter, below, legend, present
from serve.inference.segmenter import Segmenter
from serve.media.images import Image, count_pictures, read_image, write_image
from serve.media.progress import Bar

_AHEAD = 2
_SUFFIX = {"labels": ".png", "colors": ".png", "overlay": ".jpg"}


class Read(NamedTuple):
    """A picture, or why there is none."""

    path: Path
    image: Image | InputError
    pictures: int = 1
    """How many the file holds."""


@dataclass
class PictureReport:
    """What was done to a list of pictures; filled as the work goes on."""

    done: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    """Pictures without results, each with its sentence."""
    several: list[tuple[Path, int]] = field(default_factory=list)
    """Files that hold several pictures, of which one was segmented, and how many they hold."""
    model_seconds: float = 0.0


def result_names(pictures: Sequence[Path]) -> dict[Path, str]:
    """What the results of each picture are called, without their suffix: X of X.jpg.

    Where X.jpg and X.png are both there, X.jpg and X.png, which makes X.jpg.png and X.png.png.

    Raises:
        InputError: two pictures would have the same names all the same.
    """
    stems = Counter(path.stem for path in pictures)
    names = {path: path.stem if stems[path.stem] == 1 else path.name for path in pictures}
    owners: dict[str, Path] = {}
    for path, name in names.items():
        if (other := owners.setdefault(name, path)) != path:
            raise InputError(
                f"{other} and {path} would both be written as {name}; segment them into two folders."
            )
    return names


def output_files(name: str, folder: Path, kinds: Sequence[str]) -> dict[str, Path]:
    """Where results of this name go: folder/labels/NAME.png, folder/overlay/NAME.jpg and so on."""
    return {kind: folder / kind / (name + _SUFFIX[kind]) for kind in kinds}


def segment_pictures(
    segmenter: Segmenter,
    pictures: Sequence[Path],
    folder: Path,
    *,
    kinds: Sequence[str] = ("labels", "overlay"),
    opacity: float = 0.5,
    tau: float | None = None,
    overwrite: bool = True,
) -> PictureReport:
    """Segment `pictures` into `folder`.

    Args:
        kinds: any of "labels" (positions in the card's classes), "colors" and "overlay" (with a legend).
        opacity: of the overlay's colours, in [0, 1].
        tau: see `Segmenter`.
        overwrite: replace what is there; else it is kept, see `serve.media.whole.unfinished`.

    Raises:
        InputError: as `result_names`.
        NameTakenError: somebody else writes to the same names, which would hit all the others too.
        OSError: a result can't be written, which would hit all the others too.
    """
    report = PictureReport()
    names = result_names(pictures)
    painter = Painter(segmenter.card.palette)
    items = background(_read(pictures), _AHEAD)
    with closing(items), Bar(total=len(pictures), unit="picture", mininterval=0.5) as progress:
        for path, image, count in items:
            try:
                if isinstance(image, InputError):
                    raise image
                begin = time.perf_counter()
                labels = segmenter(image, tau).labels
                report.model_seconds += time.perf_counter() - begin
            except InputError as error:
                report.failed.append((path, error.message))
            else:
                for kind, target in output_files(names[path], folder, kinds).items():
                    if kind == "labels":
                        write_image(target, labels, overwrite=overwrite)
                    elif kind == "colors":
                        write_image(target, painter.colors(labels), overwrite=overwrite)
                    else:
                        strip = legend(present(segmenter.card, labels), *labels.shape)
                        drawn = below(painter.overlay(image, labels, opacity), strip)
                        write_image(target, drawn, overwrite=overwrite)
                report.done.append(path)
                if count > 1:
                    report.several.append((path, count))
            progress.update()
    return report


def _read(pictures: Sequence[Path]) -> Generator[Read]:
    for path in pictures:
        try:
            yield Read(path, read_image(path), count_pictures(path))
        except InputError as error:
            yield Read(path, error)
