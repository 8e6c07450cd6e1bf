"""Build a segmenter from settings, and again from the recipe in a run's card without any network access."""

import importlib.util
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from adapt.config.settings import Model
from adapt.errors import InputError
from adapt.model.decoders import DaformerDecoder, DeeplabV2Decoder, PlainPyramidDecoder, SegformerDecoder
from adapt.model.encoders import BackboneEncoder, SegformerEncoder, check_strides
from adapt.model.hrda import HrdaSegmenter
from adapt.model.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter
from adapt.model.whole import Whole, WholeSegmenter

DECODERS = {
    "segformer": SegformerDecoder,
    "daformer": DaformerDecoder,
    "deeplabv2": DeeplabV2Decoder,  # for a dilated ResNet
    "plain-pyramid": PlainPyramidDecoder,  # for plain ViTs (DINOv2, DINOv3)
}
"""By the name that settings and cards give them."""


COPY = "encoder.py"
"""What a run calls its copy of the file of an encoder of one's own."""
OWN_CODE = "BLDA_OWN_CODE"
"""Environment variable; `no` refuses runs that bring code."""


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
        InputError: a decoder that is not known, or an encoder that cannot be found, loaded or fitted to it.
    """
    if model.decoder not in DECODERS:
        raise InputError(f"model.decoder={model.decoder} is not known; choose one of {', '.join(DECODERS)}.")
    encoder, recipe, note = _new_encoder(model)
    recipe |= {
        "decoder": model.decoder,
        "width": model.width,
        "dropout": model.dropout,
        "multi_resolution": model.multi_resolution,
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

    An encoder of one's own is Python code: rebuilding such a run executes the copy, and nothing but the copy.

    Raises:
        InputError: it has one, and the environment variable BLDA_OWN_CODE is `no`; or the recipe is altered.
    """
    if "factory" in recipe["encoder"]:
        if os.environ.get(OWN_CODE) == "no":
            raise InputError(
                f"{folder} has an encoder of its own, a program that {OWN_CODE}=no forbids to run; look at "
                f"{folder / COPY}, and unset the variable if you trust it."
            )
        if recipe["encoder"]["file"] != COPY:
            raise InputError(
                f"the card of {folder} names {recipe['encoder']['file']!r} as its encoder's file, but that "
                f"is always {COPY} in the run; it was altered, so nothing of it was run."
            )
        encoder = from_factory(str(folder / COPY), recipe["encoder"]["factory"])
    elif "whole" in recipe:
        encoder = _whole_from_config(recipe["encoder"])
    else:
        encoder = _from_config(recipe["encoder"], recipe.get("dilated", False))
    if "whole" in recipe:
        rest = recipe["width"], recipe["num_classes"], tuple(recipe["mean"]), tuple(recipe["std"])
        return WholeSegmenter(encoder, Whole(**recipe["whole"]), *rest)
    return _assemble(encoder, recipe)


def _whole_from_config(settings: dict[str, Any]) -> nn.Module:
    """A network of `transformers` with random weights."""
    from transformers import AutoConfig, AutoModelForSemanticSegmentation

    fields = dict(settings)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    network: nn.Module = AutoModelForSemanticSegmentation.from_config(config)
    return network


def _assemble(encoder: nn.Module, recipe: dict[str, Any]) -> Segmenter:
    check_strides(encoder)
    channels, strides = tuple(encoder.channels), tuple(encoder.strides)  # type: ignore[arg-type]
    _check_fit(recipe["decoder"], strides)
    width = recipe["width"]
    red, green, blue = recipe["mean"]
    mean = (red, green, blue)
    red, green, blue = recipe["std"]
    rest = (width, recipe["num_classes"], mean, (red, green, blue), recipe["dropout"])
    decoder = DECODERS[recipe["decoder"]](channels, strides, width)
    if not recipe.get("multi_resolution", False):
        return Segmenter(encoder, decoder, *rest)
    # The scale attention has the light decoder on the same pyramid (HRDA, section 3.2).
    light = SegformerDecoder if recipe["decoder"] == "daformer" else DECODERS[recipe["decoder"]]
    attention = light(channels, strides, width)
    return HrdaSegmenter(encoder, decoder, attention, *rest)


def _check_fit(decoder: str, strides: tuple[int, ...]) -> None:
    """Refuse decoders that the encoder's levels do not suit."""
    plain = len(strides) > 1 and len(set(strides)) == 1
    if plain and decoder not in ("plain-pyramid", "deeplabv2"):
        raise InputError(
            f"all levels of this encoder have stride {strides[0]}, of which the {decoder} decoder makes no "
            "pyramid; set model.decoder=plain-pyramid."
        )
    if decoder == "plain-pyramid" and not plain:
        raise InputError(
            f"the plain-pyramid decoder is for encoders whose levels have equal strides, this one's are "
            f"{strides}; set model.decoder=daformer."
        )


