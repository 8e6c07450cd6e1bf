"""What the start of a run says on standard error: settings, data, and what may not have been meant."""

import sys

import numpy as np

from adapt.config.settings import Config
from adapt.config.unused import differences
from adapt.data.classes import ClassList
from adapt.data.datasets import LabelledImages, UnlabelledImages


def say_differences(config: Config, preset: str | None) -> None:
    """What was set: settings pass through a preset, a file and options, and the run is long."""
    found = differences(config, preset)
    if found:
        start = "the defaults" if preset is None else f"the preset {preset}"
        print(f"settings that differ from {start}:", file=sys.stderr)
        for change in found:
            print(f"  {change.key}: {change.before} -> {change.after}", file=sys.stderr)


def warn_of_twice(
    labelled: LabelledImages, target: UnlabelledImages | None, evaluation: LabelledImages | None
) -> None:
    """Say which labelled pictures of the target are used elsewhere too; only the same files can be told."""
    files = {path.resolve() for path in labelled.image_paths}
    if target is not None and (twice := sum(path.resolve() in files for path in target.paths)):
        print(
            f"{twice} of the {len(labelled)} labelled target pictures are unlabelled ones too: there the "
            "teacher labels them, and their labels are not used.",
            file=sys.stderr,
        )
    if evaluation is not None and (twice := sum(path.resolve() in files for path in evaluation.image_paths)):
        print(
            f"warning: {twice} of the {len(evaluation)} pictures to evaluate on are trained on with their "
            "labels, so scores come out too high; evaluate on others.",
            file=sys.stderr,
        )


def warn_of_absent(classes: ClassList, class_pixels: np.ndarray) -> None:
    """Name the classes that the source never shows, and what follows."""
    pixels = class_pixels.sum(0)
    absent = [name for name, number in zip(classes.names, pixels, strict=True) if number == 0]
    if absent:
        print(
            f"warning: no label of the source is {', '.join(absent)}; rare-class sampling never draws such a "
            "class, the network does not learn it, its source mixtures are never fitted, and where it is not "
            "predicted either its logits stay uncorrected. If that is not meant, check the ids in the class "
            "file.",
            file=sys.stderr,
        )
