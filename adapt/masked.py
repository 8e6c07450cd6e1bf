"""Masked image consistency (MIC, Hoyer et al. 2023): tell hidden parts of target pictures from the rest."""

import torch
from torch import Tensor


def random_mask(size: tuple[int, int, int], patch: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Squares to keep: bool [N, 1, H, W].

    Args:
        size: N, H, W.
        patch: side of a square in pixels; the last ones of a row or column are cut.
        ratio: probability that a square is masked.
        generator: of the draws, on its own device.
    """
    number, height, width = size
    grid = (number, 1, -(-height // patch), -(-width // patch))
    keep = torch.rand(grid, generator=generator, device=generator.device) >= ratio
    squares = keep.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return squares[:, :, :height, :width]
