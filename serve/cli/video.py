"""`serve video`: one video to a file, or many to a folder."""

import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from serve.cli.options import CLUSTER, Rate, Seconds, common, gather_of, gathering, joined, ran
from serve.errors import InputError
from serve.video.outputs import ENCODERS, OUTPUTS

_PRESETS = "; ".join(f"{name}: {e.presets[0]} to {e.presets[-1]}" for name, e in ENCODERS.items())
_QUALITIES = ", ".join(f"{name}: 0 to {e.worst}, by default {e.crf}" for name, e in ENCODERS.items())


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o", "out", type=click.Path(path_type=Path), required=True, help="File for one input, or a folder."
)
@click.option(
    "--output",
    type=click.Choice(list(OUTPUTS)),
    default="overlay",
    show_default=True,
    help="; ".join(f"{name}: {output.about}" for name, output in OUTPUTS.items()) + ".",
)
@click.option("--codec", type=click.Choice(list(ENCODERS)), default="h264", show_default=True)
@click.option("--crf", type=int, help=f"Quality; less is better and larger ({_QUALITIES}).")
@click.option("--preset", help=f"Speed of the encoder ({_PRESETS}).")
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, help="Take one frame of N."
)
@click.option("--start", type=Seconds(), default="0", help="Begin here: seconds or HH:MM:SS.")
@click.option("--end", type=Seconds(), help="Stop here.")
@click.option("--fps", type=Rate(), help="Frames per second of numbered pictures.  [default: 25]")
@click.option("--max-size", type=click.IntRange(min=1), help="Shrink frames with a longer side than this.")
@click.option(
    "--smooth",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="Average scores over about this time (0.1, say), so that labels flicker less; for models exported "
    "with --scores.",
)
@click.option(
    "--reconnect",
    type=float,
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long to try to get a camera or stream back that broke off; 0: end there.",
)
@CLUSTER
@click.option(
    "--shares",
    type=click.Choice(("csv", "parquet")),
    is_flag=False,
    flag_value="csv",
    help="Also write each class's share of every frame, as CSV or Parquet.  [csv if not said]",
)
@gathering
@common
def video(
    model: Path,
    inputs: tuple[str, ...],
    out: Path,
    start: Fraction,
    end: Fraction | None,
    every: int,
    fps: Fraction | None,
    max_size: int | None,
    cluster: str | None,
    profile: str | None,
    tile: Any,
    provider: Any,
    threads: int | None,
    force: bool,
    gather: Path | None,
    gather_every: int,
    slot: int,
    device: str | None,
    gather_save: float,
    **options: Any,
) -> None:
    """Segment videos, with the same frame times and sound.

    INPUT is a file, a folder, a quoted glob pattern, an address (rtsp://...), a webcam (0 is /dev/video0), or
    - for a list on standard input. Numbered pictures are frames of one video: a folder of them, or a quoted
    pattern, 'frames/*.png' or 'frames/%06d.png'; a missing number leaves its time to the frame before.

    One input and an output name with a suffix make that file. Anything else makes a folder, with report.json
    and a summary; run again after an interruption, it leaves out what is finished.

    Outputs appear when they are complete. Odd sides grow by one pixel, rotated videos are turned upright.
    A camera is recorded up to --end, Ctrl-C or SIGTERM; its output grows under its own name and can be played
    at any time. Damaged frames are left out and counted, in the summary and in report.json; a video that is
    cut off is kept up to there. On a CPU two frames run at the same time, each with memory of its own;
    --threads 1 runs one.

    Exit code 0: all done; 1: some failed or were damaged; 2: nothing done.
    """
    from serve.batch.inputs import find_videos
    from serve.batch.run import REPORT, local_work, plan, run_batch, write_report
    from serve.inference.segmenter import Segmenter
    from serve.media.video.source import Selection
    from serve.video.model import callers
    from serve.video.settings import Settings

    settings = Settings(selection=Selection(start, end, every, max_size), **options)
    single = out.suffix != "" and not out.is_dir() and OUTPUTS[settings.output].suffix != ""
    opening = {"provider": provider, "threads": threads, "tile": tile, "callers": callers(threads)}
    if single and cluster:
        raise InputError(f"{out} is one file, but --ray fills a folder; give a folder as the output.")
    if cluster and gather:
        raise InputError("--gather is for one process, --ray starts many; leave one of them out.")
    opening["profile"] = profile
    opening["gather"] = gather_of(gather, gather_every, slot, device, gather_save)
    left_out: list[Path] = []
    if single:
        source = _only_input(inputs, out, settings, fps, force)
    else:
        sources = find_videos(inputs, sys.stdin, fps, _say, left_out.append)
    with closing(Segmenter(model, **opening)) as segmenter:
        if single:
            _one(segmenter, source, out, settings, force)
            return
        jobs = plan(segmenter, sources, out, settings, tile=tile, force=force)
        if cluster:
            outcomes = _on_cluster(jobs, segmenter, settings, cluster, threads, tile)
            write_report(out / REPORT, outcomes, left_out)
        else:
            outcomes = run_batch(jobs, out, local_work(segmenter, settings), settings.selection, left_out)
    _summarise(segmenter, outcomes, out / REPORT)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def _only_input(inputs: tuple[str, ...], out: Path, settings: Any, fps: Fraction | None, force: bool) -> Any:
    """The one input of an output file, when everything is as it should be."""
    from serve.batch.inputs import find_videos
    from serve.media.files import check_outputs
    from serve.video.shares import shares_file

    suffix = OUTPUTS[settings.output].suffix
    if out.suffix.lower() != suffix:
        raise InputError(
            f"{out} does not end in {suffix}, as {settings.output} must; choose another name or a folder."
        )
    source, *others = find_videos(inputs, sys.stdin, fps, _say)
    if others or (isinstance(source, Path) and Path(inputs[0]).is_dir()):
        raise InputError(f"{out} is one file, but there may be several inputs; give a folder as the output.")
    if isinstance(source, Path) and out.exists() and out.samefile(source):
        raise InputError(f"{out} is the input itself; choose another output.")
    check_outputs([out, *([shares_file(out, settings.shares)] if settings.shares else [])], force)
    return source


