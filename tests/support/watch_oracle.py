"""Slow, obvious twins of what is watched in self-training without labels: loops over the labels of pixels."""

import math
from collections.abc import Sequence

Counts = list[list[float]]


def running_counts(
    batches: Sequence[tuple[Sequence[int], Sequence[int]]], classes: int, memory: int
) -> Counts:
    """Mean number of pixels that the teacher calls y (row) and the student l (column), of batches of both.

    The newest batch weighs 1 / its number, and 1 / memory from then on.
    """
    mean = [[0.0] * classes for _ in range(classes)]
    for number, (teacher, student) in enumerate(batches, 1):
        share = max(1 / number, 1 / memory)
        for y in range(classes):
            for l in range(classes):
                pairs = zip(teacher, student, strict=True)
                fresh = sum(1 for said, seen in pairs if said == y and seen == l)
                mean[y][l] = (1 - share) * mean[y][l] + share * fresh
    return mean


def agreement(counts: Counts) -> float:
    """Mean over the classes of intersection over union of both labellings; 0 for a class that neither has."""
    classes = range(len(counts))
    total = 0.0
    for c in classes:
        either = sum(counts[c]) + sum(counts[y][c] for y in classes) - counts[c][c]
        total += counts[c][c] / either if either > 0 else 0.0
    return total / len(counts)


def sum_abs_bias(counts: Counts) -> float:
    """Sum of |Bias(l)|, the teacher's labels taken for true; classes that it never says are no rows."""
    rows = [c for c in range(len(counts)) if sum(counts[c]) > 0]
    total = 0.0
    for l in range(len(counts)):
        said = sum(counts[c][l] / sum(counts[c]) for c in rows) / len(rows)
        total += abs(said - (1 / len(rows) if l in rows else 0.0))
    return total


def class_weights(labels: Sequence[int], confident: Sequence[bool]) -> list[float]:
    """Weight of every pixel of a picture: the share of confident ones among those of its label."""
    result = []
    for label in labels:
        own = [sure for other, sure in zip(labels, confident, strict=True) if other == label]
        result.append(sum(own) / len(own))
    return result


def favour(counts: Counts, temperature: float, least: float) -> list[float]:
    """How much each class is favoured in pasting: exp(-(share + C * Bias) / T), the most favoured one 1."""
    classes = range(len(counts))
    rows = [c for c in classes if sum(counts[c]) > 0]
    needs = []
    for c in classes:
        said = sum(counts[y][c] / sum(counts[y]) for y in rows) / len(rows)
        bias = said - (1 / len(rows) if c in rows else 0.0)
        share = sum(counts[c]) / sum(map(sum, counts))
        needs.append(-(share + len(counts) * bias) / temperature)
    return [max(least, math.exp(need - max(needs))) for need in needs]
