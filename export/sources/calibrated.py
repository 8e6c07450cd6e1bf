"""A model with a file of statistics: anything that `export calibrate` read, as a source for the fold."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from adapt.data.classes import IGNORE
from adapt.errors import InputError
from export.fold.fingerprint import fingerprint
from export.fold.folded import graph_info, unfold
from export.foreign.adapters import logits_graph_of
from export.foreign.convention import Intake, Told
from export.foreign.graph import read_graph
from export.foreign.network import Network, Outlet, open_network, restore_network
from export.foreign.upsampling import check_upsampled, upsampled
from export.sources.given import Given
from export.sources.reference import Reference
from export.sources.source import Source, open_source
from export.sources.statistics_file import Calibrated, read_statistics
from serve.card import Card, GraphInfo, Key, Upsampled, Upsampling
from serve.media.images import Image


@dataclass(frozen=True)
class ForeignSource(Source):
    """Anybody's model, with what was found out about it when it was calibrated."""

    foreign: Network

    @property
    def words(self) -> str:
        return f"{self.path.name} itself, corrected in torch"

    @cached_property
    def logits_graph(self) -> onnx.ModelProto:
        return logits_graph_of(self.foreign)

    def reference(self) -> Reference:
        network = self.foreign

        def logits(image: Image) -> Tensor:
            return torch.from_numpy(network.logits(image))

        return logits

    def upsampling(self, wanted: Upsampled | None) -> Source:
        """As statistics were gathered, where logits are brought to the pictures' size inside the network."""
        outlet = self.foreign.outlet
        check_upsampled(wanted, outlet.unlike, str(self.path))
        if outlet.resized is None:
            return super().upsampling(wanted)
        if wanted not in (None, outlet.upsampling.of):
            raise InputError(
                f"--upsample is {wanted}, but the statistics are of logits that {self.path} was given by "
                f"upsampling {outlet.upsampling.of}, since their stride is not whole; calibrate with "
                f"--upsample {wanted}."
            )
        return self

    def statistics(self) -> Given:
        raise InputError(f"{self.path} brings no statistics; gather them with `blda export calibrate`.")

    @property
    def batch(self) -> int | None:
        return self.foreign.intake.batch

    def deployed_size(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """The one wanted, else the one that it was calibrated at."""
        fixed = self.foreign.fixed_size
        if size and fixed and size != fixed:
            raise InputError(
                f"--size is {size[0]}x{size[1]}, but {self.path} takes only {fixed[0]}x{fixed[1]}; "
                "leave it out."
            )
        return size or self.card.size

    def made_from(self, own: str) -> tuple[str, ...]:
        return (fingerprint(self.foreign.model),)


def open_calibrated(path: Path, file: Path, opened: Source | None = None) -> tuple[Source, Given]:
    """A run, a graph of ours or anybody's ONNX file, and the statistics in `file`.

    Args:
        opened: that source, where it was opened before, with other statistics or none.

    Raises:
        InputError: the file can't be read, or the two don't fit.
    """
    statistics, calibrated = read_statistics(file)
    source: Source
    if isinstance(opened, ForeignSource):
        source = opened
        _check_alike(opened, file, calibrated)
    elif path.is_dir() or is_ours(path):
        source = opened or open_source(path)
        _check_classes(path, len(source.card.classes), file, calibrated)
    else:
        network = restore_network(path, calibrated.intake, calibrated.outlet)
        _check_classes(path, _classes_of(network), file, calibrated)
        source = ForeignSource(path, _card(network, calibrated), network)
    note = (
        f"the statistics are of an older version, which did not write which network they are of; whether "
        f"that is {path.name} can't be told"
    )
    known = calibrated.network
    said = note if known is None else ""
    return source, Given(statistics, calibrated.source, known, said, calibrated.offset, calibrated.pixels)


def is_ours(path: Path) -> bool:
    """Whether a file is a graph that was folded here. Raises InputError if it is no ONNX file."""
    return any(entry.key == Key.SCHEMA for entry in read_graph(path).metadata_props)


def open_uncalibrated(path: Path, told: Told, output: str | None) -> tuple[Network, GraphInfo | None]:
    """The network of any ONNX file, ready to be calibrated, and what it says of itself if it is one of ours.

    Raises:
        InputError: see `export.foreign.network.open_network`; or options for a graph that has a card.
    """
    if not is_ours(path):
        return open_network(path, told, output), None
    if output is not None or told != Told(size=told.size, upsample=told.upsample):
        raise InputError(
            f"{path} was exported here and says itself what it takes; leave all but --size and --upsample "
            "out."
        )
    model = read_graph(path)
    info = graph_info(model, str(path))
    card = info.card
    bare = unfold(model)
    found = ("preprocessing of its card",)
    taken = Intake("NCHW", "RGB", card.mean, card.std, card.size or told.size, None, found)
    name = bare.graph.output[0].name
    how = upsampled(card, told.upsample, path).upsampling
    outlet = Outlet(name, "NCHW", len(card.classes), card.stride, card.output_stride, upsampling=how)
    return Network(path, bare, taken, outlet), info


def _classes_of(network: Network) -> int:
    """C as the graph really gives it, whatever the statistics' file remembers."""
    size = network.intake.size or (5 * network.outlet.stride, 7 * network.outlet.stride)
    return int(network.logits(np.zeros((1, *size, 3), np.uint8)).shape[1])


def _check_classes(path: Path, classes: int, file: Path, calibrated: Calibrated) -> None:
    if classes != len(calibrated.classes):
        raise InputError(
            f"{file} holds statistics of {len(calibrated.classes)} classes (of {calibrated.model}), but "
            f"{path} has {classes}; calibrate this model."
        )


def _check_alike(opened: ForeignSource, file: Path, calibrated: Calibrated) -> None:
    """Statistics for one file must be of one model that takes pictures in one way."""
    ways = [
        (replace(intake, found=()), outlet, classes)
        for intake, outlet, classes in (
            (opened.foreign.intake, opened.foreign.outlet, opened.card.classes),
            (calibrated.intake, calibrated.outlet, calibrated.classes),
        )
    ]
    if ways[0] != ways[1]:
        raise InputError(
            f"{file} was calibrated with other classes, sizes or normalisation than the statistics before "
            "it, but one file has one way to take pictures; calibrate all profiles with the same options."
        )


def _card(network: Network, calibrated: Calibrated) -> Card:
    taken, outlet = network.intake, network.outlet
    return Card(
        classes=calibrated.classes,
        palette=calibrated.palette,
        ignore_index=IGNORE,
        mean=taken.mean,
        std=taken.std,
        stride=outlet.stride,
        output_stride=outlet.output_stride,
        size=taken.size,
        minimum_size=min(64, *(taken.size or (64,))),
        model=f"{network.path.name}, not trained here",
        license_note=f"the licence of {network.path.name} is its owner's to tell",
        upsampling=outlet.upsampling if outlet.output_stride > 1 else Upsampling(),
    )
