"""Build a segmenter from settings, and again from the recipe in a run's card without any network access."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from adapt.config import Model
from adapt.decoders import DaformerDecoder, SegformerDecoder
from adapt.encoders import BackboneEncoder, SegformerEncoder, check_strides
from adapt.errors import InputError
from adapt.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter

DECODERS = {"segformer": SegformerDecoder, "daformer": DaformerDecoder}


@dataclass(frozen=True)
class Built:
    """A new segmenter and what a run must remember to build it again."""

    segmenter: Segmenter
    recipe: dict[str, Any]
    """JSON-able; `rebuild` takes it."""
    factory: Path | None
    """Source file of an encoder of one's own, to be copied into the run."""
    license_note: str
    """What is known about the licence of the encoder's weights."""


def build(model: Model, num_classes: int) -> Built:
    """Build the network that the settings describe; random or pretrained encoder.

    Raises:
        InputError: an encoder that cannot be found, loaded or fitted to a decoder.
    """
    encoder, recipe, note = _new_encoder(model)
    recipe |= {
        "decoder": model.decoder,
        "width": model.width,
        "dropout": model.dropout,
        "num_classes": num_classes,
        "mean": list(getattr(encoder, "mean", IMAGENET_MEAN)),
        "std": list(getattr(encoder, "std", IMAGENET_STD)),
    }
    factory = None
    if model.encoder.factory is not None:
        factory = Path(model.encoder.factory.rpartition(":")[0])
    return Built(_assemble(encoder, recipe), recipe, factory, note)


def rebuild(recipe: dict[str, Any], folder: Path) -> Segmenter:
    """Build the network of a run's card. `folder` is the run, which holds a copy of an own encoder's file.

    An encoder of one's own is Python code: rebuilding such a run executes the copy.
    """
    if "factory" in recipe["encoder"]:
        encoder = _from_factory(str(folder / recipe["encoder"]["file"]), recipe["encoder"]["factory"])
    else:
        encoder = _from_config(recipe["encoder"])
    return _assemble(encoder, recipe)


def _assemble(encoder: nn.Module, recipe: dict[str, Any]) -> Segmenter:
    check_strides(encoder)
    channels, strides = tuple(encoder.channels), tuple(encoder.strides)  # type: ignore[arg-type]
    decoder = DECODERS[recipe["decoder"]](channels, strides, recipe["width"])
    red, green, blue = recipe["mean"]
    mean = (red, green, blue)
    red, green, blue = recipe["std"]
    return Segmenter(
        encoder, decoder, recipe["width"], recipe["num_classes"], mean, (red, green, blue), recipe["dropout"]
    )


def _new_encoder(model: Model) -> tuple[nn.Module, dict[str, Any], str]:
    encoder = model.encoder
    if encoder.factory is not None:
        file, separator, function = encoder.factory.rpartition(":")
        if not separator:
            raise InputError(f"encoder.factory is file.py:function, got {encoder.factory!r}.")
        own = _from_factory(file, function)
        note = f"encoder from {Path(file).name}: its weights' licence applies"
        return own, {"encoder": {"factory": function, "file": "encoder.py"}}, note
    if encoder.config is not None:
        built = _from_config(encoder.config)
        note = "encoder trained from random weights: no third-party weights inside"
    else:
        assert encoder.pretrained is not None
        built = _from_pretrained(encoder.pretrained)
        note = _license_note(encoder.pretrained)
    config: Any = built.model.config
    return built, {"encoder": config.to_dict()}, note


def _from_factory(file: str, function: str) -> nn.Module:
    path = Path(file)
    if not path.is_file():
        raise InputError(f"encoder.factory names {file}, which does not exist.")
    spec = importlib.util.spec_from_file_location("blda_own_encoder", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise InputError(f"{file} cannot be imported ({error}); install what it needs.") from error
    if not hasattr(module, function):
        raise InputError(f"{file} has no function {function!r}.")
    encoder: nn.Module = getattr(module, function)()
    return encoder


def _from_config(settings: dict[str, Any]) -> SegformerEncoder | BackboneEncoder:
    from transformers import AutoBackbone, AutoConfig, SegformerModel

    fields = dict(settings)
    kind = fields.pop("model_type", None)
    try:
        config = AutoConfig.for_model(kind, **fields)
        if kind == "segformer":
            return SegformerEncoder(SegformerModel(config))
        return BackboneEncoder(AutoBackbone.from_config(_pyramid(config, fields)))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"encoder.config with model_type {kind!r} is not one that transformers can build as a backbone: "
            f"{' '.join(str(error).split())[:200]}."
        ) from error


def _from_pretrained(name: str) -> SegformerEncoder | BackboneEncoder:
    from transformers import AutoBackbone, AutoConfig, SegformerModel

    try:
        config = AutoConfig.from_pretrained(name)
        if config.model_type == "segformer":
            return SegformerEncoder(SegformerModel.from_pretrained(name))
        return BackboneEncoder(AutoBackbone.from_pretrained(name, config=_pyramid(config, {})))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the pretrained encoder {name!r} could not be loaded: give a hub name (with network) or a "
            f"folder with config.json and model.safetensors ({' '.join(str(error).split())[:160]})."
        ) from error


def _pyramid(config: Any, given: dict[str, Any]) -> Any:
    """Ask a backbone for all its stages, where the settings do not say which."""
    if isinstance(getattr(config, "hidden_sizes", None), tuple):
        config.hidden_sizes = list(config.hidden_sizes)  # ConvNeXt V2's default cannot build itself
    if not any(given.get(key) for key in ("out_features", "out_indices")):
        config.out_indices = list(range(1, len(config.stage_names)))
    return config


def _license_note(name: str) -> str:
    if "mit-b" in name or "segformer" in name:
        return f"{name}: MiT weights are licensed for non-commercial use by their owner"
    return f"{name}: see the licence on the model's page"
