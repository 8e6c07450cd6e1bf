"""Exports renamed as people rename them: folders, files, endings; what links picture and label stays."""

import random
from pathlib import Path

from serve.media.files import PICTURE_SUFFIXES

_PICTURES = ("images", "imgs", "fotos", "Bilder", "cam front", "raw", "frames", "data")
_LABELS = ("labels", "masks", "Masken", "truth", "gt", "annotations (final)", "seg_v2", "ground truth")
_FOLDERS = {
    "JPEGImages": ("JPEGImages", *_PICTURES),
    "images": ("images", *_PICTURES),
    "SegmentationClass": ("SegmentationClass", *_LABELS),
    "SegmentationObject": ("SegmentationObject", "instances", "Objekte"),
    "masks": ("masks", *_LABELS),
    "labels": ("labels", *_LABELS),
    "train": ("train", "Train", "training", "TRAIN", "part 1"),
    "val": ("val", "valid", "validation", "Val", "dev"),
    "valid": ("valid", "val", "validation", "Valid", "part 2"),
}
"""Names that somebody may give a folder, its own among them; other folders keep theirs."""
_BASES = ("{stem}", "IMG_{number:04}", "cam1-{stem}", "{stem} (1)", "Straße {number}", "{stem}_neu")
_TAILS = ("_mask", "-mask", "_Maske", "_label", " mask", "_seg", ".mask", "_m")
_SUFFIXES = {".jpg": (".jpg", ".JPG", ".jpeg"), ".png": (".png", ".PNG")}
_ROOTS = ("export", "Daten (neu)", "my data final v2", "données", "2026-11-29", "1")


def rename(root: Path, dice: random.Random) -> Path:
    """Rename what lies in a tool's export, and the folder itself; where it is now.

    Files of the tool that belong to no picture (labelmap.txt, data.yaml) stay as they are, whatever is in
    them.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file())
    folders = {name: dice.choice(choices) for name, choices in _FOLDERS.items()}
    tail, base = dice.choice(_TAILS), dice.choice(_BASES)
    suffixes = {old: dice.choice(new) for old, new in _SUFFIXES.items()}
    # of a picture that has a mask beside it, the mask's name goes on where the picture's ends
    stems = sorted({p.stem for p in files if p.suffix == ".jpg"}, key=len, reverse=True)
    names = {stem: base.format(stem=stem, number=number + 1) for number, stem in enumerate(stems)}
    new = root.with_name(dice.choice(_ROOTS) + " renamed")
    if dice.random() < 0.25:
        new = new / "export"  # an archive that was unpacked into a folder of its own
    for path in files:
        place = new.joinpath(*(folders.get(part, part) for part in path.parent.relative_to(root).parts))
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / _name(path, names, tail, suffixes))
    return new.parent if new.name == "export" and new.parent != root.parent else new


def _name(path: Path, names: dict[str, str], tail: str, suffixes: dict[str, str]) -> str:
    stem = next((stem for stem in names if path.name.startswith(stem)), None)
    own = path.suffix in PICTURE_SUFFIXES or (stem is not None and path.stem == stem)
    if stem is None or not own:
        return path.name
    rest = path.stem.removeprefix(stem)
    return names[stem] + (tail if rest == "_mask" else rest) + suffixes.get(path.suffix, path.suffix)
