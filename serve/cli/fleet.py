"""`serve merge` and `serve drift`: what devices gathered, added up and compared."""

from pathlib import Path

import click

from serve.cli.options import CLUSTER, Slot


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "out", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option(
    "--by",
    default="slot",
    show_default=True,
    metavar="slot|device|COLUMN",
    help="What keeps counts apart: time alone, the device too, or a column of --table.",
)
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    help="CSV with a column `device` and others, such as camera or city, for --by.",
)
@click.option("--slot", type=Slot(), help="Longer slots: 1d, say.  [default: the files']")
@CLUSTER
@click.option("--force", is_flag=True, help="Overwrite existing output.")
def merge(
    inputs: tuple[str, ...],
    out: Path,
    by: str,
    table: Path | None,
    slot: int | None,
    cluster: str | None,
    force: bool,
) -> None:
    """Add up what devices gathered of one model: files, folders with all below, and quoted patterns.

    Sums are exact and the same in any order; the memory holds one of them at a time. Files of another model
    are refused.
    """
    from serve.errors import InputError
    from serve.fleet.merge import find_gathered, grouping_of, plan_merge, write_merged
    from serve.media.files import check_outputs

    grouping = grouping_of(by, table, slot)
    check_outputs([out], force)
    paths = find_gathered(inputs)
    if out.resolve() in {path.resolve() for path in paths}:
        raise InputError(f"{out} is one of the files to merge; choose another output.")
    if cluster:
        from serve.fleet.cluster import merge_on_cluster

        plan = merge_on_cluster(paths, out, grouping, cluster, overwrite=force)
    else:
        plan = plan_merge(paths, grouping)
        write_merged(plan, out, overwrite=force)
    groups = sorted({record.device for record in plan.head.records} - {""})
    of = f", {len(groups)} by {by}" if groups else ""
    click.echo(
        f"Wrote {out}: {plan.frames} frames of {len(paths)} file(s), {len(plan.head.records)} slot(s){of}"
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--against",
    "reference",
    type=click.Path(path_type=Path),
    required=True,
    help="The model, for what it was folded with; or another gathered file.",
)
@click.option(
    "--slot",
    multiple=True,
    metavar="TIME",
    help="Look at this time: 22:00-06:00 (UTC), 2026-11-28 or 2026-11-28/2026-12-04; may be given several "
    "times.",
)
@click.option(
    "--device", multiple=True, metavar="NAME", help="Look at this device or group; may be repeated."
)
@click.option(
    "--block",
    type=Slot(),
    default="6h",
    show_default=True,
    help="Blocks of time that are taken to be independent of each other.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0.005, 0.5),
    default=0.01,
    show_default=True,
    help="How often to be alarmed without any drift.",
)
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write JSON here, for programs.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with charts over time here.")
@click.option(
    "--prometheus",
    type=click.Path(path_type=Path),
    help="Write metrics here, for node_exporter's textfile collector; they replace those of before.",
)
@click.option("--force", is_flag=True, help="Overwrite existing output.")
def drift(
    file: Path,
    reference: Path,
    slot: tuple[str, ...],
    device: tuple[str, ...],
    block: int,
    alpha: float,
    as_json: Path | None,
    html: Path | None,
    prometheus: Path | None,
    force: bool,
) -> None:
    """Say which classes look otherwise than they did, in FILE, gathered by `serve --gather` or merged.

    No labels are needed, and none are known: what drifted is how the network sees, not how often it errs. A
    class that is never predicted can't be seen.

    Exit code 0: no drift, or too little to tell; 3: drifted; 2: bad input.
    """
    from serve.fleet import told
    from serve.fleet.drift import drift as compare
    from serve.fleet.page import page
    from serve.media.files import check_outputs
    from serve.media.whole import replacing

    check_outputs([path for path in (as_json, html) if path is not None], force)
    found = compare(file, reference, slots=slot, devices=device, block=block, alpha=alpha)
    click.echo(told.table(found))
    for path, text in ((as_json, told.as_json), (html, page), (prometheus, told.prometheus)):
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text(found), encoding="utf-8")
                temporary.chmod(0o644)
    if found.alarm.alarmed:
        raise SystemExit(3)
