"""Ids that resizing by averaging made at the edges of areas: told from others, and taken back.

Between areas of 3 and 7 an average is 4, 5 or 6, which may mean nothing, or another class. Such a pixel has
a smaller and a larger id beside it, and none of its own that has not; a true area has, unless it is one pixel
wide between two others.
"""

import cv2
import numpy as np

_SIDE = np.ones((3, 3), np.uint8)
_AROUND = np.ones((5, 5), np.uint8)
_LARGEST = 65535


def between_neighbours(labels: np.ndarray) -> np.ndarray:
    """bool [H, W]: ids [H, W] that look averaged: strictly between those beside them, and alone in that."""
    values = labels.astype(np.uint16)
    straddled = (cv2.erode(values, _SIDE) < values) & (values < cv2.dilate(values, _SIDE))
    rows, columns = np.nonzero(straddled)
    own = np.pad(values, 1, mode="edge")
    firm = np.pad(~straddled, 1, constant_values=False)
    supported = np.zeros(len(rows), bool)
    for y in range(3):
        for x in range(3):
            beside = rows + y, columns + x
            supported |= firm[beside] & (own[beside] == values[rows, columns])
    averaged = np.zeros(values.shape, bool)
    averaged[rows[~supported], columns[~supported]] = True
    return averaged


def taken_back(labels: np.ndarray) -> np.ndarray:
    """uint16 [H, W]: each such id replaced by the nearer one, in value, of the firm ids around it."""
    values = labels.astype(np.uint16)
    averaged = between_neighbours(values)
    below = cv2.erode(np.where(averaged, np.uint16(_LARGEST), values), _AROUND)
    above = cv2.dilate(np.where(averaged, np.uint16(0), values), _AROUND)
    nearer = np.where(values.astype(int) - below <= above.astype(int) - values, below, above)
    known = averaged & (below < values) & (values < above)  # else no firm id is on either side
    return np.where(known, nearer, values).astype(np.uint16)


def share_of_edges(labels: np.ndarray) -> float:
    """Of the pixels at edges, those that look averaged; 0 where there are no edges."""
    values = labels.astype(np.uint16)
    edges = cv2.erode(values, _SIDE) != cv2.dilate(values, _SIDE)
    return float(between_neighbours(values).sum() / max(1, edges.sum()))
