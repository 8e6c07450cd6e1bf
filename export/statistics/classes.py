"""What a model's outputs are called and painted, and which of them stand for none of the classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from adapt.data.classes import ClassList, load_classes, numbered_palette
from adapt.data.domains import find_classes
from adapt.errors import InputError
from export.foreign.beside import Beside, read_beside
from export.foreign.network import Network
from export.sources.given import index_of
from export.sources.pictures import classes_of
from serve.card import Color, GraphInfo

NO_CLASS = frozenset(
    ("void", "unlabeled", "unlabelled", "ignore", "ignored", "background", "other", "others", "unknown")
)
"""Names of outputs that stand for "none of these", where a class file says that they do not count."""


class Named(NamedTuple):
    """C outputs."""

    class_list: ClassList | None
    """As it was given or found; None where names and colours were made up for numbers."""
    names: tuple[str, ...]
    palette: tuple[Color, ...]
    by: str
    """Where the names come from, in words."""
    leave: dict[int, str]
    """Outputs that take no part in the correction, and who says so."""


def named(
    network: Network,
    own: GraphInfo | None,
    source: Path | None,
    classes: Path | None,
    leave: Sequence[str],
) -> Named:
    """Names and colours: from the option, the model's card, what comes with the source, or beside the model.

    Args:
        network: the model.
        own: what the model says of itself, if it was exported here.
        source: labelled folder, which can't be read without a list.
        classes: class file.
        leave: names of outputs to leave as they are, as they were given.

    Raises:
        InputError: a list that can't be read or has another length, or a name that is not on it.
    """
    C, model = network.outlet.classes, network.path
    beside = Beside() if own is not None else read_beside(network.model, model)
    class_list, by, uncounted = _class_list(own, source, classes)
    if class_list is None:
        names, palette = tuple(beside.names.get(c, f"class{c}") for c in range(C)), numbered_palette(C)
        if beside.names and set(beside.names) == set(range(C)) and len(set(names)) == C:
            by = beside.named_by
        else:
            names = tuple(f"class{c}" for c in range(C))
            by += f"; {beside.named_by} names {len(beside.names)}, not {C}" if beside.names else ""
    elif len(class_list) != C:
        raise InputError(
            f"the class list has {len(class_list)} classes, but {model} gives {C} logits per "
            "pixel; list every output of the model, in its order."
        )
    else:
        names, palette = class_list.names, class_list.palette
    said = {names.index(name): f"{by} says that it does not count" for name in uncounted}
    if beside.ignored in range(C):
        said.setdefault(int(beside.ignored or 0), f"{beside.ignored_by} says that it does not count")
    said |= {index_of(name, names): "as --leave says" for name in leave}
    if len(said) > C - 2:
        raise InputError(
            f"of the {C} classes of {model}, {len(said)} would be left as they are "
            f"({', '.join(names[c] for c in sorted(said))}), but at least two must take part."
        )
    return Named(class_list, names, palette, by, dict(sorted(said.items())))


def _class_list(
    own: GraphInfo | None, source: Path | None, classes: Path | None
) -> tuple[ClassList | None, str, tuple[str, ...]]:
    """The list, where it is from, and which of its classes it says do not count."""
    if classes is not None:
        class_list, uncounted = _of_file(classes)
        return class_list, classes.name, uncounted
    if own is not None:
        before = () if own.correction is None else own.correction.excluded
        return classes_of(own.card), "its card", before
    if source is not None:  # labels can't be read without one
        return find_classes(source, None), f"the list that comes with {source.name}", ()
    return None, "no names found: give --classes FILE", ()


def _of_file(path: Path) -> tuple[ClassList, tuple[str, ...]]:
    """A class file, in which a class named void (NO_CLASS) may have a value that it ignores."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        ignored = content["ignore"] if isinstance(content["ignore"], list) else [content["ignore"]]
        uncounted = [e for e in content["classes"] if e["name"].casefold() in NO_CLASS and e["id"] in ignored]
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        uncounted = []  # whatever is wrong is said where it is read as a class file
    if not uncounted:
        return load_classes(path), ()
    content["ignore"] = [value for value in ignored if value not in [e["id"] for e in uncounted]]
    try:
        return ClassList.from_dict(content), tuple(e["name"] for e in uncounted)
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from error
