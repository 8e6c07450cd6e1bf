"""Decoders: feature pyramid -> one fused feature map, which a 1x1 convolution classifies."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class DeeplabV2Decoder(nn.Module):
    """ASPP of DeepLabV2 (Chen et al. 2017): dilated convolutions of the encoder's last level, summed.

    The classifier behind it is linear as well, so the two together are DeepLabV2's one, as long as `width` is
    not below the number of classes.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        width: int,
        dilations: tuple[int, ...] = (6, 12, 18, 24),
    ) -> None:
        super().__init__()
        self.output_stride = strides[-1]
        self.branches = nn.ModuleList(
            nn.Conv2d(channels[-1], width, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.stack([branch(features[-1]) for branch in self.branches]).sum(0)


class PlainPyramidDecoder(nn.Module):
    """Pyramid out of the equal levels of a plain ViT, then SegFormer's fusion.

    Early levels are refined by strided transposed convolutions, as in ViTDet's simple pyramid (Li et al.
    2022): 4-fold, 2-fold, and not at all for the rest. Patches of a size that 4 does not divide (DINOv2's 14)
    are refined 2-fold at most.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], width: int) -> None:
        super().__init__()
        patch = strides[0]
        finest = 4 if patch % 4 == 0 else 2
        factors = [max(1, finest >> level) for level in range(len(channels))]
        self.output_stride = patch // finest
        self.refine = nn.ModuleList(_refine(c, width, f) for c, f in zip(channels, factors, strict=True))
        levels = tuple(self.output_stride * finest // factor for factor in factors)
        self.fuse = SegformerDecoder((width,) * len(channels), levels, width)

    def forward(self, features: list[Tensor]) -> Tensor:
        refined = [refine(feature) for refine, feature in zip(self.refine, features, strict=True)]
        fused: Tensor = self.fuse(refined)
        return fused


def _refine(channels: int, width: int, factor: int) -> nn.Sequential:
    """[N, channels, h, w] -> [N, width, h * factor, w * factor], factor a power of two."""
    layers: list[nn.Module] = [ConvNormReLU(channels, width)]
    while factor > 1:
        up = nn.ConvTranspose2d(width, width, 2, stride=2, bias=False)
        layers += [up, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        factor //= 2
    return nn.Sequential(*layers)
