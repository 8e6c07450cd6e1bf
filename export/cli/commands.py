"""`blda export …`: options in, one call, errors for people. Heavy imports wait until a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from adapt.errors import Group, InputError
from export.cli.deploy import show, tensorrt, triton
from export.cli.evaluate import evaluate
from export.cli.options import PATH, SIZE, Channels

if TYPE_CHECKING:
    import onnx

    from export.foreign.convention import ChannelOrder, Layout


@click.group(cls=Group)
def main() -> None:
    """Turn a run, or anybody's ONNX segmenter, into one deployable graph.

    `export` alone is a word of the shell: type `blda export …` or `python -m export …`.
    """


@main.command("onnx")
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="ONNX file to write.")
@click.option("--with-correction/--without-correction", "correct", default=True, show_default=True)
@click.option(
    "--tau", type=float, help="Strength of the correction, 0 to 2 [default: 0.2; with --stats 0.5]."
)
@click.option("--runtime-tau", is_flag=True, help="Make tau an optional input, with --tau as its default.")
@click.option("--size", type=SIZE, default="dynamic", show_default=True, help="Picture size the graph takes.")
@click.option("--scores", is_flag=True, help="Also output the scores, at the decoder's stride.")
@click.option("--uncorrected-labels", is_flag=True, help="Also output what it would say uncorrected.")
@click.option(
    "--error-bound",
    type=click.FloatRange(0.0001, 1.0),
    help="Proven limit of what folding may change a score by [default: 0.02, or the best a table holds].",
)
@click.option(
    "--data", type=PATH, help="Folder of pictures to check the file on [default: those in the run]."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="What the network computes in; the correction stays fp32 [default: as SOURCE, a run being fp32].",
)
@click.option("--calibrate", type=PATH, help="Folder of target pictures, to find the ranges of int8 with.")
@click.option("--stats", type=PATH, help="Statistics to correct with, from `calibrate` [default: SOURCE's].")
@click.option(
    "--other-model", is_flag=True, help="The statistics are of the same weights, exported another time."
)
@click.option("--force", is_flag=True, help="Overwrite the output.")
def onnx_command(
    source: Path,
    output: Path,
    correct: bool,
    tau: float | None,
    runtime_tau: bool,
    size: tuple[int, int] | None,
    scores: bool,
    uncorrected_labels: bool,
    error_bound: float | None,
    data: Path | None,
    precision: 'Literal["fp32", "fp16", "int8"] | None',
    calibrate: Path | None,
    stats: Path | None,
    other_model: bool,
    force: bool,
) -> None:
    """Write SOURCE, a run folder or an ONNX file made here before, as one ONNX file.

    With --stats, SOURCE may be any ONNX segmenter. The file takes pictures and gives labels. It is checked
    before it appears at the output's name.
    """
    if tau is not None and not 0 <= tau <= 2:  # also catches nan
        raise InputError(f"--tau is {tau:g}, but must lie in [0, 2]; 0.2 is a good start.")
    if not correct and (runtime_tau or uncorrected_labels):
        raise InputError("--runtime-tau and --uncorrected-labels need the correction; drop them or fold it.")
    if (precision == "int8") != (calibrate is not None):
        raise InputError("--precision int8 and --calibrate DIR belong together; give both or neither.")
    if not correct and (stats is not None or other_model):
        raise InputError("--stats and --other-model are of the correction; drop them or fold it.")
    from serve.media.files import check_outputs

    check_outputs([output], force)

    from export.fold.fold import Extras
    from export.fold.folded import graph_info
    from export.fold.tables import CALIBRATED_TAU, DEFAULT_BOUND, DEFAULT_TAU
    from export.pipeline import build, write_verified
    from export.precision.gates import in_precision
    from export.sources.calibrated import deployed_size, open_calibrated, with_fixed_batch
    from export.sources.pictures import calibration_pictures, pictures_for
    from export.sources.source import open_source

    if tau is None:
        tau = DEFAULT_TAU if stats is None else CALIBRATED_TAU
    measured = [] if calibrate is None else calibration_pictures(calibrate)
    click.echo(f"reading {source}", err=True)
    if stats is None:
        opened = open_source(source, other_model)
    else:
        opened = open_calibrated(source, stats, other_model)
    strength = opened.strength(tau, runtime_tau, error_bound or DEFAULT_BOUND) if correct else None
    if correct and opened.note:
        click.echo(opened.note, err=True)
    click.echo("folding", err=True)
    extras = Extras(scores, uncorrected_labels)
    model = build(opened, strength, deployed_size(opened, size), extras)
    folded = graph_info(model, str(output)).correction
    if error_bound is not None and folded is not None and folded.error_bound > error_bound:
        raise InputError(
            f"--error-bound {error_bound:g} is less than a table can hold of these statistics; the best is "
            f"{folded.error_bound:.2g}: give that, or lower --tau."
        )
    frames, words, _ = pictures_for(graph_info(model, str(output)).card, opened, data)
    model, checked, agreed = in_precision(model, opened, strength, extras, precision, frames, words, measured)
    model = with_fixed_batch(model, opened)
    click.echo(f"checking on {len(frames)} {words}", err=True)
    result = write_verified(model, output, checked, frames, words, overwrite=force)
    _report(model, output)
    click.echo(f"  precision: {agreed}")
    click.echo(result.report())
    click.echo("next:")
    click.echo(f"  blda serve info {output}")
    click.echo(f"  blda serve image {output} PICTURES -o labels/")
    click.echo(f"  blda serve video {output} VIDEO -o video.mp4")


@main.command("calibrate")
@click.argument("model", type=PATH)
@click.option("--target", type=PATH, multiple=True, required=True, help="Folder of pictures, or videos.")
@click.option("--source", type=PATH, help="Labelled folder for the anchors [default: none, source-free].")
@click.option("-o", "stats", type=PATH, required=True, help="Statistics to write.")
@click.option("--classes", type=PATH, help="Class file of the model's outputs, in their order.")
@click.option("--rounds", type=click.IntRange(1, 10), default=1, show_default=True, help="Times to label.")
@click.option("--frames", type=click.IntRange(1), default=200, show_default=True, help="Frames per video.")
@click.option("--output", help="Name of the logits in the graph [default: its one float output].")
@click.option("--layout", type=click.Choice(["NCHW", "NHWC"], case_sensitive=False), help="[default: found]")
@click.option("--channel-order", type=click.Choice(["RGB", "BGR"], case_sensitive=False))
@click.option("--size", type=SIZE, help="Size that pictures are brought to [default: their own].")
@click.option("--stride", type=click.IntRange(1), help="Sides must be multiples of it [default: found].")
@click.option("--mean", type=Channels(), help="What is subtracted from pixels [default: found].")
@click.option("--std", type=Channels(), help="What pixels are divided by then [default: found].")
@click.option(
    "--range",
    "limit",
    type=click.Choice(["1", "255"]),
    help="Largest pixel value that --mean and --std are of [default: 1].",
)
@click.option("--force", is_flag=True, help="Overwrite the output.")
def calibrate_command(
    model: Path,
    target: tuple[Path, ...],
    source: Path | None,
    stats: Path,
    classes: Path | None,
    rounds: int,
    frames: int,
    output: str | None,
    layout: "Layout | None",
    channel_order: "ChannelOrder | None",
    size: tuple[int, int] | None,
    stride: int | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    limit: str | None,
    force: bool,
) -> None:
    """Gather the statistics that balance MODEL, any ONNX segmenter, on the target.

    Neither labels there nor training are needed. Fold them with `export onnx MODEL --stats FILE`.
    """
    if (mean is None) != (std is None) or (limit is not None and mean is None):
        raise InputError("--mean and --std belong together, and --range to both; give them all.")
    from serve.media.files import check_outputs

    check_outputs([stats], force)

    from export.foreign.convention import Told
    from export.statistics.calibrate import Request, calibrate_model

    told = Told(layout, channel_order, size, stride, mean, std, int(limit or 1))
    request = Request(model, target, source, classes, rounds, frames, output, told)
    click.echo(calibrate_model(request, stats, overwrite=force).report())
    click.echo(f"wrote {stats}")
    click.echo("next:")
    click.echo(f"  blda export onnx {model} --with-correction --stats {stats} -o corrected.onnx")


for command in (evaluate, tensorrt, triton, show):
    main.add_command(command)


@main.command("verify")
@click.argument("file", type=PATH)
@click.option(
    "--against", type=PATH, help="Run folder or graph to compare with [default: FILE's own network]."
)
@click.option("--data", type=PATH, help="Folder of pictures, labelled or not [default: those in the run].")
def verify_command(file: Path, against: Path | None, data: Path | None) -> None:
    """Check that FILE, a graph or an engine, computes what it should; exit code 1 if it does not.

    Labels are compared per class, apart from near-ties; with ground truth also mIoU and bias. The result is
    stored in the graph, or in the engine's card.
    """
    from export.verification.check import check_file

    result = check_file(file, against, data)
    click.echo(result.report())
    if not result.passed:
        raise SystemExit(1)


def _report(model: "onnx.ModelProto", output: Path) -> None:
    """What was written, in a few lines."""
    from export.fold.folded import graph_info

    info = graph_info(model, str(output))
    card, correction = info.card, info.correction
    size = "any size" if card.size is None else f"{card.size[0]}x{card.size[1]}"
    click.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
    click.echo(f"  {len(card.classes)} classes, {size}, {card.model}")
    if correction is None:
        click.echo("  without correction")
        return
    click.echo(
        f"  correction: tau {correction.tau:g}{' (default of the input tau)' * correction.runtime_tau}, "
        f"{correction.knots} knots per channel, |score error| <= {correction.error_bound:.3g} proven"
        f"{' at tau 0.2, in proportion above' * correction.runtime_tau}"
    )
    click.echo(f"  statistics: {correction.statistics}")
    if correction.uncorrected:
        click.echo(f"  uncorrected, for want of statistics: {', '.join(correction.uncorrected)}")
