"""`last/`: what resuming needs, in one safetensors file per checkpoint, at most two of them.

Randomness needs no state: every iteration seeds its generators from the run's seed and its own number.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.run import part, prefixed, read_tensors, write_tensors

KEPT = 2


class Checkpoint(NamedTuple):
    """A checkpoint read back."""

    iteration: int
    """Iterations done when it was written."""
    tensors: dict[str, Tensor]
    scaler: dict[str, float]
    """State of the gradient scaler of fp16 training; empty otherwise."""


def save_checkpoint(
    folder: Path,
    iteration: int,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    scaler: dict[str, float],
) -> None:
    """Write last/NNNNNNN.safetensors atomically, then delete all but the newest two."""
    folder.mkdir(exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= prefixed(name, module.state_dict())
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= prefixed(f"optimizer.{index}", state)
    metadata = {"iteration": str(iteration), "scaler": json.dumps(scaler)}
    write_tensors(folder / f"{iteration:07d}.safetensors", tensors, metadata)
    for old in _checkpoints(folder)[KEPT:]:
        old.unlink()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint.

    Raises:
        InputError: there is none, or it is damaged.
    """
    paths = _checkpoints(folder)
    if not paths:
        raise InputError(f"{folder} holds no checkpoint to resume from; start again with --force.")
    tensors = read_tensors(paths[0])
    try:
        with safe_open(paths[0], framework="pt") as file:
            metadata = file.metadata()
        return Checkpoint(int(metadata["iteration"]), tensors, json.loads(metadata["scaler"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{paths[0]} is not a checkpoint of ours ({error}); delete it to use the one before."
        ) from error


def restore(checkpoint: Checkpoint, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors back.

    Raises:
        InputError: the checkpoint is of another network.
    """
    try:
        for name, module in modules.items():
            module.load_state_dict(part(checkpoint.tensors, name))
    except RuntimeError as error:
        raise InputError(
            "the checkpoint does not fit the network of these settings "
            f"({' '.join(str(error).split())[:200]}); resume with the settings it was trained with."
        ) from error
    state = optimizer.state_dict()
    count = sum(len(group["params"]) for group in state["param_groups"])
    stored = part(checkpoint.tensors, "optimizer")
    # Parameters that never had a gradient have no optimiser state.
    state["state"] = {index: values for index in range(count) if (values := part(stored, str(index)))}
    optimizer.load_state_dict(state)


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("[0-9]*.safetensors"), reverse=True)
