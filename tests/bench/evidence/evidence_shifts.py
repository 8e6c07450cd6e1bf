"""The pairs of domains that are measured: tests/bench/shifts/NAME/{recipe,classes}.yaml.

A recipe says where the pictures are below a folder that is given, or how they come about: drawn by the
project (`sample`), or cut from labelled pictures by a rule (`cut`). A cut is links, so nothing is copied.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adapt.data.classes import ClassList, load_classes
from adapt.data.datasets import LabelledFolder
from adapt.synthetic.sample import make_sample

SHIFTS = Path(__file__).parent.parent / "shifts"
ORDER = ("streets", "dusk", "weeds", "shares")
PARTS = ("source", "target", "target_eval")
FEW = 16
"""Labelled target pictures that are set apart for those who have a few labels."""


@dataclass(frozen=True)
class Shift:
    """A recipe, read."""

    name: str
    recipe: dict[str, Any]

    @property
    def title(self) -> str:
        return str(self.recipe["title"])

    @property
    def settings(self) -> str:
        """The key of `arms.SETTINGS` that the runs take."""
        return str(self.recipe["settings"])

    @property
    def things(self) -> bool:
        """Whether there is a pretrained encoder that knows some of the classes as things."""
        return bool(self.recipe["things"])

    @property
    def class_file(self) -> Path:
        return SHIFTS / self.name / "classes.yaml"


@dataclass(frozen=True)
class Pictures:
    """Where a shift's pictures are."""

    source: Path
    target: Path
    evaluate: Path
    few: Path
    """FEW labelled pictures of the target; none of them is in `evaluate`."""


def load_shift(name: str) -> Shift:
    """The recipe of a name in ORDER."""
    return Shift(name, yaml.safe_load((SHIFTS / name / "recipe.yaml").read_text()))


def place_of(shift: Shift, data: Path, out: Path, seed: int) -> Pictures:
    """The shift's folders, made in `out` where a recipe makes them; what is there already stays.

    Of the labelled target pictures, FEW that are spread over them (half of them, where there are less than
    twice as many) are set apart for every run, so that all are scored on the same others.

    Args:
        shift: the recipe.
        data: the folder that its paths are below.
        out: where drawn and cut data go.
        seed: of the run; it draws the synthetic streets.
    """
    folder = out / shift.name
    if "cut" in shift.recipe:
        source, target, evaluate = _cut(shift, data, folder)
    elif "sample" in shift.recipe:
        folder = out / f"{shift.name}-{seed}"
        if not folder.exists():
            make_sample(folder, seed)
        source, target, evaluate = (folder / part for part in PARTS)
    else:
        source, target, evaluate = (data / shift.recipe[part] for part in ("source", "target", "evaluate"))
    return Pictures(source, target, *_apart(shift, evaluate, folder))


def _apart(shift: Shift, labelled: Path, out: Path) -> tuple[Path, Path]:
    """Links to all labelled pictures but a few, and to the few."""
    evaluate, few = out / "apart" / "evaluate", out / "apart" / "few"
    if not evaluate.exists():
        pictures = LabelledFolder(labelled, load_classes(shift.class_file))
        count = min(FEW, len(pictures) // 2)
        chosen = {(2 * k + 1) * len(pictures) // (2 * count) for k in range(count)}
        for folder, indices in ((few, chosen), (evaluate, set(range(len(pictures))) - chosen)):
            _link([pictures.image_paths[i] for i in sorted(indices)], folder / "images")
            _link([pictures.label_paths[i] for i in sorted(indices)], folder / "labels")
    return evaluate, few


def _cut(shift: Shift, data: Path, out: Path) -> tuple[Path, Path, Path]:
    """Links to the pictures that the rule chooses: source, target, and labelled target."""
    source, target, evaluate = place = tuple(out / part for part in PARTS)
    if not evaluate.exists():
        rule = shift.recipe["cut"]
        pictures = LabelledFolder(data / rule["from"], load_classes(shift.class_file))
        parts = cut(pictures.names, class_pixels(pictures), pictures.classes, rule)
        for folder, indices in zip(place, parts, strict=True):
            _link([pictures.image_paths[i] for i in indices], folder / "images")
            if folder != target:
                _link([pictures.label_paths[i] for i in indices], folder / "labels")
    return source, target, evaluate


def class_pixels(pictures: LabelledFolder) -> np.ndarray:
    """[images, C] pixels of each class in each picture."""
    counts = [
        np.bincount(pictures[i].labels.ravel(), minlength=256)[: len(pictures.classes)]
        for i in range(len(pictures))
    ]
    return np.stack(counts)


def cut(
    names: list[str], pixels: np.ndarray, classes: ClassList, rule: dict[str, Any]
) -> tuple[list[int], list[int], list[int]]:
    """Source, target and evaluation pictures whose class shares differ, as sorted indices.

    Each drive (the part of a name before the first `_`) is cut into stretches of so many pictures, since
    neighbours in a drive are alike. The stretches are ordered by how much more the classes `more` cover in
    them than the classes `less` do; the first `keep` of them are the source, of the last `keep` the seed
    draws `evaluate` for evaluation, and the rest are the unlabelled target. Those in the middle are left out.

    Args:
        names: of the pictures, in the order of the drives.
        pixels: [images, C] pixels of each class.
        classes: which class is which.
        rule: stretch, more, less, keep, evaluate, seed.
    """
    stretches: list[list[int]] = []
    for i, name in enumerate(names):
        drive = name.split("_")[0]
        last = stretches[-1] if stretches else []
        if last and len(last) < rule["stretch"] and names[last[0]].split("_")[0] == drive:
            last.append(i)
        else:
            stretches.append([i])
    more, less = ([classes.names.index(name) for name in rule[side]] for side in ("more", "less"))
    ratio = [
        (pixels[stretch][:, more].sum() + 1) / (pixels[stretch][:, less].sum() + 1) for stretch in stretches
    ]
    order = np.argsort(ratio, kind="stable")
    source, turned = order[: rule["keep"]], order[-rule["keep"] :]
    drawn = np.random.default_rng(rule["seed"]).permutation(turned)
    parts = (source, drawn[rule["evaluate"] :], drawn[: rule["evaluate"]])
    first, second, third = (sorted(i for s in part for i in stretches[s]) for part in parts)
    return first, second, third


def _link(files: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / file.name
        if not link.is_symlink():
            link.symlink_to(file.resolve())
