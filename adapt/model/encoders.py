"""Encoders: pixels -> feature pyramid.

SegFormer's MiT and every backbone of `transformers`; a function of one's own may return another.
"""

from itertools import accumulate, pairwise
from operator import mul
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from adapt.errors import InputError


class Encoder(Protocol):
    """What a decoder needs to know. `__call__`: pixels [N, 3, H, W] -> features, finest first."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, pixels: Tensor) -> list[Tensor]: ...


class SegformerEncoder(nn.Module):
    """MiT, the encoder of SegFormer (Xie et al. 2021), random or pretrained."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        config: Any = model.config
        self.channels = tuple(config.hidden_sizes)
        self.strides = tuple(accumulate(config.strides, mul))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return list(self.model(pixels, output_hidden_states=True).hidden_states)


class BackboneEncoder(nn.Module):
    """Any `transformers` backbone: ResNet, ConvNeXt V2, Swin, PVT v2, DINOv2, DINOv3 and others.

    Args:
        model: the backbone.
        dilated: whether a ResNet keeps stride 8 by dilating its last two stages.
    """

    def __init__(self, model: Any, dilated: bool = False) -> None:
        super().__init__()
        if dilated:
            dilate_resnet(model)
        self.model = model
        for name, parameter in model.named_parameters():
            if name.endswith("mask_token"):  # of a ViT's pretraining; no picture ever reaches it
                parameter.requires_grad_(False)
        self.channels = tuple(model.channels)
        with torch.no_grad():
            training = model.training
            maps = model.eval()(torch.zeros(1, 3, 128, 128)).feature_maps
            model.train(training)
        self.strides = tuple(128 // m.shape[-1] for m in maps)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return list(self.model(pixels).feature_maps)


def dilate_resnet(model: Any) -> None:
    """Make a ResNet's last two stages dilated by 2 and 4 instead of strided (DeepLab, Chen et al. 2017).

    Weights stay as they are and see what they saw, at more places; strides become 4, 8, 8, 8.
    """
    for stage, dilation in zip(model.encoder.stages[-2:], (2, 4), strict=True):
        for module in stage.modules():
            if not isinstance(module, nn.Conv2d):
                continue
            if module.kernel_size == (3, 3):
                # What was strided still reads the finer grid before it.
                spread = dilation // 2 if module.stride == (2, 2) else dilation
                module.dilation = module.padding = (spread, spread)
            module.stride = (1, 1)


def check_recomputation(encoder: nn.Module) -> None:
    """Refuse an encoder that cannot recompute its activations.

    Raises:
        InputError: says so.
    """
    model: Any = getattr(encoder, "model", None)
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise InputError(
            f"training.recompute_activations needs a transformer encoder that supports it, and "
            f"{type(model or encoder).__name__} does not; set it to false, or lower training.batch and raise "
            "training.accumulate."
        )


def save_memory(encoder: nn.Module) -> None:
    """Recompute the encoder's activations in the backward pass instead of keeping them.

    Raises:
        InputError: the encoder cannot.
    """
    check_recomputation(encoder)
    model: Any = encoder.model
    model.gradient_checkpointing_enable({"use_reentrant": False})


def check_strides(encoder: nn.Module) -> None:
    """Refuse pyramids that the decoders cannot put together.

    Raises:
        InputError: no `channels` and `strides`, or strides that do not divide each other.
    """
    channels, strides = getattr(encoder, "channels", None), getattr(encoder, "strides", None)
    if not channels or not strides or len(channels) != len(strides):
        raise InputError(
            f"the encoder {type(encoder).__name__} lacks `channels` and `strides` of equal length; "
            "give both as tuples, finest level first."
        )
    if any(coarse % fine for fine, coarse in pairwise(strides)):
        raise InputError(f"the encoder's strides {tuple(strides)} do not divide each other, finest first.")
