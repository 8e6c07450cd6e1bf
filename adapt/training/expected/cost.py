"""Memory and time that a training is expected to take here, and how much memory there is."""

from typing import NamedTuple

import torch

from adapt.config.settings import Config
from adapt.model.device import best_device
from adapt.model.segmenter import Segmenter
from adapt.training.expected.work import FORWARD_AND_BACKWARD, count_work, time_pass, timed_crop
from adapt.training.failures import SHARE_OF_HALF, SHARE_RECOMPUTED
from adapt.training.step import terms_of
from serve.media.memory import available

FORWARD = 1 / FORWARD_AND_BACKWARD
"""Of a pass forward and backward, the share that is forward."""
STATES = 4
"""Copies of the weights: themselves, gradients, and two moments of the optimiser."""
AROUND = 0.6 * 2**30
"""Bytes of the process itself, before any network."""
MARGIN = 1.6
"""Of the activations: what gradients on their way back and single operations take besides. On a CPU, a step
of a small ResNet took 1.8 times its activations, and one of MiT-B0 1.5 times."""
SPEED_OF_HALF = 0.6
"""Time of mixed precision on a GPU, of that in float32."""


class Cost(NamedTuple):
    """What is expected of a training on this machine."""

    memory: float | None
    """Bytes at the peak, of the GPU or of the process; None where the network does not say."""
    free: int | None
    """Bytes that are free there now; None where the system does not say."""
    seconds: float | None
    """Of one iteration; None where the network does not say."""
    device: str
    """Where it is computed."""


def expected_memory(config: Config, segmenter: Segmenter) -> float | None:
    """Bytes at the peak of a training; None where the network does not tell its shapes."""
    training, method = config.training, config.method
    work = count_work(segmenter, training.batch, config.data.crop)
    if work is None:
        return None
    weights = sum(each.numel() * each.element_size() for each in segmenter.parameters())
    encoder = sum(each.numel() * each.element_size() for each in segmenter.encoder.parameters())
    copies = STATES + method.self_training
    fixed = weights * copies + encoder * (method.feature_distance > 0)
    share = 1.0
    if training.precision != "fp32":
        share *= SHARE_OF_HALF
    if training.recompute_activations:
        share *= SHARE_RECOMPUTED
    return AROUND + fixed + MARGIN * share * work.activations


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take: of the GPU if there is one, else of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available() if device.type == "cpu" else None


def expected_seconds(config: Config, segmenter: Segmenter, device: torch.device) -> float | None:
    """Seconds of one iteration: of passes timed on a small crop, in proportion to their operations."""
    batch, crop = config.training.batch, config.data.crop
    whole = count_work(segmenter, batch, crop)
    small = timed_crop(segmenter, batch, crop) if device.type == "cpu" else crop
    part = count_work(segmenter, batch, small)
    if whole is None or part is None:
        return None
    try:
        seconds = time_pass(segmenter, batch, small, device) * whole.operations / part.operations
    except torch.OutOfMemoryError:
        return None
    if config.training.precision != "fp32" and device.type != "cpu":
        seconds *= SPEED_OF_HALF
    return seconds * passes(config) * config.training.accumulate


def passes(config: Config) -> float:
    """Passes forward and backward of a batch; those of the teacher and a frozen encoder count as a part."""
    method = config.method
    forward = method.self_training + (method.feature_distance > 0)
    again = FORWARD if config.training.recompute_activations else 0
    return len(terms_of(method)) * (1 + again) + FORWARD * forward


def expected_cost(config: Config, segmenter: Segmenter) -> Cost:
    """Memory and time of a training on the device that it will be on."""
    device = best_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(device)
    memory, free = expected_memory(config, segmenter), free_memory(device)
    return Cost(memory, free, expected_seconds(config, segmenter, device), name)


def _cpu(device: torch.device) -> str:
    threads = torch.get_num_threads()
    return f"{threads} CPU core{'s' * (threads > 1)}" if device.type == "cpu" else device.type


def describe_cost(cost: Cost, iterations: int) -> str:
    """One line."""
    if cost.memory is None:
        return (
            f"expected on {cost.device}: unknown before the first step, since this encoder needs real numbers"
        )
    memory = f"about {gigabytes(cost.memory)} of memory"
    if cost.free is not None:
        memory += f" ({gigabytes(cost.free)} are free)"
        if cost.memory > cost.free:
            memory += ", which is not enough"
    if cost.seconds is None:
        return f"expected on {cost.device}: {memory}"
    return (
        f"expected on {cost.device}: {memory}, {duration(cost.seconds * iterations)} ({speed(cost.seconds)})"
    )


def gigabytes(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


def duration(seconds: float) -> str:
    """In the unit that a person would use."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} minutes"
    hours = seconds / 3600
    return f"about {round(hours)} hours" if hours < 48 else f"about {round(hours / 24)} days"


def speed(seconds: float) -> str:
    """Of one iteration."""
    return f"{seconds:.2g} s per iteration" if seconds >= 1 else f"{1 / seconds:.2g} iterations per second"
