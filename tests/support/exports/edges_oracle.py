"""Slow twins of adapt/data/values/edges.py: each pixel looked at on its own."""

import numpy as np


def around(values: np.ndarray, row: int, column: int, reach: int) -> list[tuple[int, int]]:
    """Places not farther than `reach` in rows and columns, the pixel's own included."""
    height, width = values.shape
    return [
        (y, x)
        for y in range(max(0, row - reach), min(height, row + reach + 1))
        for x in range(max(0, column - reach), min(width, column + reach + 1))
    ]


def straddled(values: np.ndarray, row: int, column: int) -> bool:
    beside = [values[place] for place in around(values, row, column, 1)]
    return bool(min(beside) < values[row, column] < max(beside))


def averaged(values: np.ndarray, row: int, column: int) -> bool:
    """Between its neighbours, and none of its own id beside it that is not."""
    alike = [p for p in around(values, row, column, 1) if values[p] == values[row, column]]
    return straddled(values, row, column) and all(straddled(values, *place) for place in alike)


def taken_back(values: np.ndarray) -> np.ndarray:
    result = values.copy()
    for row, column in np.ndindex(*values.shape):
        if not averaged(values, row, column):
            continue
        own = int(values[row, column])
        firm = [int(values[p]) for p in around(values, row, column, 2) if not averaged(values, *p)]
        if firm and min(firm) < own < max(firm):
            result[row, column] = min(firm) if own - min(firm) <= max(firm) - own else max(firm)
    return result
