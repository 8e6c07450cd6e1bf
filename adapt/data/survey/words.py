"""A look at data in ten lines."""

from collections.abc import Iterator, Sequence

import numpy as np

from adapt.data.datasets import LabelledImages
from adapt.data.folders.target import describe_target
from adapt.data.layouts.patterns import Labelled
from adapt.data.survey.looks import Looked
from adapt.data.survey.sets import LabelledSurvey, Survey, color_of, sizes_of, unpaired_words

_NAMED = 3  # files, sizes, or classes at either end
_ALIKE = 0.05
"""Difference of two means, of 1, below which brightness or a colour is called the same."""


def describe_sets(role: str, dataset: LabelledImages) -> Iterator[str]:
    """A line for each data set: what was found, since layouts and class lists are found by themselves."""
    for part in dataset.parts:
        yield from describe_found(role, part.found, len(dataset.classes), part.code.dropped)


def describe_found(role: str, found: Labelled, classes: int, dropped: Sequence[str]) -> Iterator[str]:
    """The same of one of them; `dropped` are classes that the source lacks."""
    if found.note:
        yield f"{role}: {found.note}"
    ignored = f"; ignored, since the source lacks them: {', '.join(dropped)}" if dropped else ""
    layout = f"{len(found.images)} images in the layout of {found.layout.name}"
    yield f"{role}: {layout}, {classes} classes{ignored}"


def describe(survey: Survey) -> list[str]:
    """Ten lines, and one more for each further data set, and for whatever is unusual."""
    lines = [] if survey.of("source") else [f"source: none; the model has {_classes_of_model(survey)}"]
    lines += [line for each in survey.labelled for line in _found(each, survey)]
    lines += [_target(survey)] if survey.target else ["target: none"]
    if not survey.of("evaluation"):
        lines.append("evaluation: none (--evaluate names labelled pictures of the target, for scores alone)")
    lines += [_looked(survey), _sizes(survey), *_classes(survey)]
    lines += [*_ignored(survey), _pairs(survey)] if survey.labelled else []
    return [*lines, *_twice(survey), *_damaged(survey), *_light(survey)]


def _classes_of_model(survey: Survey) -> str:
    names = survey.classes.names
    shown = names if len(names) <= 2 * _NAMED else (*names[:_NAMED], "…", *names[-_NAMED:])
    return f"{len(names)} classes: {', '.join(shown)}"


def _found(each: LabelledSurvey, survey: Survey) -> Iterator[str]:
    yield from describe_found(each.role, each.part.found, len(survey.classes), each.part.code.dropped)


def _target(survey: Survey) -> str:
    frames = sum(each.frames for each in survey.target)
    return f"target: {describe_target([each.part for each in survey.target], frames)}"


def _looked(survey: Survey) -> str:
    told = []
    for role in survey.looked:
        all_ = "all " if survey.complete(role) else ""
        told.append(f"{all_}{survey.seen(role)} of {role}")
    rest = all(map(survey.complete, survey.looked))
    advice = "" if rest else "; what follows is of these (`adapt check --all` reads everything)"
    return f"looked at: {', '.join(told)}{advice}"


def _sizes(survey: Survey) -> str:
    told = []
    for role, looked in survey.looked.items():
        sizes = sizes_of(looked).most_common()
        named = ", ".join(f"{width}x{height} ({n})" for (height, width), n in sizes[:_NAMED])
        told.append(
            f"{role} {named or 'unknown'}" + f" and {len(sizes) - _NAMED} more" * (len(sizes) > _NAMED)
        )
    return f"sizes: {'; '.join(told)}"


