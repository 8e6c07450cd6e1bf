"""Files altered key by key or tensor by tensor, and the one sentence that refuses them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click import ClickException
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every key of nested dicts and lists, except what a `transformers` configuration holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        if (*path, key) != ("model", "encoder"):
            yield from paths(inner, (*path, key))


def changed(card: Any, path: tuple[str | int, ...], change: str) -> Any:
    """A copy with one key removed, null, or of a wrong type."""
    copy = json.loads(json.dumps(card))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    if change == "removed":
        del holder[path[-1]]
    else:
        holder[path[-1]] = {"null": None, "wrong": [["?"]] if not isinstance(old, list) else "?"}[change]
    return copy


def sentence(error: ClickException, *words: str) -> None:
    assert "\n" not in error.message and error.message.endswith("."), error.message
    for word in words:
        assert word in error.message, error.message


def refused(work: Callable[[], object], *words: str) -> None:
    with pytest.raises(ClickException) as error:  # adapt's InputError, or that of serve
        work()
    assert error.value.exit_code == 2
    sentence(error.value, *words)


def alter(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    change(tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file, metadata)
