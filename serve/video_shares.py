"""Each class's share of every frame, as a CSV table."""

import csv
from pathlib import Path
from typing import Self

from serve.card import Card
from serve.files import replacing
from serve.render import shares
from serve.segmenter import Labels


class ShareTable:
    """A CSV file being written: frame, seconds, then one column per class with its share of the pixels."""

    def __init__(self, path: Path, card: Card) -> None:
        self._card = card
        self._replacing = replacing(path)

    def write(self, frame: int, seconds: float, labels: Labels) -> None:
        """Append a row for labels [H, W] of the frame with this number, counted from 0."""
        parts = shares(labels, len(self._card.classes))
        self._table.writerow([frame, f"{seconds:.6f}", *(f"{part:.6f}" for part in parts)])

    def __enter__(self) -> Self:
        self._file = self._replacing.__enter__().open("w", newline="")
        self._table = csv.writer(self._file)
        self._table.writerow(["frame", "seconds", *self._card.classes])
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
        self._replacing.__exit__(*failure)  # type: ignore[arg-type]
