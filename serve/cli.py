"""`serve image`, `serve video`, `serve info`. Nothing heavy is imported before a command runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from serve.errors import Group, InputError

_PROVIDERS = ("auto", "cpu", "cuda", "tensorrt", "openvino")  # as in serve.runtime, which loads numpy


@click.group(cls=Group)
def main() -> None:
    """Segment images and videos with a deployable graph."""


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that every segmenting command has."""
    for option in (
        click.option("--force", is_flag=True, help="Overwrite existing output."),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: one per core]"),
        click.option(
            "--provider",
            type=click.Choice(_PROVIDERS),
            default="auto",
            show_default=True,
            help="What to run on. A named one is used or refused.",
        ),
        click.option("--tau", type=float, help="Correction strength, 0 to 2; for graphs with runtime tau."),
        click.option(
            "--opacity",
            type=click.FloatRange(0, 1),
            default=0.5,
            show_default=True,
            help="Of the overlay's colours.",
        ),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--labels", "labels", is_flag=True, help="Write label PNGs: each pixel is its class's number.")
@click.option("--colors", "colors", is_flag=True, help="Write PNGs in the colours of the classes.")
@click.option("--overlay", "overlay", is_flag=True, help="Write the pictures with the colours and a legend.")
@_common
def image(
    model: Path,
    inputs: tuple[str, ...],
    folder: Path,
    labels: bool,
    colors: bool,
    overlay: bool,
    opacity: float,
    tau: float | None,
    provider: Any,
    threads: int | None,
    force: bool,
) -> None:
    """Segment pictures: files, folders and quoted glob patterns.

    Results go to FOLDER/labels, FOLDER/colors and FOLDER/overlay under the names of the pictures. Without a
    choice: labels and overlay.

    A picture that can't be read is left out and named at the end. Exit code 0: all done; 1: some left out;
    2: nothing done.
    """
    from serve.files import check_outputs
    from serve.images import find_images
    from serve.pictures import output_files, segment_pictures
    from serve.segmenter import Segmenter

    chosen = {"labels": labels, "colors": colors, "overlay": overlay}
    kinds = [kind for kind, wanted in chosen.items() if wanted] or ["labels", "overlay"]
    pictures = find_images(inputs)
    check_outputs((f for p in pictures for f in output_files(p, folder, kinds).values()), force)
    segmenter = Segmenter(model, provider=provider, threads=threads)
    segmenter.check_tau(tau)

    report = segment_pictures(segmenter, pictures, folder, kinds=kinds, opacity=opacity, tau=tau)
    for _, sentence in report.failed:
        click.echo(f"Left out: {sentence}", err=True)
    if not report.done:
        raise InputError(f"none of the {len(pictures)} picture(s) could be segmented.")
    click.echo(f"Wrote {_and(kinds)} of {len(report.done)} picture(s) to {folder}")
    click.echo(_ran(segmenter, report.model_seconds, len(report.done), "picture"))
    if report.failed:
        click.echo(f"{len(report.failed)} of {len(pictures)} pictures left out, see above.", err=True)
        raise SystemExit(1)


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path), metavar="INPUT")
@click.option("-o", "target", type=click.Path(path_type=Path), required=True, help="The mp4 to write.")
@click.option(
    "--output",
    type=click.Choice(["overlay", "labels"]),
    default="overlay",
    show_default=True,
    help="Colours over the frames with a legend below, or the colours alone.",
)
@click.option(
    "--crf",
    type=click.IntRange(0, 51),
    default=20,
    show_default=True,
    help="H.264 quality; less is better and larger.",
)
@_common
def video(
    model: Path,
    source: Path,
    target: Path,
    output: Any,
    crf: int,
    opacity: float,
    tau: float | None,
    provider: Any,
    threads: int | None,
    force: bool,
) -> None:
    """Segment a video to an H.264 mp4 with the same frame times and sound.

    The output appears when it is complete. Odd sides grow by one pixel, rotated videos are turned upright.
    """
    from serve.files import check_outputs
    from serve.segmenter import Segmenter
    from serve.video import segment_video

    if not source.is_file():
        raise InputError(f"{source} is not a file; give a video.")
    if target.suffix.lower() != ".mp4":
        raise InputError(f"{target} does not end in .mp4, the one format written; choose another name.")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target} is the input itself; choose another output.")
    check_outputs([target], force)
    segmenter = Segmenter(model, provider=provider, threads=threads)

    report = segment_video(segmenter, source, target, output=output, opacity=opacity, crf=crf, tau=tau)
    sound = f"{report.audio_streams} audio track(s)" if report.audio_streams else "no sound"
    click.echo(f"Wrote {target}: {report.frames} frames, {sound}")
    if report.left_out:
        click.echo(f"Left out, as mp4 players rarely show it: {_and(report.left_out)}")
    click.echo(_ran(segmenter, report.model_seconds, report.frames, "frame"))
    click.echo(f"{report.seconds:.1f} s in all, {report.frames / report.seconds:.1f} frames/s")


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def info(model: Path, as_json: bool) -> None:
    """Print what a model file says about itself: classes, sizes, correction, verification."""
    from serve.info import describe, to_text
    from serve.runtime import open_runtime

    runtime = open_runtime(model)
    click.echo(json.dumps(describe(runtime), indent=2) if as_json else to_text(runtime))


def _ran(segmenter: Any, seconds: float, count: int, unit: str) -> str:
    return f"Ran {segmenter.runtime.path} on {segmenter.provider}: {1000 * seconds / count:.1f} ms per {unit}"


def _and(words: Any) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else str(last)
