"""A look at all data of a training: what there is, what is wrong with it, how source and target differ."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.datasets import LabelledImages, LabelledPart, LabelReport
from adapt.data.folders.target import TargetPart
from adapt.data.layouts.unpaired import UnpairedError
from adapt.data.survey.duplicates import Twice, duplicates
from adapt.data.survey.looks import (
    Fault,
    Look,
    Looked,
    look_at_labelled,
    look_at_pictures,
    look_at_video,
    only,
)
from adapt.data.values.averaged import describe_averaged
from adapt.data.values.ignored import describe_ignored
from adapt.data.values.unknown import describe_unknown
from serve.media.video.reader import VideoReader

SAMPLE = 48
"""Pictures of each data set that are looked at, unless all are."""
VIDEOS, FRAMES = 4, 4
"""Videos of a target, and frames of each, that are looked at then."""


class LabelledSurvey(NamedTuple):
    """One labelled data set."""

    role: str
    """source, labelled target or evaluation."""
    part: LabelledPart
    looked: Looked
    alone: list[Path]
    """Pictures without labels."""
    surplus: list[Path]
    """Label files without a picture."""
    ignored: list[str]
    """What is to be said of pixels that do not count."""
    unknown: str
    """What is to be said of values that nothing names; empty if there are none."""

    @property
    def class_pixels(self) -> np.ndarray:
        """int64 [C], over the pictures that were looked at; empty if none could be read."""
        return np.asarray(np.sum([look.class_pixels for look in self.looked.looks], axis=0), np.int64)

    @property
    def ignored_pixels(self) -> int:
        return sum(look.ignored for look in self.looked.looks)


class TargetSurvey(NamedTuple):
    """One unlabelled target: a folder or a video."""

    part: TargetPart
    looked: Looked
    frames: int
    """Of its videos, that a training takes, as far as their files say."""


class Survey(NamedTuple):
    """All data of a training."""

    classes: ClassList
    labelled: list[LabelledSurvey]
    """Sources, then labelled pictures of the target, then those to evaluate on."""
    target: list[TargetSurvey]
    twice: dict[str, list[Twice]]
    """Pictures to evaluate on that are also trained on, by what they are there."""
    everything: bool
    """Whether all pictures were read, not a sample."""

    def of(self, role: str) -> list[LabelledSurvey]:
        """The labelled data sets of a role."""
        return [each for each in self.labelled if each.role == role]

    @property
    def looked(self) -> dict[str, list[Looked]]:
        """What was looked at, by role."""
        found: dict[str, list[Looked]] = {}
        for each in self.labelled:
            found.setdefault(each.role, []).append(each.looked)
        return found | ({"target": [each.looked for each in self.target]} if self.target else {})

    @property
    def damaged(self) -> list[Fault]:
        return [fault for each in self.looked.values() for looked in each for fault in looked.damaged]

    @property
    def problems(self) -> list[str]:
        """A sentence for each thing that a training would be refused for, or a part of it lost by."""
        found = [fault.why for fault in self.damaged]
        for each in self.labelled:
            found += [each.unknown] if each.unknown else []
            if each.alone or each.surplus:
                found.append(f"{each.role}: {unpaired_words(each)}; add their partners or remove them.")
        return found

    def complete(self, role: str) -> bool:
        """Whether all pictures, and all frames, of a role were looked at."""
        if role == "target":
            have = sum(len(each.part.pictures) + each.frames for each in self.target)
        else:
            have = sum(len(each.part.found.images) for each in self.of(role))
        return self.everything or self.seen(role) >= have

    def seen(self, role: str) -> int:
        """How many pictures and frames of a role were looked at."""
        return sum(
            len(looked.looks) + len(looked.damaged) + len(looked.unknown)
            for looked in self.looked.get(role, [])
        )


class Opened(NamedTuple):
    """Data as it is found, of which nothing has been read."""

    classes: ClassList
    source: LabelledImages | None
    """None where a trained network is adapted without one."""
    target: list[TargetPart]
    labelled_target: LabelledImages | None
    evaluation: LabelledImages | None
    unpaired: Sequence[UnpairedError] = ()


def survey(opened: Opened, frames: int, everything: bool) -> Survey:
    """Look at the data of a training: at a sample of each data set, or at everything.

    frames: that a training takes of each video.
    """
    most = None if everything else SAMPLE
    roles = {"source": opened.source, "labelled target": opened.labelled_target}
    roles["evaluation"] = opened.evaluation
    labelled = [
        _labelled(role, dataset, part, most, opened.unpaired)
        for role, dataset in roles.items()
        if dataset is not None
        for part in dataset.parts
    ]
    target = [_target(part, frames, everything) for part in opened.target]
    return Survey(opened.classes, labelled, target, _twice(opened), everything)


def _labelled(
    role: str,
    dataset: LabelledImages,
    part: LabelledPart,
    most: int | None,
    unpaired: Iterable[UnpairedError],
) -> LabelledSurvey:
    looked = look_at_labelled(part, dataset, most)
    lone = next((each for each in unpaired if each.found.images == part.found.images), None)
    unknown = ""
    if looked.unknown:
        few = [position for position, _ in looked.unknown[:3]]
        of = only(part, dataset, few)
        unknown = describe_unknown(
            [error for _, error in looked.unknown],
            of.label_paths,
            [of.values(i) for i in range(len(of))],
            part.code,
            len(looked.unknown) + len(looked.looks),
        )
    ignored = list(_ignored(role, dataset, part, looked.looks))
    alone, surplus = (lone.alone, lone.surplus) if lone is not None else ([], [])
    return LabelledSurvey(role, part, looked, alone, surplus, ignored, unknown)


def _ignored(role: str, dataset: LabelledImages, part: LabelledPart, looks: list[Look]) -> Iterator[str]:
    """What `adapt train` says of pixels that do not count, or look averaged, of what was looked at."""
    if not looks:
        return
    place = {path: position for position, path in enumerate(part.found.images)}
    sample = only(part, dataset, [place[look.path] for look in looks])
    pixels = np.array([look.class_pixels for look in looks], np.int64)
    report = LabelReport(pixels, np.array([look.ignored for look in looks], np.int64))
    yield from describe_ignored(role, sample, report)
    yield from describe_averaged(role, sample)


def _target(part: TargetPart, frames: int, everything: bool) -> TargetSurvey:
    looked = look_at_pictures(part.pictures, None if everything else SAMPLE)
    expected = 0
    for number, video in enumerate(part.videos):
        with VideoReader(video) as reader:
            expected += min(frames, reader.frames or frames)
        if everything or number < VIDEOS:
            more = look_at_video(video, frames if everything else min(frames, FRAMES))
            looked = Looked([*looked.looks, *more.looks], [*looked.damaged, *more.damaged], [])
    return TargetSurvey(part, looked, expected)


def _twice(opened: Opened) -> dict[str, list[Twice]]:
    if opened.evaluation is None:
        return {}
    trained = {
        "source": [] if opened.source is None else opened.source.image_paths,
        "labelled target": [] if opened.labelled_target is None else opened.labelled_target.image_paths,
        "target": [picture for part in opened.target for picture in part.pictures],
    }
    pictures = opened.evaluation.image_paths
    return {role: found for role, paths in trained.items() if (found := duplicates(pictures, paths))}


def unpaired_words(each: LabelledSurvey) -> str:
    """Which pictures have no labels, and which label files no picture; empty if all have."""
    told = []
    for paths, what in ((each.alone, "without labels"), (each.surplus, "label files without a picture")):
        if paths:
            names = ", ".join(path.name for path in paths[:3]) + " …" * (len(paths) > 3)
            told.append(f"{len(paths)} {what} ({names})")
    return " and ".join(told)


def sizes_of(looked: Iterable[Looked]) -> Counter[tuple[int, int]]:
    """How many pictures have which height and width."""
    return Counter(look.size for each in looked for look in each.looks)


def color_of(looked: Iterable[Looked]) -> tuple[float, float, float] | None:
    """Mean red, green and blue over pictures, each counting alike; None without any."""
    colors = [look.color for each in looked for look in each.looks]
    red, green, blue = np.mean(colors, axis=0).tolist() if colors else (0.0, 0.0, 0.0)
    return (red, green, blue) if colors else None