def _classes(survey: Survey) -> Iterator[str]:
    """Shares of the labelled pixels of each source, the largest and the smallest."""
    sources = survey.of("source")
    for each in sources:
        pixels = each.class_pixels
        if not pixels.any():
            continue
        order = np.argsort(-pixels, kind="stable")
        present = [int(c) for c in order if pixels[c] > 0]
        absent = [survey.classes.names[c] for c in range(len(pixels)) if pixels[c] == 0]
        shares = 100 * pixels / pixels.sum()
        shown = present if len(present) <= 2 * _NAMED else [*present[:_NAMED], *present[-_NAMED:]]
        told = [f"{survey.classes.names[c]} {shares[c]:.2g} %" for c in shown]
        if len(shown) < len(present):
            told.insert(_NAMED, "…")
        which = f" of {each.part.found.root.name}" if len(sources) > 1 else ""
        never = f"; not seen: {', '.join(absent)}" if absent else ""
        yield f"classes{which}: {', '.join(told)}{never}"


def _ignored(survey: Survey) -> Iterator[str]:
    told = [line for each in survey.labelled for line in each.ignored]
    yield from told or ["ignored: hardly any pixel (below 0.1 %)"]


def _pairs(survey: Survey) -> str:
    told = [f"{each.role}: {said}" for each in survey.labelled if (said := unpaired_words(each))]
    return f"pairs: {'; '.join(told) or 'every picture has its labels, and no label file is without one'}"


def _twice(survey: Survey) -> Iterator[str]:
    evaluations = sum(len(each.part.found.images) for each in survey.of("evaluation"))
    if not evaluations:
        yield "duplicates: not looked for, without --evaluate"
        return
    if not survey.twice:
        yield f"duplicates: none of the {evaluations} pictures to evaluate on is trained on"
    for role, pairs in survey.twice.items():
        without = " (without labels)" if role == "target" else ""
        names = ", ".join(f"{t.one.name} = {t.other.name}" for t in pairs[:_NAMED])
        yield (
            f"duplicates: {len(pairs)} of the {evaluations} pictures to evaluate on are in the {role} "
            f"too{without}: {names}{' …' * (len(pairs) > _NAMED)}"
        )


def _damaged(survey: Survey) -> Iterator[str]:
    faults, unknown = survey.damaged, [each.unknown for each in survey.labelled if each.unknown]
    if not faults and not unknown:
        yield "damaged: none of the files that were read"
    if faults:
        named = ", ".join(fault.path.name for fault in faults[:_NAMED])
        yield f"damaged: {len(faults)} ({named}{' …' * (len(faults) > _NAMED)}): {faults[0].why}"
    for sentence in unknown:
        yield f"unknown values: {sentence}"


def _light(survey: Survey) -> Iterator[str]:
    looked = survey.looked
    source, target = (color_of(looked.get(role, [])) for role in ("source", "target"))
    if source is None:
        if target is not None:
            yield f"light: target {_color(looked['target'])}"
        return
    line = f"light: source {_color(looked['source'])}"
    if target is None:
        yield line
        return
    yield f"{line}; target {_color(looked['target'])}: {_difference(looked['source'], looked['target'])}"


def _mean_brightness(looked: Sequence[Looked]) -> float:
    return float(np.mean([look.brightness for each in looked for look in each.looks]))


def _color(looked: Sequence[Looked]) -> str:
    color = color_of(looked)
    assert color is not None
    return f"brightness {_mean_brightness(looked):.2f}, RGB {' '.join(f'{part:.2f}' for part in color)}"


def _difference(source: Sequence[Looked], target: Sequence[Looked]) -> str:
    """In words: darker, redder, …; colours are compared by their shares, whatever the brightness."""
    told = []
    change = _mean_brightness(target) - _mean_brightness(source)
    if abs(change) >= _ALIKE:
        told.append("brighter" if change > 0 else "darker")
    one, other = (np.array(color_of(looked)) for looked in (source, target))
    moved = other / max(other.sum(), 1e-9) - one / max(one.sum(), 1e-9)
    strongest = int(np.argmax(moved))
    if moved[strongest] >= _ALIKE:
        told.append(("redder", "greener", "bluer")[strongest])
    return f"the target is {' and '.join(told)}" if told else "much the same"
