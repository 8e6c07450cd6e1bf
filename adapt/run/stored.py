"""What a run keeps in tensors and arrays, read back and held against what its card says."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from adapt.run.cards import altered


def stored_statistics(state: dict[str, Tensor], classes: int) -> ShiftStatistics:
    """The statistics of a shift from `ShiftStatistics.state`, all there and in the shapes of C classes.

    Args:
        state: the tensors.
        classes: C.

    Raises:
        ValueError: names the tensor, and what is wrong with it.
    """
    shapes: dict[str, tuple[int | None, ...]] = {"seen": (classes,), "eps": ()}
    shapes |= {f"rows.{name}": (classes, classes, None) for name in Mixture._fields}
    shapes |= {f"anchors.{name}": (2, None) for name in Mixture._fields}
    for name, shape in shapes.items():
        if name not in state:
            raise ValueError(f"{name} is missing")
        found = tuple(state[name].shape)
        if len(found) != len(shape) or any(w not in (None, f) for f, w in zip(found, shape, strict=True)):
            wanted = ["K" if side is None else side for side in shape]
            raise ValueError(f"{name} has the shape {list(found)}, for {classes} classes it is {wanted}")
        if not bool(torch.isfinite(state[name]).all()):
            raise ValueError(f"{name} holds what is no number")
    for part in ("rows", "anchors"):
        counts = {state[f"{part}.{name}"].shape[-1] for name in Mixture._fields}
        if len(counts) > 1:
            raise ValueError(f"the parameters of {part} disagree on the number of Gaussians")
        if not bool((state[f"{part}.variances"] > 0).all()):
            raise ValueError(f"{part}.variances are not all above 0")
    if not 0 < float(state["eps"]) < 0.5:
        raise ValueError(f"eps is {float(state['eps']):g}, which is not between 0 and 0.5")
    if "excluded" in state and tuple(state["excluded"].shape) != (classes,):
        raise ValueError(f"excluded has the shape {list(state['excluded'].shape)}, not [{classes}]")
    if "excluded" in state and state["excluded"].dtype != torch.bool:
        raise ValueError(f"excluded is {state['excluded'].dtype}, not bool")
    if "logit_range" in state and tuple(state["logit_range"].shape) != (2,):
        raise ValueError(f"logit_range has the shape {list(state['logit_range'].shape)}, not [2]")
    read = ShiftStatistics.from_state(state)
    low, high = read.logit_range
    if not (-math.inf < low < high < math.inf and 0 <= read.outside <= 1):
        raise ValueError(f"logit_range is {low:g} to {high:g}, with a share of {read.outside:g} outside")
    if read.excluded is not None and int((~read.excluded).sum()) < 2:
        raise ValueError("all classes but one are excluded")
    return read


def read_class_pixels(path: Path, classes: int) -> np.ndarray:
    """Pixels of each class in each source picture, integers [images, C], as the label check counted them.

    Raises:
        InputError: missing, cut off, or of another shape or type.
    """
    try:
        pixels = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise altered(path, "it is missing") from error
    except (ValueError, EOFError) as error:
        raise altered(path, " ".join(str(error).split())[:100]) from error
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.dtype.kind not in "iu":
        raise altered(path, "it holds no table of whole numbers")
    if pixels.shape[1] != classes or pixels.min(initial=0) < 0:
        raise altered(path, f"it holds counts of {pixels.shape[1]} classes, card.json lists {classes}")
    return pixels
