"""The page of `adapt check`: what data holds, with pictures and their labels drawn over."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.data.classes import ClassList, paint
from adapt.data.datasets import LabelledImages, read_picture
from adapt.data.label_codes import IGNORE
from adapt.data.survey.looks import Look, only, spread
from adapt.data.survey.sets import LabelledSurvey, Survey
from adapt.errors import InputError
from adapt.reporting.page import (
    Section,
    code,
    document,
    figure,
    grid,
    keys,
    paragraph,
    photograph,
    table,
)

PICTURES, TARGETS = 10, 4
"""Labelled pictures that are shown, and pictures of the target beside them."""
ROWS = 200
"""Files that the table lists; JSON has all that were read."""
OPACITY = 0.5


def data_page(survey: Survey, lines: Sequence[str], command: str) -> str:
    """A page that needs nothing else.

    lines: what is said in a terminal.  command: that trains on this.
    """
    classes = survey.classes
    sections = [
        Section("summary", "In short", code("\n".join(lines))),
        Section("pictures", "Pictures with their labels", _pictures(survey)),
        Section("classes", "Classes", _class_table(survey)),
        Section("files", "Files", _file_table(survey)),
        Section("next", "Next", code(command)),
    ]
    read = "all pictures" if survey.everything else "a sample of the pictures"
    introduction = paragraph(f"{len(classes)} classes; {read} were read, as said below.")
    return document("Data before a training", introduction, sections, "Written by adapt check.")


def drawn_over(image: np.ndarray, labels: np.ndarray, classes: ClassList) -> np.ndarray:
    """uint8 [H, W, 3]: the picture under its labels' colours; as it is where pixels do not count."""
    mixed = (1 - OPACITY) * image + OPACITY * paint(labels, classes)
    drawn = np.where((labels != IGNORE)[..., None], mixed, image)
    return np.asarray(drawn.round().astype(np.uint8))


def _pictures(survey: Survey) -> str:
    """Ten labelled pictures, of all data sets in turn, and a few of the target."""
    shown = _spread_over(survey.labelled)
    pieces = []
    for each, look in shown:
        sample = _one(each, look, survey.classes)
        image, labels = sample[0]
        name = f"{each.role}: {look.path.name}"
        drawn = drawn_over(image, labels, survey.classes)
        pieces.append(figure(photograph(drawn, f"{name} under its labels"), name))
    legend = keys(list(zip(survey.classes.names, survey.classes.palette, strict=True)))
    parts = [legend, grid(pieces)]
    if targets := _targets(survey):
        parts += [paragraph("The target, which has no labels:"), grid(targets, "small")]
    return "".join(parts)


def _spread_over(labelled: Sequence[LabelledSurvey]) -> list[tuple[LabelledSurvey, Look]]:
    """Up to ten pictures that could be read, as many of each data set as there is room for."""
    able = [each for each in labelled if each.looked.looks]
    share = -(-PICTURES // len(able)) if able else 0
    found = [
        (each, each.looked.looks[position])
        for each in able
        for position in spread(len(each.looked.looks), share)
    ]
    return [found[position] for position in spread(len(found), PICTURES)]


def _one(each: LabelledSurvey, look: Look, classes: ClassList) -> LabelledImages:
    whole = LabelledImages([each.part], classes)
    return only(each.part, whole, [each.part.found.images.index(look.path)])


def _targets(survey: Survey) -> list[str]:
    pictures: list[Path] = [picture for each in survey.target for picture in each.part.pictures]
    pieces = []
    for position in spread(len(pictures), TARGETS):
        path = pictures[position]
        try:
            pieces.append(figure(photograph(read_picture(path), path.name), path.name))
        except InputError:
            continue  # said as damaged
    return pieces


def _class_table(survey: Survey) -> str:
    """Share of the labelled pixels of each class in each data set."""
    sets = [each for each in survey.labelled if each.looked.looks]
    columns = [100 * each.class_pixels / max(1, each.class_pixels.sum()) for each in sets]
    rows = [
        [name, *(f"{column[c]:.2f} %" for column in columns)] for c, name in enumerate(survey.classes.names)
    ]
    total = [each.ignored_pixels + int(each.class_pixels.sum()) for each in sets]
    ignored = [f"{100 * e.ignored_pixels / max(1, t):.2f} %" for e, t in zip(sets, total, strict=True)]
    head = ["class", *(f"{each.role}: {each.part.found.root.name}" for each in sets)]
    caption = "Shares of the pixels that count, in the pictures that were read"
    return table(caption, head, rows, [["ignored, of all", *ignored]])


def _file_table(survey: Survey) -> str:
    rows = []
    for each in survey.labelled:
        for look in each.looked.looks:
            counted = max(1, sum(look.class_pixels))
            shares = [f"{100 * pixels / counted:.1f}" for pixels in look.class_pixels]
            size = f"{look.size[1]}x{look.size[0]}"
            ignored = f"{100 * look.ignored / (look.size[0] * look.size[1]):.1f}"
            rows.append([look.path.name, size, f"{look.brightness:.2f}", ignored, *shares])
    head = ["file", "size", "brightness", "ignored, %", *survey.classes.names]
    rest = f", the first {ROWS} of {len(rows)}" if len(rows) > ROWS else ""
    return table(f"Labelled pictures that were read{rest}; classes in per cent", head, rows[:ROWS])
