"""What stands in or beside somebody's model: class names, normalisation, channel order, stride.

Ultralytics writes it into the file's metadata. Beside the file are `preprocessor_config.json` and
`config.json` of transformers (on the hub one folder up from `onnx/model.onnx`), `pipeline.json` of mmdeploy,
`deploy.yaml` of PaddleSeg, `nvinfer_config.txt` and `labels.txt` of NVIDIA TAO. torchvision writes nothing.

All say pixels' scale and normalisation in their own way; here it is (pixel / 255 - mean) / std, in RGB.
"""

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import onnx
import yaml

from adapt.errors import InputError

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Beside:
    """What was found; None where nothing says it."""

    mean: Triple | None = None
    """RGB mean on [0, 1]; `std` comes with it."""
    std: Triple | None = None
    order: Literal["RGB", "BGR"] | None = None
    words: str = ""
    """Where normalisation and order are from."""
    stride: int | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    """Of the outputs, by number."""
    named_by: str = ""
    """Where the names are from."""
    ignored: int | None = None
    """Output that does not count."""
    ignored_by: str = ""
    size: tuple[int, int] | None = None
    """(height, width) that it was made for."""
    sized_by: str = ""
    """Where the size is from; without a size, why every picture has another."""


def read_beside(model: onnx.ModelProto, path: Path) -> Beside:
    """All that is found in and beside a model; the first that says something counts.

    Raises:
        InputError: a file that says how pictures are normalised, but can't be understood.
    """
    found = _ultralytics(model, path)
    for name, read in _READERS.items():
        folders = [path.parent, *([path.parent.parent] if path.parent.name == _HUB and name in _UP else [])]
        file = next((f / name for f in folders if (f / name).is_file()), None)
        if file is None:
            continue
        try:
            said = read(file)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            ConfigError,
            yaml.YAMLError,
        ) as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(
                f"{file} can't be understood ({reason}); mend it, or move it away and say "
                "with --mean, --std and --classes what it should."
            ) from error
        found = _filled(found, said)
    return found


def _filled(first: Beside, second: Beside) -> Beside:
    """What the first says, and where it says nothing the second."""
    if not first.words:
        first = replace(first, mean=second.mean, std=second.std, order=second.order, words=second.words)
    if not first.names:
        first = replace(first, names=second.names, named_by=second.named_by)
    if first.ignored is None:
        first = replace(first, ignored=second.ignored, ignored_by=second.ignored_by)
    if not first.sized_by:
        first = replace(first, size=second.size, sized_by=second.sized_by)
    return replace(first, stride=first.stride or second.stride)


# ---- one reader each --------------------------------------------------------------------------------------


def _ultralytics(model: onnx.ModelProto, path: Path) -> Beside:
    """Metadata of its exporter: Python literals. Its pictures are RGB on [0, 1]."""
    said = {p.key: p.value for p in model.metadata_props}
    if not {"names", "stride", "task"} <= set(said):
        return Beside()
    try:
        names = ast.literal_eval(said["names"])
        names = names if isinstance(names, dict) else dict(enumerate(names))
        stride = int(float(said["stride"]))
        found = {int(k): str(v) for k, v in names.items()}
        size = _sides(ast.literal_eval(said["imgsz"])) if "imgsz" in said else None
    except (ValueError, SyntaxError, TypeError) as error:
        raise InputError(
            f"the metadata of {path} look like those of Ultralytics, but names, stride or imgsz can't be "
            f"understood ({' '.join(str(error).split())[:80]}); export it again."
        ) from error
    words = "pixels from 0 to 1, as Ultralytics' metadata mean"
    by = "" if size is None else "imgsz of its metadata"
    return Beside((0.0,) * 3, (1.0,) * 3, "RGB", words, stride, found, "its metadata", size=size, sized_by=by)


def _preprocessor(file: Path) -> Beside:
    """transformers: (pixel * rescale_factor - image_mean) / image_std, either part or both."""
    return _rescaled(_object(file), file)


def _processor(file: Path) -> Beside:
    """transformers, of models that take text too: the same, in a file of both since its version 5."""
    content = _object(file).get("image_processor", {})
    if not isinstance(content, dict):
        raise ValueError("its image_processor holds no settings")
    return _rescaled(content, file)


def _rescaled(content: dict[str, Any], file: Path) -> Beside:
    size, by = _preprocessed_size(content, file)
    if not any(key in content for key in ("do_normalize", "do_rescale", "image_mean", "rescale_factor")):
        return Beside(size=size, sized_by=by)
    factor = _number(content.get("rescale_factor", 1 / 255), "rescale_factor")
    scale = 255 * factor if content.get("do_rescale", True) else 255.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if content.get("do_normalize", "image_mean" in content):
        mean, std = (_triple(content[key], key) for key in ("image_mean", "image_std"))
    flipped = content.get("do_flip_channel_order")
    words = f"normalisation of {file.name}"
    order: Literal["RGB", "BGR"] = "BGR" if flipped else "RGB"
    return Beside(_over(mean, scale), _over(std, scale), order, words, size=size, sized_by=by)


