"""Somebody else's trained network, to begin a training with: a folder of `transformers`, or a function."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.model.build import COPY, REPORT, Built, check_loaded, from_factory, license_note
from adapt.model.segmenter import IMAGENET_MEAN, IMAGENET_STD
from adapt.model.whole import WholeSegmenter, examine

Triple = tuple[float, float, float]
SCRIPTED = (".pt", ".pth", ".pt2", ".ts", ".torchscript", ".jit", ".onnx")
PREPROCESSOR = "preprocessor_config.json"


class Foreign(NamedTuple):
    """A network, and what it says of its classes."""

    built: Built
    names: tuple[str, ...] | None
    """[C]; None where it does not say."""


class Intake(NamedTuple):
    """How a network takes pictures."""

    mean: Triple
    std: Triple
    """Of RGB on [0, 1]."""
    bgr: bool


def open_foreign(start: str, weights: Path | None, crop: tuple[int, int]) -> Foreign:
    """Open it.

    Args:
        start: a folder or hub name of `transformers`, or `file.py:function`.
        weights: state dict for the module that the function returns; None takes it as it is.
        crop: (height, width) that it will be trained on.

    Raises:
        InputError: it can't be loaded, can't be trained, or does not fit.
    """
    if ".py:" in start:
        return _of_function(start, weights, crop)
    if Path(start).is_file() or Path(start).suffix.lower() in SCRIPTED:
        raise InputError(
            f"{start} is a file, and a TorchScript, torch.export or ONNX file holds what a network computes, "
            "not what trains it and can be exported again; give a folder of transformers, a run, or the "
            "file.py:function that builds the network, with its state dict as --weights."
        )
    return _of_transformers(start, crop)


def _of_transformers(name: str, crop: tuple[int, int]) -> Foreign:
    from transformers import AutoConfig, AutoModelForSemanticSegmentation

    try:
        config = AutoConfig.from_pretrained(name)
        kind = next(iter(config.architectures or []), "none")
        if not kind.endswith("ForSemanticSegmentation"):
            raise InputError(
                f"{name} is a {kind}, but a network with a score per class and pixel is wanted, of a class "
                "whose name ends in ForSemanticSegmentation (SegFormer, UperNet, DPT, BEiT, MobileViT, ...)."
            )
        model, report = AutoModelForSemanticSegmentation.from_pretrained(name, **REPORT)
        check_loaded(name, report)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise InputError(
            f"the model {name!r} could not be loaded: give a run, a folder with config.json and "
            "model.safetensors, a hub name (with network), or file.py:function "
            f"({' '.join(str(error).split())[:160]})."
        ) from error
    intake = _intake(name)
    whole, features, classes = examine(model, crop, intake.bgr)
    recipe = {"encoder": model.config.to_dict(), **_rest(whole, features, classes, intake)}
    labels = [str(config.id2label.get(c, f"LABEL_{c}")) for c in range(classes)]
    named = None if all(label == f"LABEL_{c}" for c, label in enumerate(labels)) else tuple(labels)
    segmenter = WholeSegmenter(model, whole, features, classes, intake.mean, intake.std)
    return Foreign(Built(segmenter, recipe, None, license_note(name)), named)


def _of_function(start: str, weights: Path | None, crop: tuple[int, int]) -> Foreign:
    file, _, function = start.rpartition(":")
    model = from_factory(file, function, "--from")
    if not isinstance(model, nn.Module):
        raise InputError(f"{start} returns {type(model).__name__}, but a torch.nn.Module is wanted.")
    if weights is not None:
        _load(model, weights)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            f"{start} returns a network without a parameter to train; return the module itself, with "
            "requires_grad where it is to learn."
        )
    intake = Intake(
        _triple(getattr(model, "mean", IMAGENET_MEAN), start),
        _triple(getattr(model, "std", IMAGENET_STD), start),
        False,
    )
    whole, features, classes = examine(model, crop)
    recipe = {"encoder": {"factory": function, "file": COPY}, **_rest(whole, features, classes, intake)}
    names = getattr(model, "classes", None)
    if names is not None and len(names) != classes:
        raise InputError(f"{start} names {len(names)} `classes`, but gives {classes} logits per pixel.")
    segmenter = WholeSegmenter(model, whole, features, classes, intake.mean, intake.std)
    note = f"network from {Path(file).name}: its weights' licence applies"
    return Foreign(
        Built(segmenter, recipe, Path(file), note), None if names is None else tuple(map(str, names))
    )


def _rest(whole: Any, features: int, classes: int, intake: Intake) -> dict[str, Any]:
    """Of a recipe, all but how to build the network."""
    return {
        "decoder": "own",
        "width": features,
        "dropout": 0.0,
        "num_classes": classes,
        "mean": list(intake.mean),
        "std": list(intake.std),
        "whole": whole._asdict(),
    }


def _load(model: nn.Module, weights: Path) -> None:
    """Put a state dict into a module, all of it.

    Raises:
        InputError: it is none, or of another network.
    """
    try:
        state: Any
        if weights.suffix == ".safetensors":
            state = load_file(weights)
        else:  # torch's restricted reader, which takes tensors and plain values only
            state = torch.load(weights, "cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"--weights {weights} does not exist.") from error
    except Exception as error:  # whatever a reader says of what is no such file
        raise InputError(
            f"--weights {weights} is no state dict ({' '.join(str(error).split())[:120]}); write one with "
            "safetensors.torch.save_file(model.state_dict(), ...)."
        ) from error
    for key in ("state_dict", "model"):  # what training scripts put around it
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    if not tensors:
        raise InputError(f"--weights {weights} holds no tensors by name; give the state dict alone.")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"--weights {weights} is not the state dict of that network "
            f"({' '.join(str(error).split())[:200]}); give the one that belongs to it."
        ) from error


def _intake(name: str) -> Intake:
    """From the preprocessor_config.json of a `transformers` model; ImageNet's where it has none.

    Raises:
        InputError: what it holds is no such file.
    """
    from transformers.utils import cached_file

    found = cached_file(name, PREPROCESSOR, _raise_exceptions_for_missing_entries=False)
    if found is None:
        return Intake(IMAGENET_MEAN, IMAGENET_STD, False)
    try:
        said = json.loads(Path(found).read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise ValueError("it holds no settings")
        largest = 255 * float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 255.0
        mean, std = (0.0,) * 3, (1.0,) * 3
        if said.get("do_normalize", "image_mean" in said):
            mean = _triple(said.get("image_mean", IMAGENET_MEAN), found)
            std = _triple(said.get("image_std", IMAGENET_STD), found)
        if not largest > 0 or min(std) <= 0:
            raise ValueError("its scale is not above 0")
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{found} does not say how pictures are normalised ({error}); mend it, or delete it for the mean "
            "and standard deviation of ImageNet."
        ) from error
    # (largest * x - mean) / std of x on [0, 1]
    bgr = bool(said.get("do_flip_channel_order", False))
    order = (2, 1, 0) if bgr else (0, 1, 2)  # they are of its own channels
    return Intake(
        _triple([mean[i] / largest for i in order], found),
        _triple([std[i] / largest for i in order], found),
        bgr,
    )


def _triple(values: Any, where: str) -> Triple:
    """Three numbers. Raises InputError if they are not."""
    numbers = isinstance(values, list | tuple) and all(isinstance(v, int | float) for v in values)
    if not numbers or len(values) != 3:
        raise InputError(
            f"{where}: mean and std are three numbers each, of red, green and blue, got {values!r:.60}."
        )
    red, green, blue = map(float, values)
    return red, green, blue
