"""The processes of a training: how `accelerate launch` or torchrun set them up, and whether they agree."""

import zlib
from collections.abc import Sequence

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from adapt.config.settings import Config
from adapt.errors import InputError
from adapt.model.device import best_device


def new_accelerator(config: Config) -> Accelerator:
    """Device, precision and ranks, as `accelerate launch` or torchrun set them up."""
    precision = config.training.precision
    # The density head has no gradient unless the density is regressed.
    unused = not config.method.online or config.method.density_weight == 0
    return Accelerator(
        cpu=best_device().type == "cpu",  # without this, torchrun on CPUs would start strangers, not ranks
        mixed_precision="no" if precision == "fp32" else precision,
        dynamo_backend="inductor" if config.training.compile else None,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )


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
