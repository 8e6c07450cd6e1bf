"""Opens a deployable graph, or an engine, on the provider that was asked for."""

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from serve.card import from_metadata
from serve.cores import cores
from serve.errors import InputError
from serve.inference.engine import open_engine
from serve.inference.runtime import Provider, Runtime, Tensor, failed, first_line
from serve.media.checkpoints import describe_checkpoint

_EXECUTION_PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


# TensorRT is not among them: it builds an engine for minutes, which nobody should meet by surprise.
_AUTO = ("cuda", "openvino", "cpu")


_QUIET, _SILENT = 3, 4  # ONNX Runtime's log levels "error" and "fatal": what goes wrong is said once, by us


def open_runtime(
    path: str | Path,
    provider: Provider = "auto",
    threads: int | None = None,
    callers: int = 1,
    *,
    record: str | None = None,
) -> Runtime:
    """Open the graph file at `path`, or the TensorRT engine if its name ends in .engine.

    Args:
        provider: what to run a graph on. `auto` takes the best one that works; a named one is used or
            refused, never replaced silently.
        threads: CPU threads that run the graph; None is one per core.
        callers: how many threads are going to call it at the same time. They do a part of the work
            themselves, and count among `threads`.
        record: keep a record of the runs, for `session.end_profiling()`, in a file whose name begins with
            this; and take memory from the system for each tensor and return it at once. ONNX Runtime's own
            stock is faster for small pictures, but wastes up to half of what large ones take, and keeps it.

    Raises:
        InputError: no such file, not an ONNX graph, truncated, without our metadata, with metadata of a newer
            schema, or a provider that does not work here or that does not run such files.
    """
    path = Path(path)
    if path.suffix == ".engine":
        if provider not in ("auto", "tensorrt"):
            raise InputError(
                f"--provider {provider} can't run {path}, an engine, which runs on TensorRT alone; leave it "
                "out, or give the ONNX file that the engine was built from."
            )
        return open_engine(path)
    if (checkpoint := describe_checkpoint(path)) is not None:
        raise InputError(checkpoint)
    if not path.is_file():
        raise InputError(f"{path} is not a file; give a model made by `blda export onnx`.")
    return runtime_of(path, _on_provider(path, provider, threads, callers, record))


