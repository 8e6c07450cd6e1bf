"""Deployable graph -> TensorRT engine, with TensorRT 10 and 11 or TensorRT for RTX.

Networks are strongly typed: an engine computes in the types that the ONNX file says, so half precision is the
file's (`--precision fp16`) and no builder flag can be ignored. TensorRT knows no default for an input: a
run-time tau and the choice of a profile become inputs that must be fed, which `serve.inference.engine` does.

TensorRT for RTX builds on machines without a GPU, where only running the engine has to wait.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from adapt.errors import InputError
from export.deploy.engine_files import save
from export.fold.folded import graph_info
from export.weights.beside import bytes_outside
from serve.card import Card, to_metadata
from serve.media.whole import replacing

Shape = tuple[int, int, int]
"""(N, H, W) of a batch of pictures."""

DEFAULT_BEST = (512, 1024)
DEFAULT_MOST = (1088, 1920)


@dataclass(frozen=True)
class Profile:
    """The batches that an engine takes."""

    least: Shape
    best: Shape
    """What the engine is tuned for."""
    most: Shape

    def words(self) -> str:
        shapes = (f"{n}x{h}x{w}" for n, h, w in (self.least, self.best, self.most))
        return "pictures (NxHxW) from {} over {} to {}".format(*shapes)


@dataclass(frozen=True)
class Options:
    """How to build."""

    rtx: bool = False
    workspace: int | None = None
    """Memory that tactics may use, in MiB; None leaves it to TensorRT."""
    timing_cache: Path | None = None
    """File of kernel timings, read if it exists and written after the build."""


@dataclass(frozen=True)
class Built:
    """What was built."""

    library: str
    """Name and version."""
    profile: Profile
    operators: dict[str, int]
    """Convolutions and matrix products of the parsed network by the type they compute in."""
    size: int
    """Bytes."""

    def report(self) -> str:
        """For a person."""
        computed = ", ".join(f"{count} in {kind}" for kind, count in self.operators.items())
        return (
            f"  {self.library}, {self.size / 1e6:.1f} MB\n  {self.profile.words()}\n"
            f"  convolutions and matrix products: {computed}"
        )


def profile_for(card: Card, least: Shape | None, best: Shape | None, most: Shape | None) -> Profile:
    """Complete the shapes asked for by the card's size, or by defaults for a graph of any size.

    Raises:
        InputError: shapes that are not in order, too small for the graph, or not its fixed size.
    """
    size = card.size
    least = least or (1, *(size or (card.minimum_size, card.minimum_size)))
    most = most or (max(least[0], best[0] if best else 1), *(size or DEFAULT_MOST))
    height, width = (
        max(low, min(side, high))
        for low, side, high in zip(least[1:], size or DEFAULT_BEST, most[1:], strict=True)
    )
    best = best or (most[0], height, width)
    profile = Profile(least, best, most)
    ordered = all(0 < a <= b <= c for a, b, c in zip(least, best, most, strict=True))
    if not ordered:
        raise InputError(f"--min, --opt and --max must not fall in any number, but are {profile.words()}.")
    if card.size is not None and {least[1:], best[1:], most[1:]} != {card.size}:
        height, width = card.size
        raise InputError(
            f"the graph takes {height}x{width} only, but --min, --opt and --max are {profile.words()}; "
            "export it with --size dynamic, or leave them out."
        )
    if min(least[1:]) < card.minimum_size:
        raise InputError(
            f"--min is {profile.words()}, but both sides need {card.minimum_size} pixels or more."
        )
    return profile


def build_engine(
    model: onnx.ModelProto, output: Path, profile: Profile, options: Options, *, overwrite: bool = True
) -> Built:
    """Build an engine at `output` and its sidecar, `output` with `.json` added, that says what it means.

    Args:
        overwrite: replace what is at `output` in the end; else see `save`.

    Raises:
        InputError: the library is missing or finds no GPU, the graph has operators that it lacks, or the
            build failed.
        NameTakenError: see `save`.
    """
    if options.rtx and options.timing_cache is not None:
        raise InputError("--timing-cache is of no use with --rtx, which times kernels on the user's machine.")
    if held := bytes_outside(model):
        raise InputError(
            f"engines are built of graphs of up to 2 GB, and this one has {held / 1e9:.1f} GB of weights; "
            "run it with ONNX Runtime (--provider cuda), or build one of the model in half precision."
        )
    info = graph_info(model, str(output))
    trt = _library(options.rtx)
    log = _Log(trt)
    try:
        builder = trt.Builder(log.logger)
    except (TypeError, RuntimeError) as error:  # pybind reports that CUDA could not start in this way
        raise InputError(
            "TensorRT found no GPU that it can build on; build on the machine that runs the engine, or "
            "use --rtx."
        ) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, log, network, _with_fed_inputs(model))
    operators = _operators(trt, network)
    config = builder.create_builder_config()
    shapes = builder.create_optimization_profile()
    shapes.set_shape("image", *((*shape, 3) for shape in (profile.least, profile.best, profile.most)))
    config.add_optimization_profile(shapes)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    _load_timings(config, options.timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InputError(f"TensorRT could not build the engine: {log.reason()}.")
    engine = bytes(plan)
    built = Built(f"{trt.__name__} {trt.__version__}", profile, operators, len(engine))
    sidecar = {
        "library": built.library,
        "sha256": hashlib.sha256(engine).hexdigest(),
        "profile": asdict(profile),
        "operators": operators,
        "inputs": [network.get_input(position).name for position in range(network.num_inputs)],
        "outputs": [value.name for value in model.graph.output],
        "metadata": to_metadata(info),
    }
    _save_timings(config, options.timing_cache)
    save(engine, sidecar, output, overwrite=overwrite)
    return built


class _Log:
    """Keeps what TensorRT reports, instead of printing it."""

    def __init__(self, trt: Any) -> None:
        messages: list[str] = []
        worst = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in worst:
                    messages.append(message)

        self.messages = messages
        self.logger = Logger()

    def reason(self) -> str:
        """The first error, which the others follow from."""
        first = self.messages[0].strip().splitlines()[0] if self.messages else "it gave no reason"
        return first.removesuffix(".")


def _library(rtx: bool) -> Any:
    try:
        if rtx:
            import tensorrt_rtx

            return tensorrt_rtx
        import tensorrt

        return tensorrt
    except (ImportError, OSError) as error:
        advice = (
            "TensorRT for RTX is not installed; run `pip install 'blda[trt]'`"
            if rtx
            else "TensorRT is not installed; install NVIDIA's package tensorrt 10 or 11 for your CUDA "
            "version, or build for RTX cards with --rtx"
        )
        raise InputError(f"{advice} ({str(error).splitlines()[0]}).") from error


def _parse(trt: Any, log: _Log, network: Any, model: onnx.ModelProto) -> None:
    parser = trt.OnnxParser(network, log.logger)
    kinds = sorted({node.op_type for node in model.graph.node})
    lacking = [kind for kind in kinds if not parser.supports_operator(kind)]
    if lacking:
        raise InputError(
            f"the graph has operators that TensorRT lacks: {', '.join(lacking)}; replace what makes them in "
            "the network, or run the graph with ONNX Runtime."
        )
    if parser.parse(model.SerializeToString()):
        return
    errors: Sequence[Any] = [parser.get_error(position) for position in range(parser.num_errors)]
    places = "; ".join(f"{e.node_operator()} {e.node_name()}: {e.desc().strip()}" for e in errors[:3])
    raise InputError(f"TensorRT can't use the graph as it is: {places or log.reason()}.")


def _with_fed_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose inputs `tau` and `profile` have no default: TensorRT would take it for a constant."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fed = {"tau", "profile"} & {value.name for value in copy.graph.input}
    for tensor in [t for t in copy.graph.initializer if t.name in fed]:
        copy.graph.initializer.remove(tensor)
    return copy


def _operators(trt: Any, network: Any) -> dict[str, int]:
    """Convolutions and matrix products by the type they compute in, as TensorRT understood the graph."""
    computing = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    names = {trt.float32: "fp32", trt.float16: "fp16", trt.int8: "int8"}
    layers = [network.get_layer(position) for position in range(network.num_layers)]
    dequantised = {
        layer.get_output(0).name for layer in layers if layer.type == trt.LayerType.DEQUANTIZE
    }  # what comes out of these is a float only on paper
    counts = Counter(
        "int8" if source.name in dequantised else names.get(source.dtype, str(source.dtype))
        for source in (layer.get_input(0) for layer in layers if layer.type in computing)
    )
    return dict(counts.most_common())


def _load_timings(config: Any, file: Path | None) -> None:
    if file is None:
        return
    cache = config.create_timing_cache(file.read_bytes() if file.exists() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise InputError(
            f"{file} is no timing cache of this TensorRT and GPU; delete it, or name another with "
            "--timing-cache."
        )


def _save_timings(config: Any, file: Path | None) -> None:
    if file is not None:
        with replacing(file) as temporary:
            temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
