"""Weights that other programs saved, told by their first bytes and by the files around them.

Nothing is unpickled: whoever gives such a file where a run folder or an ONNX file is expected is told what it
is, and which command takes it.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch.save began its files before 1.6: a pickled number."""
_PICKLE = b"\x80"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")
_EXPORT = "export the network to ONNX where its code is (torch.onnx.export)"
_BALANCE = "`blda export balance FILE.onnx --target FOOTAGE`"


def describe_checkpoint(path: Path) -> str | None:
    """What a file or folder of weights is, and the command that takes it; None if it is none."""
    what = _folder(path) if path.is_dir() else _file(path) if path.is_file() else None
    return None if what is None else f"{path} is {what}."


def _folder(folder: Path) -> str | None:
    """A folder that `transformers` saved."""
    if (folder / "card.json").is_file() or not any((folder / name).is_file() for name in _WEIGHTS):
        return None
    config = _json(folder / "config.json")
    return None if config is None or "model_type" not in config else _of_transformers(folder, config)


def _of_transformers(folder: Path, config: dict[str, Any]) -> str:
    names = config.get("architectures")
    kind = str(names[0]) if isinstance(names, list) and names else str(config["model_type"])
    what = f"a checkpoint of transformers ({kind})"
    if kind.endswith("ForSemanticSegmentation"):
        return (
            f"{what}, not a run or an ONNX file: balance it with `blda export balance {folder} --target "
            f"FOOTAGE -o balanced.onnx`; or train it further with `adapt train --from {folder}`"
        )
    if "Segmentation" in kind:
        return (
            f"{what}, not a run or an ONNX file: {_EXPORT} and balance it with {_BALANCE}; or train from its "
            f"encoder with `adapt train --set 'model.encoder={{pretrained: {folder}}}'`"
        )
    return (
        f"{what}, not a run or an ONNX file: it is an encoder to train from, with "
        f"`adapt train --set 'model.encoder={{pretrained: {folder}}}'`"
    )


def _file(path: Path) -> str | None:
    head = _head(path)
    if path.name in _WEIGHTS and (path.parent / "card.json").is_file():
        return f"the weights of a run; give the run folder itself, {path.parent}"
    if path.name in _WEIGHTS and (whole := _folder(path.parent)) is not None:
        return f"a part of {path.parent}, which is {whole}"
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        return _archive(path)
    if head.startswith(_LEGACY) or (
        head.startswith(_PICKLE) and path.suffix in (".pth", ".pt", ".bin", ".ckpt")
    ):
        return _weights("a PyTorch checkpoint")
    if head[8:9] == b"{" and path.suffix == ".safetensors":
        return _weights("a file of safetensors")
    return None


def _archive(path: Path) -> str | None:
    """What torch.save and torch.jit.save make are zip archives."""
    with zipfile.ZipFile(path) as archive:
        inside = archive.namelist()
    if not any(name.endswith("/data.pkl") for name in inside):
        return None
    if any("/code/" in name for name in inside):
        return (
            "a TorchScript module, not a run or an ONNX file: balance it as it is with `blda export balance "
            "FILE --target FOOTAGE -o balanced.onnx`"
        )
    return _weights("a PyTorch checkpoint")


def _weights(what: str) -> str:
    return (
        f"{what}, not a run or an ONNX file, and holds weights without their network: {_EXPORT} and balance "
        f"it with {_BALANCE}"
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except OSError:
        return b""


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
