"""From a run folder, or a graph of ours, to a verified file: what the command line calls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from adapt.errors import InputError
from adapt.images import IMAGE_SUFFIXES
from adapt.labels import IGNORE
from adapt.logit_statistics import ShiftStatistics
from adapt.run import Run, load_run
from export.fold import Extras, Strength, fold, folded_statistics, graph_info, record_verification, unfold
from export.graph import logits_graph
from export.verification import Verification
from export.verify import (
    Image,
    Reference,
    bare_reference,
    frames_from,
    run_reference,
    synthetic_frames,
    verify,
)
from serve.card import Card
from serve.files import replacing


@dataclass(frozen=True)
class Source:
    """What a graph can be made from, and checked against: a run, or a graph that was folded before."""

    path: Path
    card: Card
    """With no fixed size."""
    run: Run | None
    model: onnx.ModelProto | None
    """The folded graph, if this is no run."""

    @property
    def words(self) -> str:
        """What a check against it compares with; the words go into files, so no path of this machine."""
        if self.run is not None:
            return f"the network of {self.path.resolve().name}, in torch"
        return f"the bare network in {self.path.name}, corrected in torch"

    def strength(self, tau: float, runtime: bool, error_bound: float) -> Strength:
        """The correction to fold. Raises InputError if the source has no statistics."""
        statistics, words = self._statistics()
        return Strength(statistics, words, tau, runtime, error_bound)

    def _statistics(self) -> tuple[ShiftStatistics, str]:
        if self.run is not None:
            return self.run.shift_statistics(), f"run {self.path.name}"
        assert self.model is not None
        statistics = folded_statistics(self.model)
        correction = graph_info(self.model, str(self.path)).correction
        if statistics is None or correction is None:
            raise InputError(
                f"{self.path} was exported without a correction, so it holds no statistics to fold; "
                "export the run again with --with-correction."
            )
        return statistics, correction.statistics

    def logits_graph(self) -> onnx.ModelProto:
        """The network alone."""
        if self.run is not None:
            return logits_graph(self.run.segmenter())
        assert self.model is not None
        return unfold(self.model)

    def reference(self) -> Reference:
        """The slow way to the same logits."""
        if self.run is not None:
            return run_reference(self.run)
        assert self.model is not None
        return bare_reference(self.model, str(self.path))

    def check_same_classes(self, model: onnx.ModelProto, file: Path) -> None:
        """Raises InputError if a graph's classes are not those of this source."""
        theirs = graph_info(model, str(file)).card.classes
        if theirs != self.card.classes:
            raise InputError(
                f"{file} has the classes {', '.join(theirs)}, but {self.path} has "
                f"{', '.join(self.card.classes)}; compare a file with the run it was exported from."
            )


def open_source(path: Path) -> Source:
    """Open a run folder or a graph file. Raises InputError if it is neither."""
    if path.is_dir():
        run = load_run(path)
        return Source(path, _card_of(run), run, None)
    model = read_model(path)
    card = graph_info(model, str(path)).card
    return Source(path, replace(card, size=None), None, model)


def read_model(path: Path) -> onnx.ModelProto:
    """Read a graph of ours. Raises InputError if it is missing, not ONNX, not ours or altered."""
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; give a run folder or an ONNX file made by `blda export onnx`."
        )
    try:
        model: onnx.ModelProto = onnx.load(path)
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path} is not an ONNX file, or it was cut off; export it again.") from error
    graph_info(model, str(path))
    ends = ({v.name for v in values} for values in (model.graph.input, model.graph.output))
    if not all(name in names for name, names in zip(("image", "labels"), ends, strict=True)):
        raise InputError(
            f"{path} has blda metadata but not the input `image` and the output `labels`; it was altered "
            "after the export, so export it again."
        )
    return model


def build(
    source: Source, strength: Strength | None, size: tuple[int, int] | None, extras: Extras
) -> onnx.ModelProto:
    """The deployable graph.

    Raises:
        InputError: a size too small, or what `fold` refuses.
    """
    card = source.card
    if size is not None and min(size) < card.minimum_size:
        raise InputError(
            f"--size is {size[0]}x{size[1]}, but both sides must have at least {card.minimum_size} pixels."
        )
    return fold(source.logits_graph(), replace(card, size=size), strength, extras)


def pictures_for(card: Card, source: Source, data: Path | None) -> tuple[list[Image], str]:
    """Pictures to check a graph on, and what they are: a folder's, the run's, or colour fields.

    Raises:
        InputError: a folder without pictures.
    """
    paths: Sequence[Path] = []
    words = "real pictures"
    if data is not None:
        folder = data / "images" if (data / "images").is_dir() else data
        files = folder.iterdir() if folder.is_dir() else []
        paths = sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise InputError(
                f"{data} has no pictures ({', '.join(IMAGE_SUFFIXES)}); give a folder with some."
            )
        words = f"pictures of {data.resolve().name}"
    elif source.run is not None and source.run.frames:
        paths = source.run.frames
        words = f"target pictures kept in {source.path.resolve().name}"
    if paths:
        return frames_from(paths), words
    return synthetic_frames(card), "synthetic pictures (give real ones: --data)"


def write_verified(
    model: onnx.ModelProto,
    output: Path,
    source: Source,
    frames: list[Image],
    pictures: str,
    *,
    overwrite: bool = True,
) -> Verification:
    """Check the graph, store the result in it and write it; nothing appears at `output` if the check fails.

    Args:
        overwrite: replace what is at `output` by then; else it is kept, see `serve.files.unfinished`.

    Raises:
        InputError: the check failed, or the graph is not valid ONNX.
    """
    with replacing(output, overwrite=overwrite) as temporary:
        onnx.save(model, temporary)
        written = onnx.load(temporary)
        onnx.checker.check_model(written, full_check=True)
        result = verify(written, str(output), source.reference(), source.words, frames, pictures)
        if not result.passed:
            raise InputError(f"nothing was written to {output}, because the check {result.report()}")
        record_verification(model, result.record(), str(output))
        onnx.save(model, temporary)
    return result


def _card_of(run: Run) -> Card:
    segmenter = run.segmenter()
    recipe = run.card.model
    encoder = recipe.encoder.get("model_type") or recipe.encoder["file"]
    return Card(
        classes=run.classes.names,
        palette=run.classes.palette,
        ignore_index=IGNORE,
        mean=segmenter.mean,
        std=segmenter.std,
        stride=segmenter.stride,
        output_stride=segmenter.output_stride,
        model=f"{encoder} encoder, {recipe.decoder} decoder",
        license_note=run.card.license_note,
    )
