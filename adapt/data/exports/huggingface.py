"""Folders of Hugging Face `datasets`: Parquet files as on the hub, or Arrow files of save_to_disk.

Of the columns that hold pictures, one is called image (or so), another is the labels; both hold the bytes of
a file. Class names are in id2label.json. A picture or label has a path of its own here: FILE/COLUMN/ROW.
https://huggingface.co/docs/datasets/image_dataset
"""

import json
import re
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.images import decode_labels
from adapt.data.known_classes import distinct_colors
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, chosen_split, split_of
from adapt.errors import InputError
from serve.media.images import decode_image

SUFFIXES = frozenset({".parquet", ".arrow"})
_IMAGES = ("image", "pixel_values", "img", "images", "picture", "input")
_LABELS = re.compile(r"label|mask|annotation|segmentation|semantic|target|gt", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]+")
_NAMES = "id2label.json"
_READING = Lock()
"""A Parquet file has one place that it is read at: two threads at once end the process."""


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    found = [
        path
        for depth in ("*", "*/*", "*/*/*")
        for path in sorted(root.glob(depth))
        if path.suffix in SUFFIXES
    ]
    files = [path for path in found if not path.name.startswith("cache-") and _columns(path)]
    if not files:
        return None
    parts = {path: name for path in files if (name := _split_name(path, root)) is not None}
    part = chosen_split(parts.values(), split, root)
    meant = [path for path in files if part is None or parts.get(path) == part]
    columns = _columns(meant[0])
    assert columns is not None
    image, label = columns
    rows = [(path, row) for path in meant for row in range(_rows(path))]
    pictures = [path / image / f"{row:06}" for path, row in rows]
    labels = [path / label / f"{row:06}" for path, row in rows]
    kind = LabelFiles(f"*{meant[0].suffix} ({label})", _classes(root, meant[0]), read_stored_labels)
    return Labelled(root, Layout("Hugging Face datasets", ""), pictures, labels, kind)


def is_stored(path: Path) -> bool:
    """Whether a path means a picture in a file of rows."""
    return path.parent.parent.suffix in SUFFIXES


def read_stored_image(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB. Raises InputError, naming file and row."""
    return decode_image(stored_bytes(path), path)


def read_stored_labels(path: Path) -> np.ndarray:
    """The values of a label file that is stored in a row, as `read_labels` gives them."""
    return decode_labels(stored_bytes(path), path)


def _split_name(path: Path, root: Path) -> str | None:
    """train of train-00000-of-00001.parquet, or of a folder."""
    words = [*path.parent.relative_to(root).parts, *_WORD.findall(path.stem)]
    return next((word for word in words if split_of(word) is not None), None)


def _open(path: Path) -> Any:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{path} holds pictures in rows, for which the extra `parquet` is missing; run "
            "`pip install 'blda[parquet]'`."
        ) from error
    try:
        if path.suffix == ".parquet":
            return parquet.ParquetFile(path, memory_map=True)
        with arrow.memory_map(str(path)) as source:
            return arrow.ipc.open_stream(source).read_all()
    except (arrow.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path} can't be read ({reason}); download it again.") from error


@lru_cache(maxsize=1000)
def _opened(path: Path, changed: int) -> Any:
    """A Parquet file, of which groups of rows are read, or a table mapped into memory."""
    return _open(path)


@lru_cache(maxsize=4)  # pictures are drawn by chance, and a group has tens of megabytes
def _group(path: Path, changed: int, number: int, column: str) -> Any:
    with _READING:
        # pyarrow's own threads would not be there in a process that was forked to read pictures.
        return _opened(path, changed).read_row_group(number, columns=[column], use_threads=False)[column]


def _rows(path: Path) -> int:
    opened = _opened(path, path.stat().st_mtime_ns)
    return int(opened.metadata.num_rows if path.suffix == ".parquet" else opened.num_rows)


def _cell(path: Path, column: str, row: int) -> Any:
    changed = path.stat().st_mtime_ns
    opened = _opened(path, changed)
    if path.suffix != ".parquet":
        return opened[column][row].as_py()
    sizes = [opened.metadata.row_group(n).num_rows for n in range(opened.num_row_groups)]
    ends = np.cumsum(sizes)
    number = int(np.searchsorted(ends, row, "right"))
    return _group(path, changed, number, column)[row - int(ends[number]) + sizes[number]].as_py()


def _columns(path: Path) -> tuple[str, str] | None:
    """The names of the columns of pictures and labels: structs of bytes and path. None if it has no such."""
    opened = _opened(path, path.stat().st_mtime_ns)
    schema = opened.schema_arrow if path.suffix == ".parquet" else opened.schema
    images = [field.name for field in schema if str(field.type).startswith("struct<bytes")]
    image = next((name for name in (*_IMAGES, *images) if name in images and not _LABELS.search(name)), None)
    label = next((name for name in images if name != image and _LABELS.search(name)), None)
    return None if image is None or label is None else (image, label)


def stored_bytes(path: Path) -> bytes:
    """The file that is stored in a row. Raises InputError, naming file and row, if there is none."""
    file, column, row = path.parent.parent, path.parent.name, int(path.name)
    cell = _cell(file, column, row)
    if cell is None or not cell.get("bytes"):
        raise InputError(
            f"Row {row} of {file} has no {column} inside; save the data set with its files embedded."
        )
    return bytes(cell["bytes"])


def _classes(root: Path, file: Path) -> ClassList | None:
    """Of id2label.json beside the files or above them; None if there is none."""
    place = next((p for p in (root, file.parent) if (p / _NAMES).is_file()), None)
    if place is None:
        return None
    try:
        names = {int(key): str(name) for key, name in json.loads((place / _NAMES).read_text("utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f'{place / _NAMES} must have lines "0": "name" ({error}).') from error
    ids = tuple(sorted(names))
    ignore = () if 255 in ids else (255,)
    return ClassList(tuple(names[key] for key in ids), ids, distinct_colors(len(ids), 1), ignore)
