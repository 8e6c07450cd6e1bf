"""The commands of `adapt` that score a run: eval and tau."""

import json
from pathlib import Path
from typing import Any

import click

from adapt.cli.options import FOLDER, Size, Strength
from adapt.errors import InputError

_BASELINES = click.option(
    "--baselines",
    is_flag=True,
    help="Also score plain logit adjustment by the shares of the target's classes.",
)
_TARGET = click.option(
    "--target",
    type=FOLDER,
    multiple=True,
    help="Images or videos that --baselines count shares on (repeat) [default: the run's own target].",
)


@click.command("eval")
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, required=True, help="Labelled folder.")
@click.option("--tau", "taus", type=Strength, multiple=True, help="Strength of the correction (repeat).")
@click.option("--beside", type=FOLDER, multiple=True, help="Another run to show first, uncorrected (repeat).")
@_BASELINES
@_TARGET
@click.option("--teacher", is_flag=True, help="Evaluate the EMA teacher instead of the student.")
@click.option("--window", type=Size(), help="Cut pictures into windows of this size and average the logits.")
@click.option(
    "--overlap",
    type=click.FloatRange(0, 0.95),
    help="Share of its side that a window has in common with the next [default: 0.5].",
)
@click.option("--json", "json_path", type=FOLDER, help="Also write the scores to this file.")
@click.option("--confusion", type=FOLDER, help="Also draw the confusion matrices into this PNG.")
@click.option("--force", is_flag=True, help="Overwrite the files to write.")
def evaluate(
    run: Path,
    data: Path,
    taus: tuple[float, ...],
    beside: tuple[Path, ...],
    baselines: bool,
    target: tuple[Path, ...],
    teacher: bool,
    window: tuple[int, int] | None,
    overlap: float | None,
    json_path: Path | None,
    confusion: Path | None,
    force: bool,
) -> None:
    """Score a run on labelled data: IoU, accuracy and bias, uncorrected and corrected.

    Where the correction lowers the scores, a sentence says so. An exported file is scored with `blda export
    eval`, as it is shipped.
    """
    if run.suffix == ".onnx":
        raise InputError(f"{run} is no run folder; score an exported file with `blda export eval {run}`.")
    if overlap is not None and window is None:
        raise InputError("--overlap is that of windows; give --window HEIGHTxWIDTH too.")
    _check_target(baselines, target)
    from serve.media.files import check_outputs

    check_outputs([path for path in (json_path, confusion) if path is not None], force)

    from adapt.commands.measuring import score
    from adapt.model.window import Window
    from adapt.run.run import load_run

    cut = None if window is None else Window(window, 0.5 if overlap is None else overlap)
    which = "teacher" if teacher else "student"
    others = [load_run(path) for path in beside]
    scores = score(load_run(run), data, taus, which, cut, baselines, target, others)
    scores.publish(json_path, confusion)


@click.command("tau")
@click.argument("run", type=FOLDER)
@click.option(
    "--data", type=FOLDER, help="Labelled folder; without it only the label-free estimate is shown."
)
@click.option(
    "--by",
    type=click.Choice(["mIoU", "mAcc"], case_sensitive=False),
    default="mIoU",
    show_default=True,
    help="What the strength to write is best for.",
)
@click.option(
    "--write", is_flag=True, help="Make the best strength the run's own, if it is better than noise."
)
@click.option("--tau", "wanted", type=Strength, help="Strength to write, whatever is best; needs no --data.")
@_BASELINES
@_TARGET
@click.option("-o", "--output", type=FOLDER, help="Picture to write; by default RUN/report/tau.png.")
@click.option("--json", "json_path", type=FOLDER, help="Also write the table to this file.")
@click.option("--force", is_flag=True, help="Overwrite the files to write.")
def tau(run: Path, output: Path | None, json_path: Path | None, force: bool, **options: Any) -> None:
    """Help to choose the strength of the post-hoc correction: a table and a picture over a range of it.

    With labels: mIoU, mAcc, std of IoU and the measured sum of |Bias|, with intervals by bootstrap over the
    pictures, and how far the label-free estimate agrees. Always: the estimate of that sum, from the
    statistics in the run. What --write writes is where `blda export onnx`, `adapt eval`, `adapt bias` and
    `adapt report` start from.
    """
    data, baselines, target = options["data"], options["baselines"], options["target"]
    write, wanted = options["write"], options["wanted"]
    _check_target(baselines, target)
    if data is None and baselines:
        raise InputError("--baselines are measured on labelled pictures; give them with --data.")
    if write and data is None and wanted is None:
        raise InputError(
            "--write writes the strength that labelled pictures choose; give them with --data, or a strength "
            "with --tau."
        )
    if wanted is not None and not write:
        raise InputError("--tau is the strength to write; give --write too, or leave it out.")
    from serve.media.files import check_outputs

    check_outputs([path for path in (output, json_path) if path is not None], force)

    from adapt.commands.measuring import check_writable, settle, strengths, write_tau
    from adapt.reporting.pictures import draw_sweep
    from adapt.run.run import load_run, write_text

    opened = load_run(run)
    if write:
        check_writable(opened)
    picture = output or run / "report" / "tau.png"
    picture.parent.mkdir(exist_ok=True)
    check_outputs([picture], force=True)
    sweep = strengths(opened, data, baselines, target)
    click.echo(sweep.table())
    click.echo(sweep.advice(opened.tau))
    if opened.doubt:
        click.echo(f"{opened.doubt}; so the run's tau is 0 until one is chosen")
    draw_sweep(sweep, picture)
    click.echo(f"wrote {picture}")
    if json_path is not None:
        write_text(json_path, json.dumps(sweep.to_dict()) + "\n")
        click.echo(f"wrote {json_path}")
    if write:
        click.echo(settle(opened, sweep, options["by"]) if wanted is None else write_tau(opened, wanted))


def _check_target(baselines: bool, target: tuple[Path, ...]) -> None:
    if target and not baselines:
        raise InputError("--target is what the shares of --baselines are counted on; give both, or neither.")
