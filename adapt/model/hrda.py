"""HRDA (Hoyer et al. 2022): context at half resolution and detail at full, fused by a learned attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.model.segmenter import IMAGENET_MEAN, IMAGENET_STD, Detail, Maps, Segmenter
from adapt.model.window import average_windows

Size = tuple[int, int]


class HrdaSegmenter(Segmenter):
    """The same encoder and decoder at two scales.

    In training the detail is a random part, half as high and half as wide as the picture; elsewhere the
    context alone answers. In evaluation the detail is the whole picture, in one piece or, with `window` set,
    in overlapping windows that are averaged.

    Args:
        attention: features -> [N, width, h, w], the decoder of the scale attention.
        others: as `Segmenter`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        attention: nn.Module,
        width: int,
        num_classes: int,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder, decoder, width, num_classes, mean, std, dropout)
        self.attention = attention
        self.weigh = nn.Conv2d(width, num_classes, 1)
        self.stride *= 2  # the context must fit the encoder as well
        self.window: Size | None = None
        """(height, width) in pixels of detail windows in evaluation; multiples of the encoder's stride."""

    def maps(self, pixels: Tensor) -> Maps:
        context = F.interpolate(pixels, scale_factor=0.5, mode="bilinear", align_corners=False)
        pyramid = self.encoder(context)
        fused = self.decoder(pyramid)
        coarse = _double(self.classify(self.dropout(fused)))
        attention = _double(self.weigh(self.attention(pyramid)).sigmoid())
        detail = self._part(pixels) if self.training else self._whole(pixels)
        stride = self.output_stride
        top, left, height, width = (side // stride for side in detail.box)
        inside = (..., slice(top, top + height), slice(left, left + width))
        if detail.logits.shape == coarse.shape:
            logits = torch.lerp(coarse, detail.logits, attention)
        else:
            logits = coarse.clone()
            logits[inside] = torch.lerp(coarse[inside], detail.logits, attention[inside])
        return Maps(logits, _double(fused), pyramid[-1], detail if self.training else None)

    def detailed(self, pixels: Tensor) -> Tensor:
        """Logits of the pixels at full resolution, without context."""
        logits: Tensor = self.classify(self.dropout(self.decoder(self.encoder(pixels))))
        return logits

    def _part(self, pixels: Tensor) -> Detail:
        """A random part, the same for the whole batch."""
        step = 2 * self.output_stride
        size = [side // 2 for side in pixels.shape[2:]]
        top, left = (int(torch.randint(half // step + 1, (), device="cpu")) * step for half in size)
        part = pixels[:, :, top : top + size[0], left : left + size[1]]
        return Detail(self.detailed(part), (top, left, size[0], size[1]))

    def _whole(self, pixels: Tensor) -> Detail:
        height, width = pixels.shape[2:]
        if self.window is None:
            return Detail(self.detailed(pixels), (0, 0, height, width))
        window = (min(self.window[0], height), min(self.window[1], width))
        step = (max(1, window[0] // 2), max(1, window[1] // 2))
        logits = average_windows(self.detailed, pixels, window, step, self.output_stride)
        return Detail(logits, (0, 0, height, width))


def _double(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
