"""Somebody's trained network in torch, as the ONNX file that is balanced.

It is a folder of transformers, a function that builds it, TorchScript, or what `torch.export` saved.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from adapt.data.classes import numbered_palette
from adapt.errors import InputError
from adapt.model.foreign import PREPROCESSOR, open_foreign
from adapt.model.whole import TiedError, said
from export.fold.fold import OPSET, fold
from export.sources.network import card_with, logits_graph, quiet

SIDES = (256, 256)
"""Height and width of the picture that a network is tried on where nobody says another."""
QUERIES = ("class_queries_logits", "masks_queries_logits")
_SCRIPTS = (".pt", ".pth", ".ts", ".torchscript", ".jit")
_EXPORTED = ".pt2"


def as_onnx(model: Path, weights: Path | None, size: tuple[int, int] | None, folder: Path) -> Path:
    """The model itself, or an ONNX file in `folder` if it is a network in torch.

    Args:
        model: an ONNX file, a folder of transformers, `file.py:function`, a TorchScript file or one of
            `torch.export`. The first two in torch say how they take pictures, and their file has a card; of
            the others, the person is asked for it as of any ONNX file.
        weights: state dict for the module that the function returns.
        size: (height, width) to try the network on; None is SIDES.
        folder: where to.

    Raises:
        InputError: the network can't be loaded, or exported.
    """
    function = ".py:" in str(model)
    if weights is not None and not function:
        raise InputError(
            f"--weights is the state dict of what a file.py:function returns; leave it out for {model}."
        )
    file = folder / f"{model.stem.partition(':')[0]}.onnx"
    if not function and not _is_transformers(model):
        make = _opened(model)
        if make is None:
            return model
        with _exporting(model):
            make(file, torch.zeros(1, 3, *(size or SIDES)))
        return file
    config = {} if function else _config(model)
    sides = size or _image_size(config)
    if _of_queries(config):
        with _exporting(model):
            _of_one_size(model, sides, file, queries=True)
        return file
    try:
        with _exporting(model):
            onnx.save(_with_card(model, weights, sides), file)
    except InputError as error:
        if function or not isinstance(error, TiedError | _ExportError):
            raise
        with _exporting(model):
            _of_one_size(model, sides, file)
    return file


class _ExportError(InputError):
    """Torch can't export a network."""


@contextmanager
def _exporting(model: Path) -> Iterator[None]:
    """Without gradients and without what the exporters say; what they can't do is one sentence."""
    try:
        with torch.no_grad(), quiet():
            yield
    except InputError:
        raise
    except Exception as error:  # whatever torch says of what it can't export
        raise _ExportError(
            f"{model} can't be exported to ONNX ({' '.join(str(error).split())[:200]}); give the size that "
            "it takes with --size, or export it where its code is."
        ) from error


def _of_one_size(model: Path, size: tuple[int, int], file: Path, queries: bool = False) -> None:
    """A folder of transformers as a file of one size, with what the folder says of itself beside it."""
    from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

    kind = AutoModelForUniversalSegmentation if queries else AutoModelForSemanticSegmentation
    network = kind.from_pretrained(model).eval()
    if isinstance(probabilities := getattr(network, "attn_mask_probs", None), Tensor):
        del network.attn_mask_probs  # EoMT branches on them, which an exporter takes for data
        network.attn_mask_probs = probabilities.tolist()
    torch.onnx.export(
        _Queries(network) if queries else _Said(network),
        (torch.zeros(1, 3, *size),),
        file,
        dynamo=True,
        opset_version=OPSET,
        output_names=list(QUERIES) if queries else ["logits"],
        external_data=False,
        verbose=False,
    )
    for name in ("config.json", PREPROCESSOR):
        if (model / name).is_file():
            shutil.copyfile(model / name, file.parent / name)


def _config(model: Path) -> dict[str, Any]:
    """Of a folder of transformers; empty of what is none, which is refused where it is loaded."""
    try:
        found = json.loads((model / "config.json").read_text())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _image_size(config: dict[str, Any]) -> tuple[int, int]:
    """What the configuration says, else SIDES."""
    side = config.get("image_size")
    return (side, side) if isinstance(side, int) and side > 0 else SIDES


def _of_queries(config: dict[str, Any]) -> bool:
    """Whether the network has classes and masks of queries: MaskFormer, Mask2Former, EoMT."""
    kinds = config.get("architectures")
    kind = str(kinds[0]) if isinstance(kinds, list) and kinds else ""
    return kind == "MaskFormerForInstanceSegmentation" or kind.endswith("ForUniversalSegmentation")


@contextmanager
def named(file: Path, model: Path) -> Iterator[None]:
    """What goes wrong with the file is said of the model that it was made of."""
    try:
        yield
    except InputError as error:
        if file == model:
            raise
        raise InputError(error.message.replace(str(file), str(model))) from error


def _is_transformers(model: Path) -> bool:
    return model.is_dir() and (model / "config.json").is_file() and not (model / "card.json").is_file()


def _with_card(model: Path, weights: Path | None, size: tuple[int, int]) -> onnx.ModelProto:
    """Uncorrected, with the names and the normalisation that the network has."""
    foreign = open_foreign(str(model), weights, size)
    segmenter = foreign.built.segmenter.eval()
    C, note = segmenter.num_classes, foreign.built.license_note
    names = foreign.names or tuple(f"class{c}" for c in range(C))
    card = card_with(segmenter, names, numbered_palette(C), model.name, note)
    return fold(logits_graph(segmenter), card, None)


def _opened(model: Path) -> Callable[[Path, Tensor], object] | None:
    """How to write a file of torch's as ONNX; None if it is none that holds a network."""
    kind = model.suffix.lower()
    if not model.is_file() or kind not in (*_SCRIPTS, _EXPORTED):
        return None
    try:
        if kind == _EXPORTED:
            program = torch.export.load(model)
            return lambda file, _: torch.onnx.export(
                program, (), file, dynamo=True, opset_version=OPSET, external_data=False, verbose=False
            )
        network: nn.Module = torch.jit.load(str(model), "cpu").eval()  # type: ignore[no-untyped-call]
    except Exception:  # weights alone, say: what reads ONNX files knows what it is and says so
        return None
    return lambda file, example: torch.onnx.export(
        _traced(network, example),
        (example,),
        file,
        dynamo=False,
        opset_version=17,
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_axes={"pixels": {0: "n", 2: "h", 3: "w"}, "logits": {0: "n", 2: "oh", 3: "ow"}},
    )


def _traced(network: nn.Module, example: Tensor) -> Any:
    """Scripted branches and sizes inside stay as they are."""
    return torch.jit.trace(_Said(network), example, check_trace=False)  # type: ignore[no-untyped-call]


class _Said(nn.Module):
    """The logits of what a network returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return said(self.network(pixels))


class _Queries(nn.Module):
    """Classes and masks of the queries of what a network returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        answer = self.network(pixels)
        return tuple(getattr(answer, name) for name in QUERIES)
