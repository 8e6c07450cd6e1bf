"""The network: encoder -> feature pyramid -> decoder -> logits, with normalisation and padding inside.

Encoders come from `transformers` (SegFormer's MiT, every AutoBackbone family) or from a function of one's
own; the two decoders are SegFormer's all-MLP head and DAFormer's context-aware one.
"""

from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
        strides = torch.tensor(config.strides).cumprod(0)
        self.strides = tuple(int(s) for s in strides)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return list(self.model(pixels, output_hidden_states=True).hidden_states)


class BackboneEncoder(nn.Module):
    """Any `transformers` backbone: ResNet, ConvNeXt V2, Swin, PVT v2 and others."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.channels = tuple(model.channels)
        with torch.no_grad():
            training = model.training
            maps = model.eval()(torch.zeros(1, 3, 128, 128)).feature_maps
            model.train(training)
        self.strides = tuple(128 // m.shape[-1] for m in maps)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return list(self.model(pixels).feature_maps)


class ConvNormReLU(nn.Sequential):
    """Convolution, batch normalisation, ReLU; size-preserving."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class PyramidEmbedding(nn.Module):
    """Project every level of the pyramid to `width` channels and bring it to the finest level's size."""

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.factors = tuple(stride // strides[0] for stride in strides)

    def forward(self, features: list[Tensor]) -> Tensor:
        levels = []
        for feature, project, factor in zip(features, self.project, self.factors, strict=True):
            level = project(feature)
            if factor > 1:  # a constant factor, not a size, keeps exported graphs free of shape arithmetic
                level = F.interpolate(level, scale_factor=float(factor), mode="bilinear", align_corners=False)
            levels.append(level)
        return torch.cat(levels, 1)  # [N, levels * width, H / strides[0], W / strides[0]]


class SegformerDecoder(nn.Module):
    """All-MLP decoder (Xie et al. 2021): embed, concatenate, fuse with one 1x1 convolution."""

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.embed = PyramidEmbedding(channels, strides, width)
        self.fuse = ConvNormReLU(len(channels) * width, width)

    def forward(self, features: list[Tensor]) -> Tensor:
        fused: Tensor = self.fuse(self.embed(features))
        return fused


class DaformerDecoder(nn.Module):
    """Context-aware decoder (Hoyer et al. 2022): separable ASPP with dilations 1, 6, 12, 18 as the fusion."""

    def __init__(
        self,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        width: int,
        dilations: tuple[int, ...] = (1, 6, 12, 18),
    ) -> None:
        super().__init__()
        self.embed = PyramidEmbedding(channels, strides, width)
        inputs = len(channels) * width
        self.branches = nn.ModuleList(
            ConvNormReLU(inputs, width)
            if dilation == 1
            else nn.Sequential(
                ConvNormReLU(inputs, inputs, 3, dilation, groups=inputs), ConvNormReLU(inputs, width)
            )
            for dilation in dilations
        )
        self.fuse = ConvNormReLU(len(dilations) * width, width, 3)

    def forward(self, features: list[Tensor]) -> Tensor:
        embedded = self.embed(features)
        fused: Tensor = self.fuse(torch.cat([branch(embedded) for branch in self.branches], 1))
        return fused


class Segmenter(nn.Module):
    """Semantic segmentation network.

    Args:
        encoder: feature pyramid, finest level first, strides dividing each other.
        decoder: features -> [N, width, h, w] at the finest level's stride.
        width: channels of the decoder's output.
        num_classes: C.
        mean, std: of RGB on [0, 1].
        dropout: probability before the classifier, in training only.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        width: int,
        num_classes: int,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        self.num_classes = num_classes
        self.mean = mean
        self.std = std
        self.output_stride: int = encoder.strides[0]  # type: ignore[assignment, index]
        self.stride: int = max(encoder.strides)  # type: ignore[arg-type]
        """Height and width must be multiples of this; `logits` and the exported graph pad by themselves."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, H, W], H and W multiples of `stride` -> logits [N, C, h, w]."""
        logits: Tensor = self.classify(self.dropout(self.fused(pixels)))
        return logits

    def fused(self, pixels: Tensor) -> Tensor:
        """The decoder's fused features [N, width, h, w]."""
        features: Tensor = self.decoder(self.encoder(pixels))
        return features

    def normalise(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] on [0, 1] -> pixels as `forward` takes them."""
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return (images - mean) / std

    def logits(self, images: Tensor) -> Tensor:
        """Logits of whole pictures of any size.

        Args:
            images: uint8 [N, H, W, 3], RGB.

        Returns:
            [N, C, h, w] at the decoder's stride, of the picture padded at the bottom and the right (with
            zeros after normalisation) to a multiple of `stride`.
        """
        height, width = images.shape[1:3]
        pixels = self.normalise(images.permute(0, 3, 1, 2).float() / 255)
        logits: Tensor = self(F.pad(pixels, (0, -width % self.stride, 0, -height % self.stride)))
        return logits


class TrainingOutput(NamedTuple):
    """What the training step sees, at the decoder's stride."""

    logits: Tensor
    """[N, C, h, w]"""
    density: Tensor
    """[N, h, w] prediction of d = F[y, y](f[y]) (Li et al. 2025, section 3.4)."""


class StudentNetwork(nn.Module):
    """A segmenter with the density head, which is used in training only and never exported."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.density = nn.Conv2d(segmenter.classify.in_channels, 1, 1)

    def forward(self, pixels: Tensor) -> TrainingOutput:
        """Normalised pixels [N, 3, H, W] -> logits and predicted density."""
        fused = self.segmenter.fused(pixels)
        logits = self.segmenter.classify(self.segmenter.dropout(fused))
        return TrainingOutput(logits.float(), self.density(fused).squeeze(1).float())


def labels_from_scores(scores: Tensor, stride: int, height: int, width: int) -> Tensor:
    """Scores [N, C, h, w] -> labels uint8 [N, height, width]: one bilinear upsampling, argmax, crop.

    The correction is not linear, so it comes before this step, at the decoder's stride.
    """
    full = F.interpolate(scores, scale_factor=float(stride), mode="bilinear", align_corners=False)
    return full[:, :, :height, :width].argmax(1).byte()


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
