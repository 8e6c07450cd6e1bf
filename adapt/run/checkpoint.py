"""`last/`: what resuming needs, in one safetensors file per checkpoint, at most two of them.

Randomness needs no state: every iteration seeds its generators from the run's seed and its own number.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import BaseModel, Json, NonNegativeInt, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.run.cards import problem
from adapt.run.run import part, prefixed, read_tensors, write_tensors

KEPT = 2


class _Metadata(BaseModel):
    """Texts in the file's header."""

    iteration: NonNegativeInt
    scaler: Json[dict[str, int | float]]  # PyTorch takes no float for a whole number


class Checkpoint(NamedTuple):
    """A checkpoint read back."""

    iteration: int
    """Iterations done when it was written."""
    tensors: dict[str, Tensor]
    scaler: dict[str, int | float]
    """State of the gradient scaler of fp16 training; empty otherwise."""


def save_checkpoint(
    folder: Path,
    iteration: int,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    scaler: dict[str, int | float],
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


def has_checkpoint(folder: Path) -> bool:
    """Whether there is one to resume from; a kill may leave a first one in the making."""
    return bool(_checkpoints(folder))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint.

    Raises:
        InputError: there is none, or it is damaged.
    """
    paths = _checkpoints(folder)
    if not paths:
        raise InputError(f"{folder} holds no checkpoint to resume from; start again with --force.")
    try:
        with safe_open(paths[0], framework="pt") as file:
            metadata = _Metadata.model_validate(file.metadata() or {})
        return Checkpoint(metadata.iteration, read_tensors(paths[0]), metadata.scaler)
    except ValidationError as error:
        raise _unusable(paths[0], problem(error)) from error
    except SafetensorError as error:
        raise _unusable(paths[0], str(error)) from error


def _unusable(path: Path, why: str) -> InputError:
    return InputError(f"{path} is not a whole checkpoint of ours ({why}); delete it to use the one before.")


def restore(checkpoint: Checkpoint, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors back.

    Raises:
        InputError: the checkpoint is of another network.
    """
    state = optimizer.state_dict()
    try:
        for name, module in modules.items():
            module.load_state_dict(part(checkpoint.tensors, name))
        state["state"] = _moments(part(checkpoint.tensors, "optimizer"), optimizer)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "the checkpoint does not fit the network of these settings "
            f"({' '.join(str(error).split())[:200]}); resume with the settings it was trained with."
        ) from error
    optimizer.load_state_dict(state)


def resumed_modules(checkpoint: Checkpoint, modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules to put back: all but the watch where a checkpoint is of a version that had none."""
    watched = bool(part(checkpoint.tensors, "watch"))
    return {name: module for name, module in modules.items() if watched or name != "watch"}


def _moments(stored: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """AdamW's state by parameter, which it takes as it is and stumbles over later.

    Raises:
        ValueError: it is not that of these parameters.
    """
    moments = {}
    for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        values = part(stored, str(index))
        if not values:  # parameters that never had a gradient
            continue
        shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        if {name: tuple(value.shape) for name, value in values.items()} != shapes:
            raise ValueError(f"optimizer.{index} is not the state of a parameter {list(parameter.shape)}")
        moments[index] = values
    return moments


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("[0-9]*.safetensors"), reverse=True)
