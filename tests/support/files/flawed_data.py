"""Small data with every flaw that a look is to find, made so that all counts are known."""

import shutil
from pathlib import Path

import numpy as np

from adapt.data.images import write_png

CLASSES = """ignore: 255
classes:
  - {id: 0, name: road, color: [128, 64, 128]}
  - {id: 1, name: sky, color: [70, 130, 180]}
  - {id: 2, name: train, color: [0, 80, 100]}
"""
COLORS = {"a": (200, 100, 50), "b": (100, 100, 100), "c": (0, 50, 250)}
"""Of the source's pictures, each in one colour."""
SIZES = {"a": (20, 40), "b": (20, 40), "c": (10, 10)}
"""Height and width."""
ROAD = {"a": 400, "b": 100, "c": 0}
IGNORED = {"a": 0, "b": 60, "c": 100}
"""Pixels; the rest is sky."""
TARGET = (50, 60, 20)


def sound(root: Path) -> Path:
    """root/{source,target,evaluation} and root/classes.yaml without a flaw."""
    (root / "classes.yaml").write_text(CLASSES)
    for name, (height, width) in SIZES.items():
        labels = np.ones(height * width, np.uint8)
        labels[: ROAD[name]] = 0
        labels[len(labels) - IGNORED[name] :] = 255
        _pair(root / "source", name, COLORS[name], labels.reshape(height, width))
    for name, width in (("t0", 32), ("t1", 40)):
        _picture(root / "target" / f"{name}.png", TARGET, (24, width))
    _pair(root / "evaluation", "e", (90, 90, 90), np.zeros((24, 32), np.uint8))
    return root


def flawed(root: Path) -> Path:
    """The same with a broken picture, pictures and labels that are alone, and copies to evaluate on."""
    sound(root)
    source, evaluation = root / "source", root / "evaluation"
    _pair(source, "broken", (1, 2, 3), np.zeros((20, 40), np.uint8))
    picture = source / "images" / "broken.png"
    picture.write_bytes(picture.read_bytes()[:-20])
    _picture(source / "images" / "alone.png", (9, 9, 9), (20, 40))
    write_png(source / "labels" / "surplus.png", np.zeros((4, 4), np.uint8))
    shutil.copy(source / "images" / "a.png", evaluation / "images" / "other_name.png")
    shutil.copy(source / "labels" / "a.png", evaluation / "labels" / "other_name.png")
    shutil.copy(root / "target" / "t1.png", evaluation / "images" / "t1.png")
    write_png(evaluation / "labels" / "t1.png", np.zeros((24, 40), np.uint8))
    return root


def arguments(root: Path) -> list[str]:
    """Options of `adapt check` and `adapt train` about it."""
    return [
        *("--source", str(root / "source"), "--target", str(root / "target")),
        *("--evaluate", str(root / "evaluation")),
    ]


def _pair(folder: Path, name: str, color: tuple[int, int, int], labels: np.ndarray) -> None:
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    _picture(folder / "images" / f"{name}.png", color, labels.shape)
    write_png(folder / "labels" / f"{name}.png", labels)


def _picture(path: Path, color: tuple[int, int, int], size: tuple[int, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.broadcast_to(np.array(color, np.uint8), (*size, 3)).copy())
