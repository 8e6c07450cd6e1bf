"""The network: encoder -> feature pyramid -> decoder -> logits, with normalisation and padding inside."""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Norm = nn.modules.batchnorm._BatchNorm
"""Batch normalisation of any kind."""


class Detail(NamedTuple):
    """Prediction for a part of the picture alone (HRDA, Hoyer et al. 2022)."""

    logits: Tensor
    """[N, C, h', w'] at the decoder's stride."""
    box: tuple[int, int, int, int]
    """Top, left, height, width of the part in pixels; multiples of the decoder's stride."""


class Maps(NamedTuple):
    """What one pass through a segmenter makes."""

    logits: Tensor
    """[N, C, h, w] at the decoder's stride"""
    fused: Tensor
    """[N, width, h, w], the decoder's features"""
    coarsest: Tensor
    """[N, channels, H / s, W / s], the encoder's last level"""
    detail: Detail | None = None


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
        self.features = width
        """Channels of what `maps` calls fused."""
        self.slow: tuple[str, ...] = ("encoder.",)
        """Beginnings of the names of parameters that learn with the encoder's rate."""
        self.mean = mean
        self.std = std
        # A decoder that refines beyond the encoder's finest level says so.
        finest: int = encoder.strides[0]  # type: ignore[assignment, index]
        self.output_stride: int = getattr(decoder, "output_stride", finest)
        self.stride: int = max(encoder.strides)  # type: ignore[arg-type]
        """Height and width must be multiples of this; `logits` and the exported graph pad by themselves."""

    fixed_norms = False
    """Whether batch normalisation takes its running statistics in training too, and leaves them."""

    @property
    def classifier(self) -> nn.Conv2d | None:
        """The convolution that makes the logits, whose bias shifts classes against each other."""
        return self.classify

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules() if mode and self.fixed_norms else ():
            if isinstance(module, Norm):
                module.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, H, W], H and W multiples of `stride` -> logits [N, C, h, w]."""
        return self.maps(pixels).logits

    def maps(self, pixels: Tensor) -> Maps:
        """As `forward`, with what training looks at on the way."""
        pyramid = self.encoder(pixels)
        fused = self.decoder(pyramid)
        return Maps(self.classify(self.dropout(fused)), fused, pyramid[-1])

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
    """What the training step sees, in float32."""

    logits: Tensor
    """[N, C, h, w] at the decoder's stride"""
    density: Tensor
    """[N, h, w] prediction of d = F[y, y](f[y]) (Li et al. 2025, section 3.4)"""
    coarsest: Tensor
    """[N, channels, H / s, W / s], the encoder's last level"""
    detail: Detail | None


class StudentNetwork(nn.Module):
    """A segmenter with the density head, which is used in training only and never exported."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.density = nn.Conv2d(segmenter.features, 1, 1)

    def forward(self, pixels: Tensor) -> TrainingOutput:
        """Normalised pixels [N, 3, H, W] -> logits and predicted density."""
        maps = self.segmenter.maps(pixels)
        detail = maps.detail and maps.detail._replace(logits=maps.detail.logits.float())
        density = self.density(maps.fused).squeeze(1)
        return TrainingOutput(maps.logits.float(), density.float(), maps.coarsest.float(), detail)


def labels_from_scores(scores: Tensor, stride: int, height: int, width: int) -> Tensor:
    """Scores [N, C, h, w] -> labels uint8 [N, height, width]: one bilinear upsampling, argmax, crop.

    The correction is not linear, so it comes before this step, at the decoder's stride.
    """
    if scores.device.type != "cpu":
        return _upsampled(scores, stride, height, width).argmax(1).byte()
    # There, C full pictures at once cost several times what one after the other does, which stays in cache.
    best = _upsampled(scores[:, :1], stride, height, width)[:, 0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8)
    for c in range(1, scores.shape[1]):
        other = _upsampled(scores[:, c : c + 1], stride, height, width)[:, 0]
        labels.masked_fill_(other > best, c)
        torch.maximum(best, other, out=best)
    return labels


def _upsampled(scores: Tensor, stride: int, height: int, width: int) -> Tensor:
    full = F.interpolate(scores, scale_factor=float(stride), mode="bilinear", align_corners=False)
    return full[:, :, :height, :width]