def _one(segmenter: Any, source: Any, out: Path, settings: Any, force: bool) -> None:
    from serve.video.segment import note, segment_video

    report = segment_video(segmenter, source, out, overwrite=force, **vars(settings))
    sound = f"{report.audio_streams} audio track(s)" if report.audio_streams else "no sound"
    click.echo(f"Wrote {out}: {report.frames} frames, {sound}")
    if said := note(report):
        click.echo(said[0].upper() + said[1:])
    click.echo(ran(segmenter, report.model_seconds, report.frames, "frame"))
    click.echo(f"{report.seconds:.1f} s in all, {report.frames / report.seconds:.1f} frames/s")
    if report.damage:
        raise SystemExit(1)


def _on_cluster(jobs: Any, segmenter: Any, settings: Any, address: str, threads: Any, tile: Any) -> Any:
    from serve.batch.cluster import Opening, run_on_cluster
    from serve.batch.sidecar import fingerprint

    path = segmenter.runtime.path.resolve()
    threads = threads or Opening.threads
    opening = Opening(path, fingerprint(path), segmenter.provider, threads, tile, segmenter.profile or None)
    return run_on_cluster(jobs, opening, settings, address)


def _summarise(segmenter: Any, outcomes: Any, report: Path) -> None:
    from serve.batch.run import to_table

    click.echo(to_table(outcomes))
    made = [outcome.video for outcome in outcomes if outcome.video]
    done = [outcome.video for outcome in outcomes if outcome.video and outcome.status == "done"]
    counts = [f"{n} {word}" for word in ("done", "skipped", "failed") if (n := _count(outcomes, word))]
    if damaged := sum(bool(each.damage) for each in made):
        counts.append(f"{damaged} damaged (see the notes)")
    click.echo(f"{joined(counts)}; report: {report}")
    if frames := sum(each.frames for each in done):
        click.echo(ran(segmenter, sum(each.model_seconds for each in done), frames, "frame"))
    if _count(outcomes, "failed") or damaged:
        raise SystemExit(1)


def _count(outcomes: Any, status: str) -> int:
    return sum(outcome.status == status for outcome in outcomes)