def runtime_of(path: Path, session: Any) -> Runtime:
    """A session of the graph file at `path`, with what it says of itself.

    Raises:
        InputError: without our metadata, with metadata of a newer schema, or altered.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    info = from_metadata(metadata, str(path))
    inputs = _tensors(session.get_inputs() + session.get_overridable_initializers())
    outputs = _tensors(session.get_outputs())
    if "image" not in {t.name for t in inputs} or "labels" not in {t.name for t in outputs}:
        raise InputError(
            f"{path} has blda metadata but not the input `image` and the output `labels`; it was "
            "altered after the export, so export it again."
        )
    return Runtime(path, info, session, _used(session), inputs, outputs, metadata=metadata)


def open_session(
    model: str | bytes,
    source: str,
    *,
    providers: Sequence[str] = (_EXECUTION_PROVIDERS["cpu"],),
    options: Any = None,
    advice: str = "",
    seldom: bool = False,
    weights: str | None = None,
) -> Any:
    """An onnxruntime.InferenceSession of a graph file, or of a graph in memory.

    Args:
        source: what it is of, for the message.
        providers: ONNX Runtime's names of them, in order of preference.
        options: onnxruntime.SessionOptions.
        advice: what to do if it can't be opened, to end the sentence with.
        seldom: it runs a few times on pictures of a size. A plan of where its tensors lie would have all of
            its memory a second time, and costs more than so few runs gain by it.
        weights: folder of the weights of a graph in memory that has them in files of their own.

    Raises:
        InputError: ONNX Runtime refuses it, or is not installed.
    """
    ort = _onnxruntime()
    options = options or ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.enable_mem_pattern = options.enable_mem_pattern and not seldom
    if weights is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", weights)
    if not options.intra_op_num_threads and cores() < (os.cpu_count() or 1):
        # Its default counts the machine's cores: with fewer of them, threads spin in each other's way.
        options.intra_op_num_threads = cores()
    try:
        with redirect_stdout(io.StringIO()):  # it prints that it falls back from TensorRT
            return ort.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        if not failed(error):
            raise
        if "external" in str(error).lower():  # in every version's words for weights in a file of their own
            raise InputError(
                f"{source} keeps its weights in a file beside it, which is missing, cut off or another one "
                f"({first_line(error)}); copy both together."
            ) from error
        raise InputError(
            f"{source} can't be opened as an ONNX graph by ONNX Runtime {ort.__version__} "
            f"({first_line(error)}){advice}."
        ) from error


def silent() -> Any:
    """onnxruntime.RunOptions of a run that may fail: what goes wrong is raised, and not printed besides."""
    options = _onnxruntime().RunOptions()
    options.log_severity_level = _SILENT
    return options


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "ONNX Runtime is not installed; run `pip install 'blda[cpu]'`, or `'blda[gpu]'` for CUDA."
        ) from error
    return onnxruntime


def _on_provider(
    path: Path, provider: Provider, threads: int | None, callers: int, record: str | None
) -> Any:
    ort = _onnxruntime()
    available = ort.get_available_providers()
    wanted = _AUTO if provider == "auto" else (provider,)
    chosen = [_EXECUTION_PROVIDERS[name] for name in wanted if _EXECUTION_PROVIDERS[name] in available]
    if not chosen:
        there = _names(available) or "none"
        raise InputError(
            f"--provider {provider} is not in this build of ONNX Runtime, which has {there}; "
            "install the build that has it (`blda[gpu]` for CUDA and TensorRT) or use --provider auto."
        )
    if _EXECUTION_PROVIDERS["cuda"] in available and wanted != ("cpu",):
        _load_cuda(ort)
    options = ort.SessionOptions()
    if callers > 1:
        # Threads that wait for work by spinning would take the cores from the other callers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = max((threads or cores()) - callers + 1, 1)
    elif threads is not None:
        options.intra_op_num_threads = threads
    if record is not None:
        options.enable_cpu_mem_arena = False
        options.enable_profiling = True
        options.profile_file_prefix = record
    if _EXECUTION_PROVIDERS["cpu"] not in chosen:
        chosen.append(_EXECUTION_PROVIDERS["cpu"])  # for the few operators that others leave out
    advice = "; it is something else, truncated or newer: export it again"
    session = open_session(str(path), str(path), providers=chosen, options=options, advice=advice)
    if provider != "auto" and _used(session) != provider:
        raise InputError(
            f"--provider {provider} was asked for, but ONNX Runtime could only start {_used(session)} here; "
            "check the driver and its libraries, or use --provider auto."
        )
    return session


def _load_cuda(ort: Any) -> None:
    """Load CUDA and cuDNN out of NVIDIA's wheels, which the extra `gpu` brings and no search path names.

    What ONNX Runtime says about those that are missing is left out: the session shows whether CUDA works.
    """
    ort.set_default_logger_severity(_SILENT)
    with redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def _used(session: Any) -> str:
    """The first provider of the session. Being available, or asked for, does not mean being used."""
    return _names(session.get_providers()[:1])


def _names(providers: list[str]) -> str:
    ours = {theirs: name for name, theirs in _EXECUTION_PROVIDERS.items()}
    return ", ".join(ours.get(p, p.removesuffix("ExecutionProvider").lower()) for p in providers)


def _tensors(values: list[Any]) -> tuple[Tensor, ...]:
    def size(value: Any) -> int | str:
        return value if isinstance(value, int) else str(value or "any")

    return tuple(
        Tensor(v.name, v.type.removeprefix("tensor(").removesuffix(")"), tuple(size(s) for s in v.shape))
        for v in values
    )
