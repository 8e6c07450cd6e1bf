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


def load_shift(name: str) -> Shift:
    """The recipe of a name in ORDER."""
    return Shift(name, yaml.safe_load((SHIFTS / name / "recipe.yaml").read_text()))


def place_of(shift: Shift, data: Path, out: Path, seed: int) -> Pictures:
    """The shift's folders, made in `out` where a recipe makes them; what is there already stays.

    Args:
        shift: the recipe.
        data: the folder that its paths are below.
        out: where drawn and cut data go.
        seed: of the run; it draws the synthetic streets.
    """
    if "cut" in shift.recipe:
        return _cut(shift, data, out / shift.name)
    if "sample" in shift.recipe:
        folder = out / f"{shift.name}-{seed}"
        if not folder.exists():
            make_sample(folder, seed)
        return Pictures(folder / "source", folder / "target", folder / "target_eval")
    return Pictures(*(data / shift.recipe[part] for part in ("source", "target", "evaluate")))


def _cut(shift: Shift, data: Path, out: Path) -> Pictures:
    """Links to the pictures that the rule chooses."""
    place = Pictures(out / "source", out / "target", out / "target_eval")
    if not place.evaluate.exists():
        rule = shift.recipe["cut"]
        pictures = LabelledFolder(data / rule["from"], load_classes(shift.class_file))
        parts = cut(pictures.names, class_pixels(pictures), pictures.classes, rule)
        for folder, indices in zip((place.source, place.target, place.evaluate), parts, strict=True):
            _link([pictures.image_paths[i] for i in indices], folder / "images")
            if folder != place.target:
                _link([pictures.label_paths[i] for i in indices], folder / "labels")
    return place


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
