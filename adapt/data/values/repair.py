"""Label files whose values were changed by resizing or by JPEG: told from others, and read."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adapt.data.images import read_labels
from adapt.data.label_codes import LabelCode, values_in
from serve.media.images import read_image

_MANY = 30  # colours without a meaning, from which on they are no oversight
_NEAR = 0.5  # of the pixels, that must be within the distance of a class's colour
_LOSSY = frozenset({".jpg", ".jpeg", ".webp"})


def read_any_labels(path: Path) -> np.ndarray:
    """The values in a label file, JPEG ones as their colours. Raises InputError as `read_labels` does."""
    return read_image(path) if path.suffix.lower() in _LOSSY else read_labels(path)


def describe_damage(labels: Iterable[np.ndarray], code: LabelCode) -> str | None:
    """What was done to label files with values without a meaning, and what to do; None if unknown."""
    arrays = list(labels)
    if all(each.ndim == 3 for each in arrays):
        unknown = {value for each in arrays for value in values_in(each)} - set(code.colors)
        repaired = code.repaired()
        left = np.mean([np.mean(repaired.distances(each) > repaired.nearest) for each in arrays])
        if len(unknown) >= _MANY and left <= _NEAR:
            return (
                f"they hold {len(unknown)} other colours, most of them near those of classes, as JPEG or "
                "resizing makes them: take the files as they were labelled, or --repair-labels nearest"
            )
        return None
    found = {value for each in arrays if each.ndim == 2 for value in np.unique(each).tolist()}
    between = sorted(found - set(code.ids))
    known = found & set(code.ids)
    inside = known and between and min(known) < between[0] and between[-1] < max(known)
    if inside and _at_edges(arrays, between):
        return (
            "these ids lie between those of their neighbours, as resizing by averaging makes them: take the "
            "files as they were labelled, or --repair-labels nearest"
        )
    return None


def _at_edges(arrays: Iterable[np.ndarray], values: list[int]) -> bool:
    """Whether every such pixel lies beside a smaller and a larger value."""
    for labels in arrays:
        rows, columns = np.nonzero(np.isin(labels, values))
        padded = np.pad(labels.astype(np.int64), 1, mode="edge")
        around = np.stack([padded[rows + y, columns + x] for y in range(3) for x in range(3)])
        here = labels[rows, columns].astype(np.int64)
        if not ((around.min(0) < here) & (around.max(0) > here)).all():
            return False
    return True
