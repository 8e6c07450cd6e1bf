"""From a run folder, a graph of ours or anybody's model to a verified file: what the command line calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from adapt.errors import InputError
from adapt.run.cards import DEFAULT_TAU
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info, record_verification
from export.fold.tables import MAX_TAU
from export.precision.gates import in_precision
from export.precision.kinds import PRECISIONS
from export.sources.calibrated import open_calibrated
from export.sources.given import Given
from export.sources.pictures import calibration_pictures, pictures_for
from export.sources.source import Source, index_of, open_source
from export.statistics.gathered import Anchors, is_gathered, open_gathered
from export.verification.band import MOST
from export.verification.changes import changes
from export.verification.parity import verify
from export.verification.result import Verification
from serve.card import GraphInfo
from serve.gathering.rule import Rule, rule_around
from serve.gathering.times import slots_of
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
    anchors: Anchors | None = None,
    slot: Sequence[str] = (),
    other_model: bool = False,
    leave: Sequence[str] = (),
    force: bool = False,
    say: Callable[[str], object] = lambda _: None,
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
        anchors: of gathered statistics, those in the "model" (None too) or of the "target" itself.
        slot: which times of gathered statistics, see `serve.gathering.times.slots_of`; none is all.
        other_model: `stats` is of the same weights, exported another time.
        leave: names of classes that stand for none (void): the correction never raises them.
        force: replace what is at `output`.
        say: called with each step, in words.

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
    if not correct and (stats is not None or other_model or leave):
        raise InputError("--stats, --other-model and --leave are of the correction; drop them or fold it.")
    if (anchors is not None or slot) and (stats is None or not is_gathered(stats)):
        raise InputError("--anchors and --slot are of --stats that were gathered; leave them out.")
    check_outputs([output], force)
    measured = [] if calibrate is None else calibration_pictures(calibrate)
    say(f"reading {source}")
    if stats is None:
        opened: Source = open_source(source)
        given = opened.statistics() if correct else None
    elif is_gathered(stats):
        opened, given = open_gathered(source, stats, anchors or "model", slots_of(slot))
    else:
        opened, given = open_calibrated(source, stats)
    if given is not None and leave:
        given = given.leaving([index_of(name, opened.card.classes) for name in leave])
    if tau is None:
        tau = opened.tau if stats is None else DEFAULT_TAU
        tau = tau if given is None or given.tau is None else given.tau
        if correct and tau == 0:
            why = opened.doubt or "tau 0 was chosen for the run"
            say(f"{why}; so labels are the uncorrected ones, and --tau folds another strength")
    strength = None
    if given is not None:
        strength = opened.strength(given, tau, runtime_tau, error_bound, other_model)
        if given.note:
            say(given.note)
    say("folding")
    extras = Extras(scores, uncorrected_labels, _rule(given) if gather and given is not None else None)
    model = build(opened, strength, opened.deployed_size(size), extras)
    info = graph_info(model, str(output))
    folded = info.correction
    if error_bound is not None and folded is not None and folded.error_bound > error_bound:
        raise InputError(
            f"--error-bound {error_bound:g} is less than a table can hold of these statistics; the best is "
            f"{folded.error_bound:.2g}: give that, or lower --tau."
        )
    frames, words, _ = pictures_for(info.card, opened, data)
    model, checked, agreed = in_precision(model, opened, strength, extras, precision, frames, words, measured)
    if opened.batch is not None:
        _fix_batch(model, opened.batch)
    say(f"checking on {len(frames)} {words}")
    result = write_verified(model, output, checked, frames, words, overwrite=force)
    if stats is not None and is_gathered(stats) and source.is_file() and frames:
        say(changes(source, output, frames).report())
    return Exported(output, graph_info(model, str(output)), agreed, result)


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
) -> Verification:
    """Check the graph, store the result in it and write it; nothing appears at `output` if the check fails.

    Args:
        overwrite: replace what is at `output` by then; else it is kept, see `serve.media.whole.unfinished`.

    Raises:
        InputError: the check failed, or the graph is not valid ONNX.
    """
    with replacing(output, overwrite=overwrite) as temporary:
        onnx.save(model, temporary)
        written = onnx.load(temporary)
        onnx.checker.check_model(written, full_check=True)
        faults = source.unlike(graph_info(written, str(output)).card)
        reference = source.reference()
        result = verify(
            written, str(output), reference, source.words, frames, pictures, faults=faults, most=MOST
        )
        if not result.passed:
            raise InputError(f"nothing was written to {output}, because the check {result.report()}")
        record_verification(model, result.record(), str(output))
        onnx.save(model, temporary)
    return result


def _fix_batch(model: onnx.ModelProto, batch: int) -> None:
    """Declare, in place, how many pictures a graph takes at once."""
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim:  # not the input tau
            value.type.tensor_type.shape.dim[0].dim_value = batch
