"""`adapt report`: a run on one HTML page, from what its folder holds and one pass over the pictures.

Every section takes what is there: a run without labels, without statistics or not yet finished gets a page
with fewer sections.
"""

from datetime import UTC, datetime
from pathlib import Path

from adapt.balance.correction import shift_table
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.data.datasets import UnlabelledImages, open_target
from adapt.data.domains import open_labelled
from adapt.errors import InputError
from adapt.evaluation.scores import Scores
from adapt.evaluation.verdict import differences, harm
from adapt.reporting.page import Section, cards, code, details, document, facts, paragraph
from adapt.reporting.picks import Picks, pick_labelled, pick_unlabelled
from adapt.reporting.result_sections import classes, confusion, pictures
from adapt.reporting.training_sections import distributions, evaluations, losses, training_pictures
from adapt.run.run import Run, write_text
from adapt.training.album import read_album
from adapt.training.journal import album_of


def write_report(run: Run, data: Path | None, tau: float, output: Path) -> None:
    """Write the page.

    Args:
        run: finished or not.
        data: labelled folder; None takes the run's own, where it has one and it is still there.
        tau: strength of the correction to compare with.
        output: the HTML file; replaced if it exists.
    """
    statistics = _statistics(run)
    picks = _picks(run, data, statistics, tau)
    moments = read_album(album_of(run.path))
    sections = [
        _settings(run),
        *losses(run),
        *evaluations(run),
        *classes(run, picks.scores, statistics, tau),
        *distributions(run, moments, statistics),
        *training_pictures(run, moments),
        *pictures(run, picks, tau if statistics is not None else 0.0),
        *confusion(run, picks.scores),
        _next(run, data, statistics, tau, harm(differences(picks.scores or {}))),
    ]
    made = f"Written by adapt report on {datetime.now(UTC):%d %B %Y}. Nothing on this page is fetched."
    title = f"{run.path.absolute().name}: {_host(run)}"
    write_text(output, document(title, _introduction(run, picks.scores, tau), sections, made))


# ---- what the page is made from --------------------------------------------------------------------------


def _statistics(run: Run) -> ShiftStatistics | None:
    try:
        return run.shift_statistics()
    except InputError:
        return None


def _picks(run: Run, data: Path | None, statistics: ShiftStatistics | None, tau: float) -> Picks:
    """One pass over the labelled pictures, else over the target's, else over the few that the run keeps."""
    shifts = None if statistics is None else shift_table(statistics)
    segmenter, own = run.segmenter(), run.config.data.evaluate
    folder = data or (own if own is not None and own.is_dir() else None)
    if folder is not None:
        dataset = open_labelled(folder, run.classes, run.config.data.size)
        return pick_labelled(segmenter, dataset, len(run.classes), shifts, tau)
    try:
        settings = run.config.data
        images = open_target(settings.target, run.path / "frames", settings.frames, settings.size)
    except InputError:  # the target has gone: pictures of it are in the run
        images = UnlabelledImages(run.frames)
    return pick_unlabelled(segmenter, images, shifts, tau)


def _host(run: Run) -> str:
    method = run.config.method
    return f"{method.host}, balance {method.balance}"


# ---- sections --------------------------------------------------------------------------------------------


def _introduction(run: Run, scores: dict[float, Scores] | None, tau: float) -> str:
    state = "finished" if run.card.finished else "not finished"
    text = paragraph(f"{run.card.iterations} iterations, {state}; {len(run.classes)} classes.")
    if scores is None:
        return text + paragraph(
            "No labelled pictures were given, so nothing here is measured against labels."
        )
    before, after = scores[0.0], scores.get(tau)
    entries = {
        "mIoU": _pair(before, after, "mean_iou", tau),
        "mAcc": _pair(before, after, "mean_accuracy", tau),
        "std of IoU": _pair(before, after, "std_iou", tau),
        "sum of |Bias|": _pair(before, after, "sum_abs_bias", tau),
    }
    return text + cards(entries)


def _pair(before: Scores, after: Scores | None, name: str, tau: float) -> tuple[str, str]:
    def number(scores: Scores) -> str:
        value = getattr(scores, name)
        return f"{value:.3f}" if name == "sum_abs_bias" else f"{100 * value:.1f} %"

    return number(before), "" if after is None else f"{number(after)} at tau {tau:g}"


def _settings(run: Run) -> Section:
    data, model, training = run.config.data, run.config.model, run.config.training
    encoder = model.encoder
    entries = {
        "host": _host(run),
        "encoder": str(encoder.pretrained or encoder.factory or (encoder.config or {}).get("model_type")),
        "decoder": f"{model.decoder}, {model.width} channels",
        "source": ", ".join(map(str, data.source)) or "none",
        "target": ", ".join(map(str, data.target)) or "none",
        "evaluated on": str(data.evaluate or "nothing during training"),
        "crops": f"{data.crop[0]}x{data.crop[1]}, {training.batch * training.accumulate} of each domain",
        "learning rates": f"encoder {training.encoder_lr:g}, decoder {training.decoder_lr:g}",
        "precision": training.precision,
        "seed": str(training.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in run.card.versions.items()),
        "licence": run.card.license_note,
    }
    body = facts(entries) + details("all settings", run.config.to_yaml())
    return Section("settings", "Settings", body)


def _next(run: Run, data: Path | None, statistics: ShiftStatistics | None, tau: float, said: str) -> Section:
    """Commands that come next. `said`: what labels say against the correction, which is then not advised."""
    path = run.path
    labelled = data or run.config.data.evaluate or "LABELLED"
    commands = []
    if not run.card.finished:
        commands.append(f"adapt train --resume {path}")
    if statistics is None:
        commands.append(f"adapt statistics {path}    # to correct it after training")
    else:
        commands.append(f"adapt tau {path} --data {labelled}    # choose the strength of the correction")
    correct = statistics is not None and not said and tau > 0
    correction = f"--with-correction --tau {tau:g}" if correct else "--without-correction"
    commands += [
        f"adapt eval {path} --data {labelled} --confusion confusion.png",
        f"blda export onnx {path} {correction} -o model.onnx",
        f"blda export eval model.onnx --data {labelled}    # what is shipped, scored",
        "serve image model.onnx PICTURES -o labels",
        "serve video model.onnx VIDEO -o video.mp4",
    ]
    advice = paragraph(f"{said[0].upper()}{said[1:]}") if said else ""
    return Section("next", "What to do next", advice + code("\n".join(commands)))
