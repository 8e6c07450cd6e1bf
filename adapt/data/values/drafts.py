"""A draft of a class file, from the values that are in label files."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.exports.table import classes_beside
from adapt.data.exports.voc import VOC21
from adapt.data.known_classes import CAMVID11, CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, SYNTHIA16
from adapt.data.label_codes import Color, values_in
from adapt.data.layouts.patterns import Labelled
from adapt.errors import InputError

_LOOKED_AT = 100  # label files
_MOST = 255  # values; more are no classes
_VOID = 255
_FEW, _MANY = 4, 15  # values that say nothing, and that say something even if they are 0, 1, 2, ...
_KNOWN = (CITYSCAPES19_TRAIN_IDS, CAMVID11, VOC21, CITYSCAPES19, SYNTHIA16)


def draft(found: Labelled) -> str:
    """A class file as text: a line for each value in the label files, with its share, the largest first.

    Raises InputError if a file cannot be read, or there are so many values that they are no classes.
    """
    chosen = [int(i) for i in np.unique(np.linspace(0, len(found.labels) - 1, _LOOKED_AT).astype(int))]
    counts: Counter[int | Color] = Counter()
    for index in chosen:
        counts.update(values_in(found.kind.read(found.labels[index])))
    if len(counts) > _MOST:
        raise InputError(
            f"{found.pattern} holds {len(counts)} different values in {len(chosen)} files, so they are no "
            "classes as they are: labels that were resized or saved as JPEG look so; take the originals."
        )
    names, source = _names(found, list(counts))
    lines = [f"# {len(counts)} values in {len(chosen)} of {len(found.labels)} label files ({found.pattern})"]
    lines += [f"# {source}"] if source else []
    void = [value for value in counts if _is_void(value, counts, names)]
    total = counts.total()
    lines += [f"ignore: {[_plain(value) for value in void]}", "classes:"]
    for (name, is_id), values in _grouped([v for v, _ in counts.most_common() if v not in void], names):
        what = [_plain(value) for value in values]
        given = f"{'id' if is_id else 'color'}: {what if what[1:] else what[0]}, name: {_quoted(name)}"
        share = 100 * sum(counts[value] for value in values) / total
        lines.append(f"  - {{{given}}}  # {share:.2f} % of the pixels")
    return "\n".join(lines) + "\n"


def _grouped(
    values: Sequence[int | Color], names: dict[int | Color, str]
) -> Iterable[tuple[tuple[str, bool], list[int | Color]]]:
    """Values of one class together, in the order in which the classes come first."""
    found: dict[tuple[str, bool], list[int | Color]] = {}
    for value in values:
        number = value if isinstance(value, int) else len(found) + 1
        found.setdefault((names.get(value, f"class {number}"), isinstance(value, int)), []).append(value)
    return found.items()


def _names(found: Labelled, values: Sequence[int | Color]) -> tuple[dict[int | Color, str], str]:
    """Of the tool's own file, or of the known list that has all the values; and which that is."""
    own = found.kind.classes or classes_beside(found, found.root)
    if own is not None:
        source = found.layout.name if found.kind.classes is not None else "the file that a tool left there"
        return _by_value(own), f"names from {source}"
    for classes in _KNOWN:
        code = classes.code
        hits = set(values) & {*classes.ids, *classes.palette}
        if set(values) <= {*code.ids, *code.colors} and len(hits) > _FEW and not _just_counted(values):
            return _by_value(classes), "names are a guess, from the values: check them"
    return {}, ""


def _just_counted(values: Sequence[int | Color]) -> bool:
    """0, 1, 2, ... which anybody's few classes are called."""
    ids = sorted(value for value in values if isinstance(value, int) and value != _VOID)
    return 0 < len(ids) < _MANY and ids == list(range(len(ids)))


def _by_value(classes: ClassList) -> dict[int | Color, str]:
    pairs: Iterable[tuple[int | Color, str]] = [
        *zip(classes.ids, classes.names, strict=True),
        *zip(classes.palette, classes.names, strict=True),
        *((value, classes.names[train_id]) for value, train_id in classes.also),
    ]
    return dict(pairs)


def _is_void(value: int | Color, counts: Counter[int | Color], names: dict[int | Color, str]) -> bool:
    """255 beside other ids, and what a known list has no name for."""
    if names:
        return value not in names
    return value == _VOID and len([v for v in counts if isinstance(v, int)]) > 2


def _plain(value: int | Color) -> object:
    return value if isinstance(value, int) else list(value)


def _quoted(name: str) -> str:
    return (
        name
        if name.replace(" ", "").isalpha() and name not in ("on", "off", "yes", "no", "null")
        else f'"{name}"'
    )
