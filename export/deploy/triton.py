"""Deployable graph -> model repository of Triton Inference Server.

    repo/NAME/config.pbtxt      inputs, outputs, batching, warm-up
    repo/NAME/labels.txt        class names in the order of the label values
    repo/NAME/1/model.onnx      or model.plan, a TensorRT engine; with its weights, if they lie beside it

Pictures of one size that arrive together are batched by the server, where the file takes any N. A run-time
tau keeps its default: a batch of Triton's has one first dimension for all inputs, and tau is one number. So
does the choice among profiles: of a file with several, the first one is served.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from adapt.errors import InputError
from serve.card import GraphInfo
from serve.inference.engine import read_sidecar
from serve.media.whole import replacing

DEFAULT_BATCH = 8
QUEUE_DELAY = 2000
"""Microseconds that a request waits for others to join it."""
WARM_UP = (512, 1024)
"""Height and width of the first, empty picture of a graph that takes any size."""


@dataclass(frozen=True)
class Model:
    """What goes into a repository."""

    file: Path
    """A deployable graph, or an engine."""
    info: GraphInfo
    outputs: tuple[str, ...]
    """Of labels, scores and uncorrected_labels, those that the file has."""
    fixed_batch: int | None = None
    """N, if the file takes no other."""
    most_pictures: int = DEFAULT_BATCH
    """Most pictures of one run, where N is free."""
    warm_up: tuple[int, int] = WARM_UP
    """Height and width of the warm-up picture, where the file takes any size."""

    weights: tuple[Path, ...] = ()
    """Files beside a graph of more than 2 GB."""

    @property
    def is_engine(self) -> bool:
        return self.file.suffix == ".engine"


def open_model(file: Path, most_pictures: int | None, warm_up: tuple[int, int] | None) -> Model:
    """Read what a file says about itself.

    Raises:
        InputError: neither a graph of ours nor an engine with its card; a batch or warm-up it does not take.
    """
    if file.suffix == ".engine":
        return _open_engine(file, most_pictures, warm_up)
    from export.fold.folded import graph_info
    from export.sources.source import read_model
    from export.weights.beside import files

    graph = read_model(file)
    info = graph_info(graph, str(file))
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None
    if batch is not None and most_pictures is not None:
        raise InputError(f"--max-batch has no use: {file} takes {batch} at once and no other number.")
    if warm_up is not None and (info.card.size or min(warm_up) < info.card.minimum_size):
        raise InputError(
            f"--warm-up is {warm_up[0]}x{warm_up[1]}, but {file} takes "
            + (f"{info.card.size[0]}x{info.card.size[1]} only." if info.card.size else "larger pictures.")
        )
    outputs = tuple(value.name for value in graph.graph.output)
    most = most_pictures or DEFAULT_BATCH
    return Model(file, info, outputs, batch, most, warm_up or WARM_UP, tuple(files(graph)))


def _open_engine(file: Path, most_pictures: int | None, warm_up: tuple[int, int] | None) -> Model:
    sidecar = read_sidecar(file)
    most, _, _ = sidecar.most
    if (most_pictures or 1) > most:
        raise InputError(f"--max-batch is {most_pictures}, but {file} was built for {most} at most.")
    picture = (1, *(warm_up or sidecar.best[1:]))
    if not all(
        low <= side <= high for low, side, high in zip(sidecar.least, picture, sidecar.most, strict=True)
    ):
        raise InputError(f"--warm-up is {picture[1]}x{picture[2]}, which {file} was not built for.")
    height, width = picture[1:]
    return Model(file, sidecar.info, sidecar.outputs, None, most_pictures or most, (height, width))


def write_repository(model: Model, repository: Path, name: str, *, overwrite: bool = True) -> Path:
    """Write the model's folder in a repository, replacing one of that name; returns it.

    Without `overwrite`, one that is there by then is kept: `serve.media.whole.unfinished`.

    Raises:
        InputError: a name that Triton can't use, or an engine that must be fed tau.
    """
    if not name or name.startswith(".") or not all(c.isalnum() or c in "._-" for c in name):
        raise InputError(
            f"{name!r} can't name a Triton model; use letters, digits, points, dashes and underscores."
        )
    correction = model.info.correction
    if model.is_engine and correction is not None and correction.runtime_tau:
        raise InputError(
            f"{model.file} must be fed tau, which Triton can't do in batches; build it from a graph exported "
            "without --runtime-tau."
        )
    if model.is_engine and model.info.profiles:
        raise InputError(
            f"{model.file} must be fed a profile, which Triton can't do in batches; build it from a graph of "
            f"one: `blda export onnx FILE --profile {model.info.profiles[0].name} -o ONE.onnx`."
        )
    target = repository / name
    with replacing(target, overwrite=overwrite, folder=True) as folder:
        (folder / "1").mkdir(parents=True)
        shutil.copyfile(model.file, folder / "1" / ("model.plan" if model.is_engine else "model.onnx"))
        for weights in model.weights:
            shutil.copyfile(weights, folder / "1" / weights.name)
        (folder / "labels.txt").write_text("".join(f"{c}\n" for c in model.info.card.classes))
        (folder / "config.pbtxt").write_text(configuration(model, name))
    return target


def configuration(model: Model, name: str) -> str:
    """The text of config.pbtxt."""
    card = model.info.card
    height, width = card.size or (-1, -1)
    label_type = "TYPE_UINT8" if len(card.classes) <= 256 else "TYPE_UINT16"
    outputs = [
        _tensor(model, output, "TYPE_FP32", len(card.classes), -1, -1)
        if output in ("scores", "logits")
        else _tensor(model, output, label_type, height, width)
        for output in model.outputs
    ]
    free = model.fixed_batch is None
    lines = [
        f'name: "{name}"',
        f'backend: "{"tensorrt" if model.is_engine else "onnxruntime"}"',
        f"max_batch_size: {model.most_pictures if free else 0}",
        f"input [{_tensor(model, 'image', 'TYPE_UINT8', height, width, 3)}]",
        f"output [{', '.join(outputs)}]",
    ]
    if free and model.most_pictures > 1:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY} }}")
    height, width = card.size or model.warm_up
    picture = f"data_type: TYPE_UINT8 {_dims(model, height, width, 3)} zero_data: true"
    lines.append(
        'model_warmup [{ name: "one black picture" batch_size: 1 '
        f'inputs {{ key: "image" value {{ {picture} }} }} }}]'
    )
    return "\n".join(lines) + "\n"


def _tensor(model: Model, name: str, kind: str, *dims: int) -> str:
    return f'{{ name: "{name}" data_type: {kind} {_dims(model, *dims)} }}'


def _dims(model: Model, *dims: int) -> str:
    """Triton leaves N out where it may batch."""
    fixed = [] if model.fixed_batch is None else [model.fixed_batch]
    return f"dims: {[*fixed, *dims]}"
