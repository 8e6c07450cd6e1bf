"""What a training begins with: a new network, or with `adapt train --from` a trained one and its classes."""

from dataclasses import dataclass
from pathlib import Path

from adapt.config.settings import Config, Model
from adapt.data.classes import ClassList, load_classes, numbered_palette
from adapt.data.domains import find_classes, find_source
from adapt.errors import InputError
from adapt.model.build import COPY, Built, build
from adapt.model.foreign import open_foreign
from adapt.run.cards import CARD
from adapt.run.run import load_run
from adapt.training.checks import check_classes


@dataclass(frozen=True)
class Beginning:
    """The network that a training begins with."""

    built: Built
    classes: ClassList
    model: Model
    """Settings that describe it."""


def begin(config: Config, preset: str | None) -> Beginning:
    """A new network as the settings describe it, or the one that they name.

    Raises:
        InputError: it can't be had, or its classes are not those of the source, or not the preset's.
    """
    if config.model.start is None:
        classes = _of_source(config)
        check_classes(config, preset, classes)  # before an encoder is fetched
        return Beginning(build(config.model, len(classes)), classes, config.model)
    begun = _named(config, config.model.start)
    check_classes(config, preset, begun.classes)
    if begun.built.recipe.get("whole") and config.method.feature_distance > 0:
        raise InputError(
            f"method.host={config.method.host} keeps the encoder near its pretrained state, and which "
            f"part of {config.model.start} is one is not known; set method.feature_distance=0."
        )
    if config.data.source and (source := _of_source(config)).names != begun.classes.names:
        raise InputError(
            f"{config.model.start} has the classes {', '.join(begun.classes.names)}, and the source "
            f"{', '.join(source.names)}; bring the source's labels to the model's classes with a label map "
            "(--label-map) and --classes, or leave the source out."
        )
    return begun


def _of_source(config: Config) -> ClassList:
    return find_classes(config.data.source[0], config.data.classes, find_source(config.data))


def _named(config: Config, start: str) -> Beginning:
    if (Path(start) / CARD).is_file():
        return _of_run(config, Path(start))
    foreign = open_foreign(start, config.model.weights, config.data.crop)
    classes = _classes(config, foreign.names, foreign.built.segmenter.num_classes)
    return Beginning(foreign.built, classes, config.model)


def _of_run(config: Config, path: Path) -> Beginning:
    """The student of a run, which is what is exported."""
    if (
        config.data.classes is not None
        and load_classes(config.data.classes).names != load_run(path).classes.names
    ):
        raise InputError(
            f"--classes {config.data.classes} are not those of the run {path}; leave the option out."
        )
    run = load_run(path)
    factory = path / COPY if "factory" in run.card.model.encoder else None
    built = Built(run.segmenter(), run.card.recipe, factory, run.card.license_note)
    settings = run.config.model.model_copy(update={"start": config.model.start, "weights": None})
    return Beginning(built, run.classes, settings)


def _classes(config: Config, names: tuple[str, ...] | None, number: int) -> ClassList:
    """Those of --classes, else by the names that the model has, else numbered.

    Raises:
        InputError: more or fewer than the model has.
    """
    if config.data.classes is None:
        names = names or tuple(f"class{c}" for c in range(number))
        return ClassList(names, tuple(range(number)), numbered_palette(number))
    given = load_classes(config.data.classes)
    if len(given) != number:
        raise InputError(
            f"{config.data.classes} has {len(given)} classes, but {config.model.start} gives {number} logits "
            "per pixel; list every output of the model, in its order."
        )
    return given


def without_source(config: Config) -> Config:
    """The same without what needs labels of a source: the host's rare-class sampling and feature distance.

    Nor is a run's classifier adjusted whose training saw to the shares of the classes, unless asked for.
    """
    if not config.source_free:
        return config
    off: dict[str, float | None] = {"rare_class_temperature": None, "feature_distance": 0.0}
    if "start_adjustment" not in config.method.model_fields_set and _saw_to_shares(str(config.model.start)):
        off["start_adjustment"] = 0.0
    return config.model_copy(update={"method": config.method.model_copy(update=off)})


def _saw_to_shares(start: str) -> bool:
    return (Path(start) / CARD).is_file() and load_run(Path(start)).config.method.uses_shares


def absolute(config: Config) -> Config:
    """Paths that mean the same from any working folder, so that a run can be resumed from anywhere."""
    data, model, method = config.data, config.model, config.method
    paths = {
        "source": tuple(path.absolute() for path in data.source),
        "target": tuple(path.absolute() for path in data.target),
        "target_labels": data.target_labels and data.target_labels.absolute(),
        "classes": data.classes and data.classes.absolute(),
        "label_map": data.label_map and data.label_map.absolute(),
        "evaluate": data.evaluate and data.evaluate.absolute(),
    }
    start = model.start
    if start is not None and (Path(start).exists() or ".py:" in start):  # else it is a hub name
        start = str(Path(start).absolute())
    places = {"start": start, "weights": model.weights and model.weights.absolute()}
    anchors = {"anchors": method.anchors and method.anchors.absolute()}
    changed = {"data": data.model_copy(update=paths), "model": model.model_copy(update=places)}
    return config.model_copy(update=changed | {"method": method.model_copy(update=anchors)})
