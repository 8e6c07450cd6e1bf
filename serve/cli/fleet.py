"""`serve merge`: what devices gathered, added up."""

from pathlib import Path

import click

from serve.cli.options import Slot


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
@click.option(
    "--ray",
    "cluster",
    is_flag=False,
    flag_value="auto",
    metavar="[ADDRESS]",
    help="Spread the work over a Ray cluster: this machine's, or that at an address; local starts one.",
)
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
