"""Small folders of pictures and labels, and how one of them is refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from adapt.data.classes import ClassList
from adapt.data.images import write_png
from adapt.errors import InputError

CLASSES = ClassList(("road", "sky", "car"), (0, 1, 2), ((128, 64, 128), (70, 130, 180), (0, 0, 142)), (255,))


def picture(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def label_ids(height: int = 24, width: int = 32) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return ((rows // 5 + columns // 7) % 3).astype(np.uint8)


def make_folder(root: Path, names: Sequence[str] = ("a", "b", "c"), images="images", labels="labels") -> Path:
    (root / images).mkdir(parents=True)
    (root / labels).mkdir()
    for number, name in enumerate(names):
        write_png(root / images / f"{name}.png", picture(seed=number))
        write_png(root / labels / f"{name}.png", label_ids())
    return root


def refused(error: pytest.ExceptionInfo[InputError], *parts: object) -> None:
    """One sentence without line breaks, exit code 2, that mentions the parts."""
    message = error.value.message
    assert error.value.exit_code == 2
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
