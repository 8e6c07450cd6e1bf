"""`blda export …`: options in, one call, errors for people. Heavy imports wait until a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.errors import Group, InputError

if TYPE_CHECKING:
    import onnx

PATH = click.Path(path_type=Path)


class Size(click.ParamType):  # type: ignore[type-arg]
    """`dynamic`, or HEIGHTxWIDTH."""

    name = "HxW|dynamic"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int] | None:
        if value == "dynamic":
            return None
        height, _, width = str(value).partition("x")
        if not (height.isdigit() and width.isdigit() and int(height) > 0 and int(width) > 0):
            self.fail(
                f"{value!r} is neither dynamic nor a size such as 512x1024 (height x width).", param, ctx
            )
        return int(height), int(width)


@click.group(cls=Group)
def main() -> None:
    """Turn a run, or anybody's ONNX segmenter, into one deployable graph.

    `export` alone is a word of the shell: type `blda export …` or `python -m export …`.
    """


@main.command("onnx")
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="ONNX file to write.")
@click.option("--with-correction/--without-correction", "correct", default=True, show_default=True)
@click.option("--tau", type=float, default=0.2, show_default=True, help="Strength of the correction, 0 to 2.")
@click.option("--runtime-tau", is_flag=True, help="Make tau an optional input, with --tau as its default.")
@click.option(
    "--size", type=Size(), default="dynamic", show_default=True, help="Picture size the graph takes."
)
@click.option("--scores", is_flag=True, help="Also output the scores, at the decoder's stride.")
@click.option("--uncorrected-labels", is_flag=True, help="Also output what it would say uncorrected.")
@click.option(
    "--error-bound",
    type=click.FloatRange(0.001, 1.0),
    default=0.02,
    show_default=True,
    help="Proven limit of what folding may change a score by; larger is faster.",
)
@click.option(
    "--data", type=PATH, help="Folder of pictures to check the file on [default: those in the run]."
)
@click.option("--force", is_flag=True, help="Overwrite the output.")
def onnx_command(
    source: Path,
    output: Path,
    correct: bool,
    tau: float,
    runtime_tau: bool,
    size: tuple[int, int] | None,
    scores: bool,
    uncorrected_labels: bool,
    error_bound: float,
    data: Path | None,
    force: bool,
) -> None:
    """Write SOURCE, a run folder or an ONNX file made here before, as one ONNX file.

    The file takes pictures and gives labels. It is checked before it appears at the output's name.
    """
    if not 0 <= tau <= 2:  # also catches nan
        raise InputError(f"--tau is {tau:g}, but must lie in [0, 2]; 0.2 is a good start.")
    if not correct and (runtime_tau or uncorrected_labels):
        raise InputError("--runtime-tau and --uncorrected-labels need the correction; drop them or fold it.")
    from serve.files import check_outputs

    check_outputs([output], force)

    from export.build import build, open_source, pictures_for, write_verified
    from export.fold import Extras

    click.echo(f"reading {source}", err=True)
    opened = open_source(source)
    strength = opened.strength(tau, runtime_tau, error_bound) if correct else None
    click.echo("folding", err=True)
    model = build(opened, strength, size, Extras(scores, uncorrected_labels))
    frames, words = pictures_for(model, opened, data)
    click.echo(f"checking on {len(frames)} {words}", err=True)
    result = write_verified(model, output, opened, frames, words)
    _report(model, output)
    click.echo(result.report())
    click.echo("next:")
    click.echo(f"  blda serve info {output}")
    click.echo(f"  blda serve image {output} PICTURES -o labels/")
    click.echo(f"  blda serve video {output} VIDEO -o video.mp4")


@main.command("verify")
@click.argument("file", type=PATH)
@click.option("--against", type=PATH, help="Run folder to compare with [default: the file's own network].")
@click.option("--data", type=PATH, help="Folder of pictures [default: those in the run].")
def verify_command(file: Path, against: Path | None, data: Path | None) -> None:
    """Check that FILE computes what it should; exit code 1 if it does not."""
    from export.build import open_source, pictures_for, read_model
    from export.verify import verify

    model = read_model(file)
    reference = open_source(against or file)
    reference.check_same_classes(model, file)
    frames, words = pictures_for(model, reference, data)
    result = verify(model, str(file), reference.reference(), reference.words, frames, words)
    click.echo(result.report())
    if not result.passed:
        raise SystemExit(1)


def _report(model: "onnx.ModelProto", output: Path) -> None:
    """What was written, in a few lines."""
    from export.fold import graph_info

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
        f"{' at tau 0.2, in proportion to tau' * correction.runtime_tau}"
    )
    click.echo(f"  statistics: {correction.statistics}")
    if correction.uncorrected:
        click.echo(f"  uncorrected, for want of statistics: {', '.join(correction.uncorrected)}")
