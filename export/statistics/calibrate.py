"""What `export calibrate` does: a model file and folders in, a file of statistics out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapt.balance.logit_statistics import range_warning
from adapt.data.classes import ClassList, load_classes
from adapt.data.datasets import UnlabelledImages, check_labels, open_target
from adapt.data.domains import find_classes, open_labelled
from adapt.errors import InputError
from export.fold.fingerprint import fingerprint
from export.foreign.convention import ChannelOrder, Layout, Told, Triple
from export.foreign.network import Network, describe
from export.sources.calibrated import open_uncalibrated
from export.sources.pictures import classes_of
from export.sources.statistics_file import Calibrated, write_statistics
from export.statistics.gather import MIN_PIXELS, Calibration, gather
from serve.card import Card, Color
from serve.media.files import check_outputs
from serve.media.whole import scratch


@dataclass(frozen=True)
class Request:
    """What to calibrate, and on what."""

    model: Path
    target: tuple[Path, ...]
    """One folder of pictures, or videos."""
    source: Path | None = None
    """Labelled folder; None is source-free."""
    classes: Path | None = None
    """Class file; None takes what the model says of itself, else the list that comes with the source."""
    rounds: int = 1
    frames: int = 200
    """Frames per video."""
    output: str | None = None
    """Name of the logits in the graph."""
    told: Told = field(default_factory=Told)


@dataclass(frozen=True)
class Looked:
    """What a model is, before any picture was seen."""

    network: Network
    class_list: ClassList | None
    """As it was given or found; None where names and colours were made up for numbers."""
    names: tuple[str, ...]
    palette: tuple[Color, ...]
    named_by: str
    """Where the names come from, in words."""


@dataclass(frozen=True)
class Outcome:
    """What was made."""

    calibration: Calibration
    calibrated: Calibrated
    network: Network

    def report(self) -> str:
        """Classes and pixels, for a person."""
        names, pixels = self.calibrated.classes, self.calibration.pixels
        wide = max(map(len, names))
        lines = [describe(self.network), f"statistics: {self.calibrated.source}"]
        lines += [f"  {name:<{wide}}  {count:>9,} pixels" for name, count in zip(names, pixels, strict=True)]
        seen = self.calibration.statistics.seen.tolist()
        without = [name for name, known in zip(names, seen, strict=True) if not known]
        if without:
            lines.append(f"uncorrected, with fewer than {MIN_PIXELS} pixels: {', '.join(without)}")
        statistics = self.calibration.statistics
        if warning := range_warning(statistics.outside, statistics.logit_range):
            lines.append(warning)
        return "\n".join(lines)


def calibrate(
    model: Path | str,
    target: Sequence[Path | str],
    stats: Path | str,
    *,
    source: Path | None = None,
    classes: Path | None = None,
    rounds: int = 1,
    frames: int = 200,
    output: str | None = None,
    layout: Layout | None = None,
    channel_order: ChannelOrder | None = None,
    size: tuple[int, int] | None = None,
    stride: int | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    range: int | None = None,
    force: bool = False,
) -> Outcome:
    """Gather the statistics that balance any ONNX segmenter on the target, and write them to `stats`.

    Args:
        model: the ONNX file.
        target: one folder of pictures, or videos; no labels are needed.
        stats: file to write.
        source: labelled folder for the anchors; None is source-free, they are pooled from the target.
        classes: class file of the model's outputs, in their order; None takes what the model says of itself,
            else the list that comes with the source.
        rounds: times to label the target, from the second time on with the corrected model.
        frames: frames per video.
        output: name of the logits in the graph; None is its one float output.
        layout, channel_order, size, stride, mean, std, range: how the model takes pictures; None is found
            out. `range` is the largest pixel value that mean and std are of, 1 or 255.
        force: replace what is at `stats`.

    Raises:
        InputError: a model, folder or class list that can't be used, or that don't fit each other.
    """
    told = told_of(layout, channel_order, size, stride, mean, std, range)
    check_outputs([Path(stats)], force)
    folders = tuple(map(Path, target))
    request = Request(Path(model), folders, source, classes, rounds, frames, output, told)
    looked = look(request)
    with scratch() as cache:
        made = calibrate_on(open_footage(request, looked, cache), request, looked)
    write_statistics(Path(stats), made.calibration.statistics, made.calibrated, overwrite=force)
    return made


def told_of(
    layout: Layout | None,
    channel_order: ChannelOrder | None,
    size: tuple[int, int] | None,
    stride: int | None,
    mean: Triple | None,
    std: Triple | None,
    range: int | None,
) -> Told:
    """What the person said of how a model takes pictures. Raises InputError if it is said by halves."""
    if (mean is None) != (std is None) or (range is not None and mean is None):
        raise InputError("--mean and --std belong together, and --range to both; give them all.")
    return Told(layout, channel_order, size, stride, mean, std, int(range or 1))


def look(request: Request) -> Looked:
    """Open the model and find out what it is.

    Raises:
        InputError: a model or class list that can't be used, or that don't fit each other.
    """
    network, card = open_uncalibrated(request.model, request.told, request.output)
    class_list, named_by = _class_list(request, card)
    names, palette = _names(network, class_list, request)
    if class_list is None and names != _numbered(len(names)):
        named_by = "config.json beside it"
    return Looked(network, class_list, names, palette, named_by)


def open_footage(request: Request, looked: Looked, cache: Path) -> UnlabelledImages:
    """The target in the size that the model takes; frames of videos are kept in `cache`."""
    return open_target(request.target, cache, request.frames, looked.network.intake.size)


def calibrate_on(target: UnlabelledImages, request: Request, looked: Looked) -> Outcome:
    """Gather the statistics of a model that was looked at, on the target as `open_footage` has it.

    Raises:
        InputError: a source or target that can't be used.
    """
    network, source = looked.network, None
    if request.source is not None:
        assert looked.class_list is not None
        source = open_labelled(request.source, looked.class_list, network.intake.size, "train")
        check_labels(source)
    calibration = gather(network, target, source, request.rounds)
    calibrated = Calibrated(
        model=request.model.name,
        source=_words(request, calibration),
        classes=looked.names,
        palette=looked.palette,
        pixels=calibration.pixels,
        intake=network.intake,
        outlet=network.outlet,
        network=fingerprint(network.model),
        offset=calibration.offset,
    )
    return Outcome(calibration, calibrated, network)


def _class_list(request: Request, card: Card | None) -> tuple[ClassList | None, str]:
    """From the option, the model's card, or what comes with the source; and which of them, in words."""
    if request.classes is not None:
        return load_classes(request.classes), request.classes.name
    if card is not None:
        return classes_of(card), "its card"
    if request.source is not None:  # labels can't be read without one
        return find_classes(request.source, None), f"the list that comes with {request.source.name}"
    return None, "no names found: give --classes FILE"


