"""The commands of `serve`. Nothing heavy is imported before one of them runs."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from serve.cli.fleet import drift, merge
from serve.cli.options import PROVIDERS, common, gather_of, gathering, joined, ran
from serve.cli.video import video
from serve.errors import Group, InputError


@click.group(cls=Group)
def main() -> None:
    """Segment images and videos with a deployable graph."""


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--labels", "labels", is_flag=True, help="Write label PNGs: each pixel is its class's number.")
@click.option("--colors", "colors", is_flag=True, help="Write PNGs in the colours of the classes.")
@click.option("--overlay", "overlay", is_flag=True, help="Write the pictures with the colours and a legend.")
@gathering
@common
def image(
    model: Path,
    inputs: tuple[str, ...],
    folder: Path,
    labels: bool,
    colors: bool,
    overlay: bool,
    opacity: float,
    tau: float | None,
    profile: str | None,
    tile: Any,
    provider: Any,
    threads: int | None,
    force: bool,
    **gathered: Any,
) -> None:
    """Segment pictures: files, folders and quoted glob patterns.

    Results go to FOLDER/labels, FOLDER/colors and FOLDER/overlay under the names of the pictures; where X.jpg
    and X.png are both there, as X.jpg.png and X.png.png. Without a choice: labels and overlay.

    A picture that can't be read is left out and named at the end. Exit code 0: all done; 1: some left out;
    2: nothing done.
    """
    from serve.images.batch import output_files, result_names, segment_pictures
    from serve.inference.segmenter import Segmenter
    from serve.media.files import check_outputs
    from serve.media.images import find_images

    chosen = {"labels": labels, "colors": colors, "overlay": overlay}
    kinds = [kind for kind, wanted in chosen.items() if wanted] or ["labels", "overlay"]
    pictures = find_images(inputs)
    names = result_names(pictures).values()
    check_outputs((f for name in names for f in output_files(name, folder, kinds).values()), force)
    opening = {"provider": provider, "threads": threads, "tile": tile, "profile": profile}
    with closing(Segmenter(model, **opening, gather=gather_of(**gathered))) as segmenter:
        segmenter.check_tau(tau)
        report = segment_pictures(
            segmenter, pictures, folder, kinds=kinds, opacity=opacity, tau=tau, overwrite=force
        )
    for _, sentence in report.failed:
        click.echo(f"Left out: {sentence}", err=True)
    if not report.done:
        raise InputError(f"none of the {len(pictures)} picture(s) could be segmented.")
    click.echo(f"Wrote {joined(kinds)} of {len(report.done)} picture(s) to {folder}")
    click.echo(ran(segmenter, report.model_seconds, len(report.done), "picture"))
    if report.several:
        named = ", ".join(f"{path.name} ({count})" for path, count in report.several[:3])
        more = " …" if len(report.several) > 3 else ""
        click.echo(f"Of files that hold several pictures, the first was segmented: {named}{more}")
    if report.failed:
        click.echo(f"{len(report.failed)} of {len(pictures)} pictures left out, see above.", err=True)
        raise SystemExit(1)


main.add_command(video)
main.add_command(merge)
main.add_command(drift)


@main.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Name or address that visitors type, beside --host and localhost; may be given several times.",
)
@click.option("--auth", type=click.Path(path_type=Path), help="File with a line NAME:PASSWORD per visitor.")
@click.option(
    "--examples",
    multiple=True,
    metavar="PATH",
    help="Picture, video or folder to offer; the page opens with the first picture segmented.",
)
@click.option("--max-upload", type=click.IntRange(min=1), default=200, show_default=True, help="MB per file.")
@click.option(
    "--max-pixels",
    type=click.FloatRange(min=0, min_open=True),
    default=50,
    show_default=True,
    help="Megapixels per picture.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120,
    show_default=True,
    help="Length of a video; it may have 60 frames for each.",
)
@click.option(
    "--max-memory",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="MB that decoding one picture or video may take.",
)
@click.option(
    "--max-queue", type=click.IntRange(min=1), default=64, show_default=True, help="Requests that may wait."
)
@click.option("--provider", type=click.Choice(PROVIDERS), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: one per core]")
@click.option(
    "--profile",
    metavar="NAME",
    help="Offer this profile of models with several first.  [default: their first]",
)
@gathering
def demo(
    models: tuple[Path, ...],
    provider: Any,
    threads: int | None,
    max_upload: int,
    max_pixels: float,
    max_seconds: float,
    max_memory: int,
    max_queue: int,
    gather: Path | None,
    gather_every: int,
    slot: int,
    device: str | None,
    gather_save: float,
    **options: Any,
) -> None:
    """Serve a web page that segments pictures and videos with one or several models.

    It listens on this machine only, unless --host says otherwise; beside --host and localhost, it answers to
    the names that --allow-host adds. Pictures are scaled down to 2048 pixels along a side, videos to 1920,
    and work stops when its visitor leaves. Uploads are deleted after an hour and when the server stops.
    Needs the extra `demo`; nothing is fetched from the internet.
    """
    from serve.demo.options import Limits
    from serve.demo.start import run

    limits = Limits(
        upload_mb=max_upload,
        megapixels=max_pixels,
        memory_mb=max_memory,
        seconds=max_seconds,
        queue=max_queue,
    )
    gathered = gather_of(gather, gather_every, slot, device, gather_save)
    run(models, provider, threads, limits=limits, gather=gathered, **options)


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def info(model: Path, as_json: bool) -> None:
    """Print what a model file says about itself: classes, sizes, correction, verification."""
    from serve.inference.opening import open_runtime
    from serve.info import describe, to_text

    runtime = open_runtime(model)
    click.echo(json.dumps(describe(runtime), indent=2) if as_json else to_text(runtime))
