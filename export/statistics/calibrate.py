"""What `export calibrate` does: a model file and folders in, a file of statistics out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from adapt.balance.bias import doubt
from adapt.balance.correction import ShiftTable, shift_table
from adapt.data.classes import ClassList
from adapt.data.datasets import UnlabelledImages, check_labels, open_target
from adapt.data.domains import open_labelled
from adapt.errors import InputError
from export.fold.fingerprint import fingerprint
from export.foreign.adapters import logits_graph_of
from export.foreign.convention import ChannelOrder, Layout, Told, Triple
from export.foreign.graph import check_valid
from export.foreign.network import Network, describe
from export.sources.calibrated import open_uncalibrated
from export.sources.statistics_file import Calibrated, write_statistics
from export.statistics.checks import warnings_of
from export.statistics.classes import named
from export.statistics.gather import MIN_PIXELS, Calibration, gather
from serve.card import Color
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
    leave: tuple[str, ...] = ()
    """Names of classes that take no part."""


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
    leave: dict[int, str] = field(default_factory=dict)
    """Classes that take no part, and who says so."""


@dataclass(frozen=True)
class Outcome:
    """What was made."""

    calibration: Calibration
    calibrated: Calibrated
    network: Network
    leave: dict[int, str] = field(default_factory=dict)
    """Classes that take no part, and who says so."""

    def report(self) -> str:
        """Classes and pixels, for a person."""
        names, pixels = self.calibrated.classes, self.calibration.pixels
        wide = max(map(len, names))
        lines = [describe(self.network), f"statistics: {self.calibrated.source}"]
        lines += [f"  {name:<{wide}}  {count:>9,} pixels" for name, count in zip(names, pixels, strict=True)]
        statistics = self.calibration.statistics
        excluded = (*self.leave, *self.calibration.masked)
        without = [
            name
            for c, (name, known) in enumerate(zip(names, statistics.seen.tolist(), strict=True))
            if not known and c not in excluded
        ]
        if without:
            lines.append(f"uncorrected, with fewer than {MIN_PIXELS} pixels: {', '.join(without)}")
        lines += [f"left as it is: {names[c]}, {why}" for c, why in self.leave.items()]
        if masked := [names[c] for c in self.calibration.masked]:
            lines.append(f"left as it is, masked (logits far below all others): {', '.join(masked)}")
        lines += warnings_of(statistics)
        return "\n".join(lines)

    @cached_property
    def doubt(self) -> str:
        """Why the correction may do harm, in words; empty where nothing speaks against it."""
        return doubt(self.calibration.statistics, table=self.table)

    @cached_property
    def table(self) -> ShiftTable:
        """The correction that the statistics make."""
        return shift_table(self.calibration.statistics)


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
    inputs: Sequence[str] = (),
    leave: Sequence[str] = (),
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
        inputs: what the graph takes beside the picture, the same at every run: "NAME=1,2,3" or
            "NAME=FILE.npy".
        leave: names of classes that stand for none (void): they take no part in the correction.
        force: replace what is at `stats`.

    Raises:
        InputError: a model, folder or class list that can't be used, or that don't fit each other.
    """
    told = told_of(layout, channel_order, size, stride, mean, std, range, inputs)
    check_outputs([Path(stats)], force)
    folders = tuple(map(Path, target))
    request = Request(Path(model), folders, source, classes, rounds, frames, output, told, tuple(leave))
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
    inputs: Sequence[str] = (),
) -> Told:
    """What the person said of how a model takes pictures. Raises InputError if it is said by halves."""
    if (mean is None) != (std is None) or (range is not None and mean is None):
        raise InputError("--mean and --std belong together, and --range to both; give them all.")
    return Told(layout, channel_order, size, stride, mean, std, int(range or 1), tuple(inputs))


def look(request: Request) -> Looked:
    """Open the model and find out what it is.

    Raises:
        InputError: a model or class list that can't be used, or that don't fit each other.
    """
    network, own = open_uncalibrated(request.model, request.told, request.output)
    check_valid(logits_graph_of(network), request.model)  # to be said before the footage is read
    return Looked(network, *named(network, own, request.source, request.classes, request.leave))


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
    calibration = gather(network, target, source, request.rounds, tuple(looked.leave))
    calibrated = Calibrated(
        model=request.model.name,
        source=_words(request, calibration),
        classes=looked.names,
        palette=looked.palette,
        pixels=calibration.pixels,
        intake=network.intake,
        outlet=replace(network.outlet, masked=network.outlet.masked or calibration.infinite),
        network=fingerprint(network.model),
        offset=calibration.offset,
    )
    return Outcome(calibration, calibrated, network, looked.leave)


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