def _new_encoder(model: Model) -> tuple[nn.Module, dict[str, Any], str]:
    encoder = model.encoder
    if encoder.factory is not None:
        file, separator, function = encoder.factory.rpartition(":")
        if not separator:
            raise InputError(f"encoder.factory is file.py:function, got {encoder.factory!r}.")
        own = from_factory(file, function)
        note = f"encoder from {Path(file).name}: its weights' licence applies"
        return own, {"encoder": {"factory": function, "file": COPY}}, note
    if encoder.config is not None:
        _check_fields(encoder.config)
        built = _from_config(encoder.config, model.dilated)
        note = "encoder trained from random weights: no third-party weights inside"
    else:
        assert encoder.pretrained is not None
        built = _from_pretrained(encoder.pretrained, model.dilated)
        note = license_note(encoder.pretrained)
    config: Any = built.model.config
    return built, {"encoder": config.to_dict(), "dilated": model.dilated}, note


def from_factory(file: str, function: str, option: str = "encoder.factory") -> nn.Module:
    """What a function of a Python file returns; `option` named it.

    Raises:
        InputError: there is no such file or function, or it lacks what it imports.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{option} names {file}, which does not exist.")
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


def _check_fields(settings: dict[str, Any]) -> None:
    """Refuse fields that the encoder's configuration has not: `transformers` keeps them and does nothing.

    Raises:
        InputError: names the first, and the one that was probably meant.
    """
    from transformers import AutoConfig

    kind = settings.get("model_type")
    try:
        config = AutoConfig.for_model(kind)
    except ValueError:
        return  # no such model: said where it is built
    known = {*config.to_dict(), *config.attribute_map, "out_features", "out_indices", "stage_names"}
    for field in settings:
        if field not in known:
            near = get_close_matches(field, known, 1)
            meant = f"; did you mean {near[0]}?" if near else "; leave it out."
            raise InputError(f"encoder.config: {kind} has no field {field!r}{meant}")


def _from_config(settings: dict[str, Any], dilated: bool) -> SegformerEncoder | BackboneEncoder:
    from transformers import AutoBackbone, AutoConfig, SegformerModel

    fields = dict(settings)
    kind = fields.pop("model_type", None)
    try:
        config = AutoConfig.for_model(kind, **fields)
        _check_dilated(config, dilated)
        if kind == "segformer":
            return SegformerEncoder(SegformerModel(config))
        return BackboneEncoder(AutoBackbone.from_config(_pyramid(config, fields)), dilated)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"encoder.config with model_type {kind!r} is not one that transformers can build as a backbone: "
            f"{' '.join(str(error).split())[:200]}."
        ) from error


def _from_pretrained(name: str, dilated: bool) -> SegformerEncoder | BackboneEncoder:
    from transformers import AutoBackbone, AutoConfig, SegformerModel

    try:
        config = AutoConfig.from_pretrained(name)
        _check_dilated(config, dilated)
        if config.model_type == "segformer":
            model, report = SegformerModel.from_pretrained(name, **REPORT)
            check_loaded(name, report)
            return SegformerEncoder(model)
        model, report = AutoBackbone.from_pretrained(name, config=_pyramid(config, {}), **REPORT)
        check_loaded(name, report)
        return BackboneEncoder(model, dilated)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the pretrained encoder {name!r} could not be loaded: give a hub name (with network) or a "
            f"folder with config.json and model.safetensors ({' '.join(str(error).split())[:160]})."
        ) from error


REPORT: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Asks `transformers` to say what did not fit; by itself it fills gaps with random weights."""
_LISTED = 5


def check_loaded(name: str, report: dict[str, Any]) -> None:
    """Refuse a pretrained file that leaves random weights in the network.

    Raises:
        InputError: lists tensors that are missing or of another shape.
    """
    wrong = [f"{key} is missing" for key in sorted(report["missing_keys"]) if not key.startswith("layernorm")]
    wrong += [
        f"{key} is {tuple(found)} in the file and {tuple(wanted)} in its configuration"
        for key, found, wanted in sorted(report["mismatched_keys"])
    ]
    if wrong:
        more = f" and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise InputError(
            f"the weights of {name!r} do not fit its config.json: {'; '.join(wrong[:_LISTED])}{more}; give a "
            "file and a config.json that belong together."
        )


def _check_dilated(config: Any, dilated: bool) -> None:
    if dilated and config.model_type != "resnet":
        raise InputError(
            f"model.dilated is for ResNet encoders, this one is {config.model_type!r}; leave it false."
        )


def _pyramid(config: Any, given: dict[str, Any]) -> Any:
    """Ask a backbone for all its stages, where the settings do not say which."""
    if isinstance(getattr(config, "hidden_sizes", None), tuple):
        config.hidden_sizes = list(config.hidden_sizes)  # ConvNeXt V2's default cannot build itself
    if not any(given.get(key) for key in ("out_features", "out_indices")):
        depth = len(config.stage_names) - 1
        # All stages of a pyramid; of a plain ViT, which has as many as layers, four evenly spaced ones.
        config.out_indices = (
            [-(-depth * part // 4) for part in range(1, 5)] if depth > 5 else list(range(1, depth + 1))
        )
    return config


def license_note(name: str) -> str:
    """What is known about the licence of somebody's weights."""
    if "mit-b" in name or "segformer" in name:
        return f"{name}: MiT weights are licensed for non-commercial use by their owner"
    return f"{name}: see the licence on the model's page"