def _preprocessed_size(content: dict[str, Any], file: Path) -> tuple[tuple[int, int] | None, str]:
    """Size that pictures are brought to, and who says so; of a shorter side alone, in words what it says."""
    cropped = content.get("do_center_crop") and "crop_size" in content
    key = "crop_size" if cropped else "size"
    said = content.get(key)
    if said is None or not (cropped or content.get("do_resize", True)):
        return None, ""
    kept = content.get("keep_aspect_ratio") or "max_size" in content  # an int is then of the shorter side
    if isinstance(said, dict):
        shorter = said.get("shortest_edge")
        kept = kept or "height" not in said
        said = None if kept else [said["height"], said["width"]]
    else:
        shorter = said
    if not kept:
        return _sides(said), f"{key} of {file.name}"
    return (
        None,
        f"{file.name} brings their shorter side to {shorter}, --size to what you give" if shorter else "",
    )


def _config(file: Path) -> Beside:
    """transformers: id2label. A file of this name may be anybody's, so what is not like it says nothing."""
    try:
        content = _object(file)
        names = {int(k): str(v) for k, v in content.get("id2label", {}).items()}
    except (ValueError, AttributeError):
        return Beside()
    ignored = content.get("semantic_loss_ignore_index")
    ignored = ignored if type(ignored) is int else None
    by = "config.json beside it"
    return Beside(names=names, named_by=by if names else "", ignored=ignored, ignored_by=by)


def _mmdeploy(file: Path) -> Beside:
    """mmdeploy: the Normalize of its tasks' transforms, of pixels from 0 to 255, in the order of `to_rgb`."""
    tasks = _object(file)["pipeline"]["tasks"]
    transforms = [t for task in tasks for t in task.get("transforms", [])]
    normalise = next((t for t in transforms if t["type"] == "Normalize"), None)
    if normalise is None:
        return Beside()
    rgb = bool(normalise.get("to_rgb", True))
    mean, std = (_over(_triple(normalise[key], key), 255) for key in ("mean", "std"))
    return _in_order(mean, std, rgb, f"normalisation of {file.name}, as mmdeploy writes it")


def _paddle(file: Path) -> Beside:
    """PaddleSeg: the Normalize of Deploy.transforms, of pixels from 0 to 1, 0.5 if it does not say."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    transforms = content["Deploy"].get("transforms") or []
    resized = next((t for t in transforms if t["type"] == "Resize" and not t.get("keep_ratio")), None)
    size, by = None, ""
    if resized is not None:
        size = _sides(resized.get("target_size", 512))[::-1]  # PaddleSeg has the width first
        by = f"Resize of {file.name}"
    normalise = next((t for t in transforms if t["type"] == "Normalize"), None)
    if normalise is None:
        return Beside(size=size, sized_by=by)
    mean, std = (_triple(normalise.get(key, 0.5), key) for key in ("mean", "std"))
    words = f"normalisation of {file.name}, as PaddleSeg writes it"
    return Beside(mean, std, "RGB", words, size=size, sized_by=by)


def _nvinfer(file: Path) -> Beside:
    """NVIDIA's nvinfer: net-scale-factor * (pixel - offsets), in the order of model-color-format."""
    parser = ConfigParser(strict=False, interpolation=None)
    parser.read_string(file.read_text(encoding="utf-8"))
    said = parser["property"]
    scale = _number(float(said.get("net-scale-factor", "1")), "net-scale-factor")
    offsets = [float(word) for word in said.get("offsets", "0;0;0").strip(";").split(";")]
    std = (1 / (255 * scale),) * 3
    rgb = said.get("model-color-format", "0").strip() == "0"
    return _in_order(_over(_triple(offsets, "offsets"), 255), std, rgb, f"normalisation of {file.name}")


def _labels(file: Path) -> Beside:
    """Names, one a line or divided by semicolons."""
    words = file.read_text(encoding="utf-8").replace(";", "\n").splitlines()
    names = [word.strip() for word in words if word.strip()]
    return Beside(names=dict(enumerate(names)), named_by=f"{file.name} beside it")


_READERS: dict[str, Callable[[Path], Beside]] = {
    "preprocessor_config.json": _preprocessor,
    "processor_config.json": _processor,
    "config.json": _config,
    "pipeline.json": _mmdeploy,
    "deploy.yaml": _paddle,
    "nvinfer_config.txt": _nvinfer,
    "labels.txt": _labels,
}
_HUB = "onnx"
_UP = ("preprocessor_config.json", "processor_config.json", "config.json")
"""Those that may be one folder up, from a folder of that name."""


def _object(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    return content


def _sides(value: object) -> tuple[int, int]:
    """(height, width) of two whole numbers, or one for both."""
    sides: list[Any] = list(value) if isinstance(value, list | tuple) else [value] * 2
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"the size is {value!r}, not two whole numbers above 0")
    return sides[0], sides[1]


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{what} is {value!r}, not a number above 0")
    return float(value)


def _triple(value: object, what: str) -> Triple:
    """One number, or one each for three channels; a standard deviation is above 0."""
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) not in (1, 3) or any(
        isinstance(n, bool) or not isinstance(n, int | float) for n in numbers
    ):
        raise ValueError(f"{what} is {value!r}, neither one number nor three")
    if "std" in what and min(numbers) <= 0:
        raise ValueError(f"{what} is {value!r}, but a standard deviation is above 0")
    first, second, third = map(float, numbers if len(numbers) == 3 else numbers * 3)
    return first, second, third


def _over(values: Sequence[float], scale: float) -> Triple:
    first, second, third = (value / scale for value in values)
    return first, second, third


def _in_order(mean: Triple, std: Triple, rgb: bool, words: str) -> Beside:
    """Numbers that are in the order in which the model takes channels."""
    if rgb:
        return Beside(mean, std, "RGB", words)
    return Beside(mean[::-1], std[::-1], "BGR", words)
