"""Each class's share of every frame, as a table in CSV or Parquet."""

import csv
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from serve.card import Card
from serve.errors import InputError
from serve.images.render import shares
from serve.inference.segmenter import Labels

Format = Literal["csv", "parquet"]

_ROWS = 10_000
"""Rows of a Parquet file that are held in memory until they are written."""


class ShareTable(Protocol):
    """A table being written: frame, seconds, then one column per class with its share of the pixels."""

    def write(self, frame: int, seconds: float, labels: Labels) -> None:
        """Append a row for labels [H, W] of the frame with this number, counted from 0."""

    def close(self) -> None:
        """Write what is left."""


def shares_file(target: Path, form: Format) -> Path:
    """Where the table of class shares of an output goes: clip.mp4 -> clip.shares.csv."""
    return target.with_name(f"{target.stem}.shares.{form}")


def share_table(path: Path, card: Card) -> ShareTable:
    """A new table in the format that its suffix says."""
    return (_Parquet if path.suffix == ".parquet" else _Csv)(path, card.classes)


def require_parquet() -> None:
    """Raise InputError unless Parquet can be written here."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InputError(
            "pyarrow, which writes Parquet, is not installed; run `pip install 'blda[parquet]'` or take "
            "--shares csv."
        ) from error


class _Csv:
    """Six decimals."""

    def __init__(self, path: Path, classes: tuple[str, ...]) -> None:
        self._classes = len(classes)
        self._file = path.open("w", newline="", buffering=1)  # a row is on the disk at once
        self._table = csv.writer(self._file)
        self._table.writerow(["frame", "seconds", *classes])

    def write(self, frame: int, seconds: float, labels: Labels) -> None:
        parts = shares(labels, self._classes)
        self._table.writerow([frame, f"{seconds:.6f}", *(f"{part:.6f}" for part in parts)])

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """frame int64, seconds float64, shares float32."""

    def __init__(self, path: Path, classes: tuple[str, ...]) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        self._arrow = pyarrow
        self._classes = len(classes)
        share_fields = [(name, pyarrow.float32()) for name in classes]
        self._schema = pyarrow.schema(
            [("frame", pyarrow.int64()), ("seconds", pyarrow.float64()), *share_fields]
        )
        self._writer = ParquetWriter(path, self._schema)
        self._held: list[tuple[int, float, Any]] = []

    def write(self, frame: int, seconds: float, labels: Labels) -> None:
        self._held.append((frame, seconds, shares(labels, self._classes)))
        if len(self._held) == _ROWS:
            self._flush()

    def close(self) -> None:
        try:
            self._flush()
        finally:
            self._writer.close()

    def _flush(self) -> None:
        if not self._held:
            return
        frames, seconds, parts = zip(*self._held, strict=True)
        columns = [frames, seconds, *np.stack(parts, axis=1)]
        types = self._schema.types
        arrays = [self._arrow.array(c, t) for c, t in zip(columns, types, strict=True)]
        self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))
        self._held.clear()
