"""`--profile NAME=STATS`: several corrections for one file, each from statistics of its own.

STATS is a file of `export calibrate`, one that was gathered in the field, or an ONNX file that was folded
here, of which the strength is taken too. NAME alone stands for what the source itself holds: its profile of
that name, or the only statistics that it has.
"""

from collections.abc import Sequence
from pathlib import Path

from adapt.errors import InputError
from export.sources.calibrated import is_ours, open_calibrated
from export.sources.given import Given
from export.sources.source import GraphSource, Source, open_source
from export.statistics.gathered import Anchors, is_gathered, open_gathered
from serve.card import MOST_PROFILES


def open_profiles(
    path: Path, wanted: Sequence[str], anchors: Anchors | None = None
) -> tuple[Source, list[Given]]:
    """A source, and the statistics of every profile in the order given; of a single one without a name.

    Args:
        path: a run, a graph of ours, or anybody's model with statistics of `export calibrate`.
        wanted: "NAME=STATS" or "NAME", each name once.
        anchors: of gathered statistics.

    Raises:
        InputError: names or files that can't be used, or that don't fit the source.
    """
    named = profiles_of(wanted)
    opened: Source | None = None
    given = []
    for name, file in named.items():
        opened, own = _open(path, name, file, anchors, opened)
        given.append(own._replace(profile=name if len(named) > 1 else ""))
    assert opened is not None, "there is one at least"
    if anchors is not None and not any(file is not None and is_gathered(file) for file in named.values()):
        raise InputError(
            "--anchors is of statistics that were gathered, and no profile has such; leave it out."
        )
    return opened, given


def profiles_of(wanted: Sequence[str]) -> dict[str, Path | None]:
    """Names and files of "NAME=STATS". Raises InputError if there are too many, or names twice."""
    named: dict[str, Path | None] = {}
    for text in wanted:
        name, equals, file = text.partition("=")
        if not name.strip() or "," in name or (equals and not file):
            raise InputError(
                f"--profile {text} is no profile; give NAME=STATS, such as night=night.safetensors."
            )
        if name in named:
            raise InputError(f"--profile {name} is given twice; give each profile a name of its own.")
        named[name] = Path(file) if equals else None
    if len(named) > MOST_PROFILES:
        raise InputError(
            f"{len(named)} profiles were given, but a file holds {MOST_PROFILES} at most; make two files."
        )
    return named


def _open(
    path: Path, name: str, file: Path | None, anchors: Anchors | None, opened: Source | None
) -> tuple[Source, Given]:
    if file is None:
        source = opened or open_source(path)
        held = source.profiles()
        if held and name not in held:
            raise InputError(
                f"--profile {name} is not in {path}; choose of {', '.join(held)}, or give NAME=STATS."
            )
        return source, held[name] if held else _own(source)
    if is_gathered(file):
        return open_gathered(path, file, anchors or "model", opened=opened)
    if file.suffix.lower() != ".onnx":
        source, given = open_calibrated(path, file, opened)
        return source, given._replace(tau=source.default_tau)
    if not is_ours(file):
        raise InputError(f"{file} holds no statistics, as it was not exported here; calibrate it first.")
    of = open_source(file)
    held = of.profiles()
    if held and name not in held:
        raise InputError(f"{file} has the profiles {', '.join(held)}, but not {name}; give one by its name.")
    return opened or open_source(path), held[name] if held else _own(of)


def _own(source: Source) -> Given:
    """The only statistics of a source, at its own strength."""
    tau = source.tau
    if isinstance(source, GraphSource):  # a file of strength 0 keeps it: somebody folded it so
        tau = source.chosen_tau or 0.0
    return source.statistics()._replace(tau=tau)
