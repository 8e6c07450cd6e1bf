"""`blda export …`: options in, one call, errors for people. Heavy imports wait until a command runs."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from adapt.errors import Group
from export.cli.balance import balance
from export.cli.deploy import show, tensorrt, triton
from export.cli.evaluate import evaluate
from export.cli.options import LEAVE, PATH, SIZE, model_options
from export.precision.kinds import PRECISIONS

_PRECISIONS = "; ".join(f"{name}: {kind.about}" for name, kind in PRECISIONS.items())


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
    "--tau",
    type=float,
    help="Strength of the correction, 0 to 2 [default: the run's own, else 0.5; SOURCE's if --stats were "
    "gathered].",
)
@click.option("--runtime-tau", is_flag=True, help="Make tau an optional input, with --tau as its default.")
@click.option("--size", type=SIZE, default="dynamic", show_default=True, help="Picture size the graph takes.")
@click.option("--scores", is_flag=True, help="Also output the scores, at the decoder's stride.")
@click.option("--uncorrected-labels", is_flag=True, help="Also output what it would say uncorrected.")
@click.option(
    "--gather", is_flag=True, help="Also output the logits, for `serve --gather` to count in the field."
)
@click.option(
    "--error-bound",
    type=click.FloatRange(0.0001, 1.0),
    help="Proven limit of what folding may change a score by [default: 0.02, in proportion for logits of an "
    "unusual size, or the best a table holds].",
)
@click.option(
    "--data", type=PATH, help="Folder of pictures to check the file on [default: those in the run]."
)
@click.option(
    "--precision",
    type=click.Choice(list(PRECISIONS)),
    help=f"What the network computes in ({_PRECISIONS}); "
    "the correction stays fp32 [default: as SOURCE, a run being fp32].",
)
@click.option("--calibrate", type=PATH, help="Folder of target pictures, to find the ranges of int8 with.")
@click.option(
    "--stats",
    type=PATH,
    help="Statistics to correct with, from `calibrate` or gathered by `serve --gather` [default: SOURCE's].",
)
@click.option(
    "--profile",
    multiple=True,
    metavar="NAME=STATS",
    help="Hold several corrections, chosen by name when it runs (repeat, up to 8; the first is the default). "
    "STATS as of --stats, or an ONNX file folded here; NAME alone is what SOURCE holds.",
)
@click.option(
    "--anchors",
    type=click.Choice(["model", "target"]),
    help="Of gathered statistics: where logits should lie, as SOURCE has it or as gathered [default: model].",
)
@click.option(
    "--slot",
    multiple=True,
    metavar="TIME",
    help="Take this time of what was gathered: 22:00-06:00 (UTC), 2026-11-28 or 2026-11-28/2026-12-04; may "
    "be given several times.",
)
@click.option(
    "--other-model", is_flag=True, help="The statistics are of the same weights, exported another time."
)
@LEAVE
@click.option("--force", is_flag=True, help="Overwrite the output.")
def onnx_command(source: Path, output: Path, **options: Any) -> None:
    """Write SOURCE, a run folder or an ONNX file made here before, as one ONNX file.

    With --stats, SOURCE may be any ONNX segmenter. The file takes pictures and gives labels. It is checked
    before it appears at the output's name.
    """
    from export.pipeline import export_onnx
    from serve.info import corrections_of

    made = export_onnx(source, output, say=partial(click.echo, err=True), **options)
    card = made.info.card
    size = "any size" if card.size is None else f"{card.size[0]}x{card.size[1]}"
    click.echo(f"wrote {output} ({made.size / 1e6:.1f} MB)")
    click.echo(f"  {len(card.classes)} classes, {size}, {card.model}")
    for number, sentence in enumerate(corrections_of(made.info)):
        click.echo(f"  {'' if number else 'correction: '}{sentence}")
    click.echo(f"  precision: {made.precision}")
    click.echo(made.verification.report())
    click.echo("next:")
    click.echo(f"  blda serve info {output}")
    click.echo(f"  blda serve image {output} PICTURES -o labels/")
    click.echo(f"  blda serve video {output} VIDEO -o video.mp4")


@main.command("calibrate")
@click.argument("model", type=PATH)
@click.option("--target", type=PATH, multiple=True, required=True, help="Folder of pictures, or videos.")
@click.option("--source", type=PATH, help="Labelled folder for the anchors [default: none, source-free].")
@click.option("-o", "stats", type=PATH, required=True, help="Statistics to write.")
@click.option("--rounds", type=click.IntRange(1, 10), default=1, show_default=True, help="Times to label.")
@model_options
@click.option("--force", is_flag=True, help="Overwrite the output.")
def calibrate_command(
    model: Path, target: tuple[Path, ...], stats: Path, logits: str | None, **options: Any
) -> None:
    """Gather the statistics that balance MODEL, any ONNX segmenter, on the target.

    Neither labels there nor training are needed. Fold them with `export onnx MODEL --stats FILE`.
    """
    from export.statistics.calibrate import calibrate

    click.echo(calibrate(model, target, stats, output=logits, **options).report())
    click.echo(f"wrote {stats}")
    click.echo("next:")
    click.echo(f"  blda export onnx {model} --with-correction --stats {stats} -o corrected.onnx")


for command in (balance, evaluate, tensorrt, triton, show):
    main.add_command(command)


@main.command("verify")
@click.argument("file", type=PATH)
@click.option(
    "--against", type=PATH, help="Run folder or graph to compare with [default: FILE's own network]."
)
@click.option("--data", type=PATH, help="Folder of pictures, labelled or not [default: those in the run].")
@click.option("--json", "json_path", type=PATH, help="Also write the result to this file.")
@click.option("--force", is_flag=True, help="Overwrite the file of --json.")
def verify_command(
    file: Path, against: Path | None, data: Path | None, json_path: Path | None, force: bool
) -> None:
    """Check that FILE, a graph or an engine, computes what it should; exit code 1 if it does not.

    Labels are compared per class, apart from near-ties; with ground truth also mIoU and bias. The result is
    stored in the graph, or in the engine's card.
    """
    from serve.media.files import check_outputs

    check_outputs([] if json_path is None else [json_path], force)

    from adapt.run.run import write_text
    from export.verification.check import check_file

    result = check_file(file, against, data)
    click.echo(result.report())
    if json_path is not None:
        write_text(json_path, json.dumps(result.to_dict()) + "\n")
        click.echo(f"wrote {json_path}")
    if not result.passed:
        raise SystemExit(1)
