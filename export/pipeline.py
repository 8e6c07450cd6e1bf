"""From a run folder, a graph of ours or anybody's model to a verified file: what the command line calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from adapt.errors import InputError
from adapt.run.cards import ADAPTED_TAU, default_words
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info, lineage, record_verification
from export.fold.tables import MAX_TAU
from export.foreign.graph import check_valid
from export.precision.gates import in_precision
from export.precision.kinds import PRECISIONS
from export.sources.calibrated import open_calibrated
from export.sources.given import Given, index_of
from export.sources.pictures import calibration_pictures, pictures_for
from export.sources.source import Source, open_source
from export.statistics.gathered import Anchors, is_gathered, open_gathered
from export.statistics.profiles import open_profiles
from export.verification.band import MOST
from export.verification.changes import changes
from export.verification.parity import open_with_scores, verify
from export.verification.result import Verification
from export.weights.beside import bytes_outside, read, save
from export.weights.writing import remove_former, written_beside
from serve.card import GraphInfo
from serve.gathering.rule import Rule, rule_around
from serve.gathering.times import slots_of
from serve.inference.opening import runtime_of
from serve.inference.segmenter import Segmenter
from serve.media.files import check_outputs
from serve.media.images import Image
from serve.media.whole import replacing


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    path: Path
    info: GraphInfo
    """What it says of itself, apart from the check."""
    precision: str
    """What its network computes in, and for less than float32 how its labels agree, in words."""
    verification: Verification
    size: int
    """Bytes, with those of the weights beside it."""


def export_onnx(
    source: Path | str,
    output: Path | str,
    *,
    correct: bool = True,
    tau: float | None = None,
    runtime_tau: bool = False,
    size: tuple[int, int] | None = None,
    scores: bool = False,
    uncorrected_labels: bool = False,
    gather: bool = False,
    error_bound: float | None = None,
    data: Path | None = None,
    precision: str | None = None,
    calibrate: Path | None = None,
    stats: Path | None = None,
    profile: Sequence[str] = (),
    anchors: Anchors | None = None,
    slot: Sequence[str] = (),
    other_model: bool = False,
    leave: Sequence[str] = (),
    force: bool = False,
    say: Callable[[str], object] = lambda _: None,
    use: Callable[[Segmenter], object] | None = None,
) -> Exported:
    """Write a source as one ONNX file: pictures in, labels out, the correction inside.

    The file is checked on pictures against its source, and appears at `output` if the check passes.

    Args:
        source: a run folder or an ONNX file made here; with `stats` any ONNX segmenter.
        correct: fold the correction (Li et al. 2025, section 3.2).
        tau: its strength in [0, 2]; None is what `adapt tau --write` chose for the run, else 0.5.
        runtime_tau: make tau an optional input of the graph, with `tau` as its default.
        size: (height, width) of the pictures that it takes; None is any size.
        scores: also output the scores, at the decoder's stride.
        uncorrected_labels: also output what it would say uncorrected.
        gather: also output the logits, at the decoder's stride, for `serve --gather` to count.
        error_bound: proven limit of what folding may change a score by, in logits; None is 0.02 (in
            proportion for logits of an unusual size), or the best that a table holds.
        data: folder of pictures to check it on; None takes those in the run.
        precision: what the network computes in; None as the source does.
        calibrate: folder of pictures of the target, to find the ranges of int8 with.
        stats: file of statistics from `calibrate`, or one that was gathered in the field; None takes the
            source's own.
        profile: several corrections for the file, of which a run chooses one: "NAME=STATS", or "NAME" for
            what the source holds, see `export.statistics.profiles`. The first is the default; none given
            takes those of the source.
        anchors: of gathered statistics, those in the "model" (None too) or of the "target" itself.
        slot: which times of gathered statistics, see `serve.gathering.times.slots_of`; none is all.
        other_model: `stats` is of the same weights, exported another time.
        leave: names of classes that stand for none (void): the correction never raises them.
        force: replace what is at `output`.
        say: called with each step, in words.
        use: called with the file once it is written, open as it was checked.

    Raises:
        InputError: options that exclude each other, files that can't be used, or a check that failed.
    """
    source, output = Path(source), Path(output)
    if tau is not None and not 0 <= tau <= MAX_TAU:  # also catches nan
        raise InputError(f"--tau is {tau:g}, but must lie in [0, 2]; 0.2 is a good start.")
    if not correct and (runtime_tau or uncorrected_labels):
        raise InputError("--runtime-tau and --uncorrected-labels need the correction; drop them or fold it.")
    if not correct and gather:
        raise InputError("--gather counts in the range of the correction's statistics; drop it or fold them.")
    if precision is not None and precision not in PRECISIONS:
        raise InputError(f"--precision {precision} is not known; choose one of {', '.join(PRECISIONS)}.")
    if (precision is not None and PRECISIONS[precision].measured) != (calibrate is not None):
        raise InputError("--precision int8 and --calibrate DIR belong together; give both or neither.")
    if not correct and (stats is not None or profile or other_model or leave):
        raise InputError(
            "--stats, --profile, --other-model and --leave are of the correction; drop them or fold it."
        )
    if profile and (stats is not None or slot):
        raise InputError(
            "--profile NAME=STATS brings its own statistics, whole; leave --stats and --slot out, or fold a "
            "part with them first and give the file that it makes: --profile night=night.onnx."
        )
    if (anchors is not None or slot) and not profile and (stats is None or not is_gathered(stats)):
        raise InputError("--anchors and --slot are of --stats that were gathered; leave them out.")
    check_outputs([output], force)
    measured = [] if calibrate is None else calibration_pictures(calibrate)
    say(f"reading {source}")
    opened, given = _opened(source, correct, stats, profile, anchors, slot)
    if leave:
        excluded = [index_of(name, opened.card.classes) for name in leave]
        given = [each.leaving(excluded) for each in given]
    default = opened.tau if stats is None else opened.default_tau
    strengths: list[Strength] = []
    for each in given:
        for sentence in _told(each, tau, default, opened):
            say(f"{each.profile}: {sentence}" if each.profile else sentence)
        own = opened.strength(each, _tau(each, tau, default), runtime_tau, error_bound, other_model)
        strengths.append(replace(own, gather=_rule(each) if gather else None, profile=each.profile))
    strength = replace(strengths[0], others=tuple(strengths[1:])) if strengths else None
    say("folding")
    extras = Extras(scores, uncorrected_labels, None if strength is None else strength.gather)
    model = build(opened, strength, opened.deployed_size(size), extras)
    info = graph_info(model, str(output))
    bounds = [each.correction.error_bound for each in info.every]
    if error_bound is not None and max(bounds, default=0) > error_bound:
        raise InputError(
            f"--error-bound {error_bound:g} is less than a table can hold of these statistics; the best is "
            f"{max(bounds):.2g}: give that, or lower --tau."
        )
    frames, words, _ = pictures_for(info.card, opened, data)
    model, checked, agreed = in_precision(model, opened, strength, extras, precision, frames, words, measured)
    if opened.batch is not None:
        _fix_batch(model, opened.batch)
    say(f"checking on {len(frames)} {words}")
    result = write_verified(model, output, checked, frames, words, overwrite=force, use=use)
    if any(each.why for each in given) and source.is_file() and frames:
        for name in [each.profile for each in given]:
            say(changes(source, output, frames, name).report())
    total = output.stat().st_size + bytes_outside(model)
    return Exported(output, graph_info(model, str(output)), agreed, result, total)


def _opened(
    source: Path,
    correct: bool,
    stats: Path | None,
    profile: Sequence[str],
    anchors: Anchors | None,
    slot: Sequence[str],
) -> tuple[Source, list[Given]]:
    """What to fold: the network, and the statistics of every correction."""
    if profile:
        return open_profiles(source, profile, anchors)
    if stats is None:
        opened: Source = open_source(source)
        if not correct:
            return opened, []
        return opened, list(opened.profiles().values()) or [opened.statistics()]
    if is_gathered(stats):
        opened, given = open_gathered(source, stats, anchors or "model", slots_of(slot))
    else:
        opened, given = open_calibrated(source, stats)
    return opened, [given]


def _tau(given: Given, wanted: float | None, default: float) -> float:
    """The strength of a correction: the person's, that of its statistics, or the source's."""
    if wanted is not None:
        return wanted
    return default if given.tau is None else given.tau


def _told(given: Given, wanted: float | None, default: float, source: Source) -> list[str]:
    """What to say of a correction before it is folded: its strength, and what speaks against it."""
    tau = _tau(given, wanted, default)
    said = [given.note] if given.note else []
    if given.why:
        said.append(f"strength: {given.why if wanted is None else f'tau {tau:g}, as given'}")
    elif wanted is None and tau == 0:
        chosen = "tau 0 was chosen for the run" if source.chosen_tau == 0 else f"{source.path.name} has tau 0"
        why = source.doubt or chosen
        said.append(f"{why}; so labels are the uncorrected ones, and --tau folds another strength")
    elif wanted is None and tau == source.default_tau == ADAPTED_TAU and source.chosen_tau is None:
        said.append(f"strength: {default_words(tau)}; --tau folds another")
    return said + (list(given.warnings) if tau > 0 else [])


def _rule(given: Given) -> Rule:
    """How what these statistics correct is counted in the field: in their range, by their labels.

    Raises:
        InputError: a class takes no part, whose pixels would be counted as those of others.
    """
    statistics = given.statistics
    if statistics.excluded is not None and bool(statistics.excluded.any()):
        raise InputError(
            "--gather counts all classes, but some take no part in this correction (masked, or --leave); "
            "drop it."
        )
    offset = given.offset or (0.0,) * statistics.num_classes
    return rule_around(statistics.logit_range, offset, given.pixels)


def build(
    source: Source, strength: Strength | None, size: tuple[int, int] | None, extras: Extras
) -> onnx.ModelProto:
    """The deployable graph.

    Raises:
        InputError: a size too small, or what `fold` refuses.
    """
    card = source.card
    if size is not None and min(size) < card.minimum_size:
        raise InputError(
            f"--size is {size[0]}x{size[1]}, but both sides must have at least {card.minimum_size} pixels."
        )
    made_from = source.network.made_from
    if strength is not None and strength.of not in (None, *source.network.known):
        made_from = (*made_from, str(strength.of))  # the person vouched for it
    return fold(source.logits_graph, replace(card, size=size), strength, extras, made_from)


def write_verified(
    model: onnx.ModelProto,
    output: Path,
    source: Source,
    frames: Sequence[Image],
    pictures: str,
    *,
    overwrite: bool = True,
    use: Callable[[Segmenter], object] | None = None,
) -> Verification:
    """Check the graph, store the result in it and write it; nothing appears at `output` if the check fails.

    Args:
        overwrite: replace what is at `output` by then; else it is kept, see `serve.media.whole.unfinished`.
        use: see `export_onnx`.

    Raises:
        InputError: the check failed, or the graph is not valid ONNX.
    """
    known = lineage(model)
    network = "" if known is None else known.sha256
    with (
        replacing(output, overwrite=overwrite) as temporary,
        written_beside(model, output, network) as beside,
    ):
        save(beside.now, temporary)
        written = read(temporary)
        check_valid(written, output)
        faults = source.unlike(graph_info(written, str(output)).card)
        reference, session = source.reference(), open_with_scores(written, str(output))
        result = verify(
            written, str(output), reference, source.words, frames, pictures, (), faults, MOST, session
        )
        if not result.passed:
            raise InputError(f"nothing was written to {output}, because the check {result.report()}")
        record_verification(beside.later, result.record(), str(output))
        save(beside.later, temporary)
    remove_former(output, beside.later)
    if use is not None:
        use(Segmenter(runtime_of(output, session)))
    return result


def _fix_batch(model: onnx.ModelProto, batch: int) -> None:
    """Declare, in place, how many pictures a graph takes at once."""
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim:  # not the input tau
            value.type.tensor_type.shape.dim[0].dim_value = batch
