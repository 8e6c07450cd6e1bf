"""The processes of a training: how `accelerate launch` or torchrun set them up, and whether they agree."""

import os
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from torch import Tensor

from adapt.config.settings import Config
from adapt.errors import InputError
from adapt.model.device import best_device
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
    # The density head has no gradient unless the density is regressed.
    unused = not config.method.online or config.method.density_weight == 0
    return Accelerator(
        cpu=best_device().type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        dynamo_backend="inductor" if config.training.compile else None,
        log_with=others(config) or None,
        project_dir=folder,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )


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
