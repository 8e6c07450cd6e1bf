"""The work of one pass forward and backward: counted from shapes, and timed on a small crop."""

import copy
import time
from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from adapt.model.segmenter import Segmenter

FORWARD_AND_BACKWARD = 3
"""Operations of both, of those of the forward pass: backward, each layer has two products for its one."""
SMALL = 2e10
"""Operations of the pass that is timed on a CPU, at most, where a smaller crop allows it: below a second."""
FEWEST, MOST, LONGEST = 2, 8, 3.0
"""Passes that are timed, and seconds after which there are no more than the fewest."""


class Work(NamedTuple):
    """Of one pass, forward and backward, through a batch of crops, with the loss at the crop's size."""

    operations: int
    """Of floating point."""
    activations: int
    """Bytes that are kept for the backward pass, in float32."""


def count_work(segmenter: Segmenter, batch: int, crop: tuple[int, int]) -> Work | None:
    """Counted from shapes alone, so that it takes neither memory nor time.

    None for a network of one's own whose code needs real numbers.
    """
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # kept, so that no later one gets its address
        return tensor

    named = list(chain(segmenter.named_parameters(), segmenter.named_buffers()))
    shapes = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)
        for name, tensor in named
    }
    own = {tensor.untyped_storage()._cdata for tensor in shapes.values()}
    counter = FlopCounterMode(display=False)
    was_training = segmenter.training
    segmenter.train()
    try:
        saved = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with torch.random.fork_rng(devices=[]), counter, saved:
            _loss(lambda pixels: functional_call(segmenter, shapes, pixels), batch, crop, "meta")
    except Exception:
        return None
    finally:
        segmenter.train(was_training)
    activations = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
    return Work(FORWARD_AND_BACKWARD * counter.get_total_flops(), activations)


class Clocks(NamedTuple):
    """Seconds of the wall clock, of this thread and of this process, since some moment."""

    wall: float
    thread: float
    process: float

    @classmethod
    def now(cls) -> "Clocks":
        return cls(time.monotonic(), time.thread_time(), time.process_time())

    def seconds_since(self, began: "Clocks", threads: int) -> float:
        """What the same work takes where nothing else wants the processors, in this many threads.

        The thread that hands the work out is busy all the time then, and no thread works longer than it.
        """
        wall, thread, process = (end - start for start, end in zip(began, self, strict=True))
        return min(wall, max(thread, process / threads))


def time_pass(segmenter: Segmenter, batch: int, crop: tuple[int, int], device: torch.device) -> float:
    """Seconds of one pass on a device, forward and backward, in float32; the network stays as it was.

    Of several the least; on a CPU, time in which others had it is not counted.

    Raises:
        torch.OutOfMemoryError: the device has not enough memory.
    """
    devices = [device] if device.type == "cuda" else []
    started = time.monotonic()
    with torch.random.fork_rng(devices=devices):
        network = copy.deepcopy(segmenter).to(device).train()
        taken: list[float] = []
        while len(taken) < FEWEST or (len(taken) < MOST and time.monotonic() - started < LONGEST):
            began = Clocks.now()  # the first pass also prepares kernels
            torch.autograd.backward(_loss(network, batch, crop, device))
            if device.type == "cpu":
                taken.append(Clocks.now().seconds_since(began, torch.get_num_threads()))
            else:
                torch.accelerator.synchronize()
                taken.append(time.monotonic() - began.wall)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # a training says its own peak
    return min(taken)


def _loss(
    network: Callable[[Tensor], Tensor], batch: int, crop: tuple[int, int], device: str | torch.device
) -> Tensor:
    logits = network(torch.zeros(batch, 3, *crop, device=device))
    full = F.interpolate(logits.float(), size=crop, mode="bilinear", align_corners=False)
    return F.cross_entropy(full, torch.zeros(batch, *crop, dtype=torch.int64, device=device))


def timed_crop(segmenter: Segmenter, batch: int, crop: tuple[int, int]) -> tuple[int, int]:
    """A crop of the same shape, or a smaller one, whose pass is short; in multiples of the stride."""
    stride = segmenter.stride
    while max(crop) > 2 * stride:
        work = count_work(segmenter, batch, crop)
        if work is None or work.operations <= SMALL:
            break
        crop = tuple(max(stride, side // 2 // stride * stride) for side in crop)  # type: ignore[assignment]
    return crop