def _names(
    network: Network, class_list: ClassList | None, request: Request
) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Class names and colours: those of the class list, beside the model, or numbers."""
    C = network.outlet.classes
    if class_list is None:
        return _names_beside(request.model, C) or _numbered(C), _palette(C)
    if len(class_list) != C:
        raise InputError(
            f"the class list has {len(class_list)} classes, but {request.model} gives {C} logits per "
            "pixel; list every output of the model, in its order."
        )
    return class_list.names, class_list.palette


def _numbered(C: int) -> tuple[str, ...]:
    return tuple(f"class{c}" for c in range(C))


def _names_beside(model: Path, C: int) -> tuple[str, ...] | None:
    """The class names in the `config.json` that transformers and optimum write beside a model."""
    file = model.parent / "config.json"
    try:
        names = json.loads(file.read_text())["id2label"]
        return tuple(str(names[str(c)]) for c in range(C))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is another program's file: its absence or shape is no error


def _palette(C: int) -> tuple[Color, ...]:
    """Colours that are far apart for near numbers: their bits, spread over the high bits of R, G and B."""

    def channel(c: int, first: int) -> int:
        return sum((c >> (3 * bit + first) & 1) << (7 - bit) for bit in range(8))

    return tuple((channel(c, 0), channel(c, 1), channel(c, 2)) for c in range(C))


def _words(request: Request, calibration: Calibration) -> str:
    def listed(paths: Sequence[Path]) -> str:
        return ", ".join(path.name or str(path) for path in paths)

    anchors = "the same"
    if request.source is not None:
        anchors = f"{calibration.source_pictures} labelled ones of {listed([request.source])}"
    times = "" if calibration.rounds == 1 else f" in {calibration.rounds} rounds"
    return (
        f"{calibration.pictures} pictures of {listed(request.target)}, labelled by {request.model.name} "
        f"itself{times}; anchors from {anchors}"
    )
