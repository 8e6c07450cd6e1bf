"""The processes of a training: how `accelerate launch` or torchrun set them up, and whether they agree."""

import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from torch import Tensor

from adapt.augmentation.pairs import Pair, TrainingPairs, new_loader
from adapt.config.settings import Config, Training
from adapt.errors import InputError
from adapt.model.device import best_device, peak_memory
from adapt.training.watching.trackers import others


def join_ranks() -> None:
    """Meet the other ranks, where `accelerate launch` or torchrun started some; a second call does nothing.

    Ranks that share a GPU exchange through gloo: NCCL wants a GPU for each.
    """
    if dist.is_initialized():
        return
    cpu = best_device().type == "cpu"  # without this, torchrun on CPUs would start strangers, not ranks
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if not 0 < gpus < here:
        PartialState(cpu=cpu)
        return
    # accelerate would give rank 1 to GPU 1 in DistributedDataParallel, whatever device it chose before.
    os.environ["ACCELERATE_BYPASS_DEVICE_MAP"] = "true"
    if os.environ.get("RANK", "0") == "0":
        print(
            f"{here} ranks share {gpus} GPU{'s' * (gpus > 1)} here, which is slower than one for each GPU; "
            f"better start {gpus} and raise training.batch or training.accumulate.",
            file=sys.stderr,
        )
    PartialState(cpu=cpu, backend="gloo")


def new_accelerator(config: Config, folder: Path | None = None) -> Accelerator:
    """Device, precision and ranks, as `accelerate launch` or torchrun set them up; trackers have `folder`."""
    join_ranks()
    precision = config.training.precision
    # The density head has no gradient unless the density is regressed; others' networks may have more heads.
    unused = not config.method.online or config.method.density_weight == 0 or config.model.start is not None
    return Accelerator(
        cpu=best_device().type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        dynamo_backend="inductor" if config.training.compile else None,
        log_with=others(config) or None,
        project_dir=folder,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )


class Feed:
    """Batches of the remaining iterations, on the device; ranks share out consecutive pairs.

    Args:
        pairs: all of them.
        config: batch, accumulate, iterations, workers.
        first: iterations done.
        ranks: the processes.
    """

    def __init__(self, pairs: TrainingPairs, config: Config, first: int, ranks: Accelerator) -> None:
        self._left = range(first, config.training.iterations)
        self._together = config.training.accumulate
        self._device = ranks.device
        place = (ranks.process_index, ranks.num_processes, ranks.device.type == "cuda")
        self._loader = new_loader(pairs, config, first, *place)
        self.waited = 0.0
        """Seconds that steps waited for data."""

    def __iter__(self) -> Iterator[list[Pair]]:
        read = iter(self._loader)
        for _ in self._left:
            asked = time.monotonic()
            pairs = [next(read) for _ in range(self._together)]
            self.waited += time.monotonic() - asked
            yield [Pair(*(t.to(self._device, non_blocking=True) for t in pair)) for pair in pairs]


def greatest_of(ranks: Accelerator) -> Callable[[Tensor], Tensor]:
    """What takes the elementwise maximum of a tensor over the ranks."""
    return lambda own: ranks.gather(own[None]).amax(0)


def on_any(ranks: Accelerator, flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    if ranks.num_processes == 1:
        return flag
    return bool(ranks.reduce(torch.tensor(float(flag), device=ranks.device)) > 0)


def check_ranks(ranks: Accelerator, seen: Sequence[str]) -> None:
    """Refuse ranks that see other settings or other data.

    Args:
        ranks: the processes.
        seen: settings and names of pictures, as this rank sees them.

    Raises:
        InputError: on every rank alike.
    """
    if ranks.num_processes == 1:
        return
    own = torch.tensor([zlib.crc32("\n".join(seen).encode())], device=ranks.device)
    marks = ranks.gather(own).tolist()
    if len(set(marks)) > 1:
        odd = [str(rank) for rank, mark in enumerate(marks) if mark != marks[0]]
        raise InputError(
            f"rank {', '.join(odd)} sees other settings or pictures than rank 0; give every machine the "
            "same run folder and the same data under the same paths."
        )


def say_cost(training: Training, iterations: int, seconds: float, waited: float) -> None:
    """One line about a training.

    Args:
        training: its settings.
        iterations: of all ranks together; nothing is said of none.
        seconds: that they took.
        waited: how many of these for data.
    """
    if not iterations:
        return
    images = 2 * iterations * training.batch * training.accumulate
    memory = peak_memory() / 2**30
    print(
        f"{images / seconds:.1f} images/s, peak memory {memory:.1f} GiB, "
        f"{waited / seconds:.1%} of the time waiting for data",
        file=sys.stderr,
    )
