"""From one system of labels to another: between class lists by name, and from ids to classes by a map.

A label map is a YAML file for label files whose ids are not those of the class list. Every id that occurs
needs a line; several may name the same class:

    3: road
    4: road            # lane markings
    7: sidewalk
    0: ignore
"""

from pathlib import Path

import yaml

from adapt.data.classes import ClassList
from adapt.data.label_codes import IGNORE, LARGEST_ID, LabelCode
from adapt.errors import InputError

_SHOWN = 5  # how many items an error message lists before it says how many more there are
_IGNORED = "ignore"


def recode(own: ClassList, into: ClassList, where: str, owner: str) -> LabelCode:
    """What label files with the classes `own` mean in the train ids of `into`.

    Classes are told by their names; order, ids and colours may differ. One of the lists may lack classes of
    the other (SYNTHIA's 16 are among Cityscapes' 19): what only `own` has is ignored, and what only `into`
    has does not occur.
    where, owner: what the two lists belong to, for messages.
    Raises InputError, listing the differences, if each has classes that the other lacks.
    """
    missing = [name for name in into.names if name not in own.names]
    surplus = [name for name in own.names if name not in into.names]
    if missing and surplus:
        raise InputError(
            f"The class lists differ: only {owner} has {_listed(missing)}, and only {where} has "
            f"{_listed(surplus)}; use the same names in both, or in one of them a part of the other's."
        )
    train_ids = [into.names.index(name) if name in into.names else IGNORE for name in own.names]
    new = dict(enumerate(train_ids)) | {IGNORE: IGNORE}
    return LabelCode(
        ids={value: new[old] for value, old in own.code.ids.items()},
        colors={color: new[old] for color, old in own.code.colors.items()},
        dropped=tuple(surplus),
    )


def load_label_map(path: Path, classes: ClassList) -> LabelCode:
    """Read a label map. Colours keep the meaning that the class list gives them.

    Raises InputError, naming the file, if it is missing or malformed, or names a class that there is not.
    """
    if not path.is_file():
        raise InputError(f"There is no label map {path}; give a YAML file with lines 'id: class name'.")
    try:
        text = path.read_text(encoding="utf-8")
        content, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable YAML file: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} must hold lines 'id: class name', but holds {content!r:.60}.")
    assert tree is not None
    keys = [key.value for key, _ in tree.value]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InputError(f"{path} maps {twice[0]} twice; keep one of the two lines.")
    ids = {_source_id(value, path): _train_id(name, value, classes, path) for value, name in content.items()}
    return LabelCode(ids, classes.code.colors, book=f"the label map {path}")


def _source_id(value: object, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_ID:
        raise InputError(f"{path} maps {value!r}, but ids are whole numbers from 0 to {LARGEST_ID}.")
    return value


def _train_id(name: object, value: object, classes: ClassList, path: Path) -> int:
    """Of a class's name, or its id in the class list; or IGNORE."""
    if name in classes.names:
        return classes.names.index(str(name))
    if isinstance(name, int) and not isinstance(name, bool) and name in classes.ids:
        return classes.ids.index(name)
    if name == _IGNORED:
        return IGNORE
    raise InputError(
        f"{path} maps {value!r} to {name!r}, which is neither the name nor the id of a class, nor "
        f"'{_IGNORED}'; the classes are {', '.join(classes.names)}."
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown + (f" and {more} more" if more > 0 else "")
