"""The command of `adapt` that looks before a training: check."""

from pathlib import Path
from typing import Any

import click

from adapt.cli.options import FOLDER, training_options


@click.command("check")
@training_options
@click.option("--all", "everything", is_flag=True, help="Read all pictures and labels, not a sample.")
@click.option("-o", "--output", type=FOLDER, help="Also write an HTML page with pictures, for a browser.")
@click.option("--json", "json_path", type=FOLDER, help="Also write what was found to this file.")
@click.option("--force", is_flag=True, help="Overwrite the files to write.")
def check(everything: bool, output: Path | None, json_path: Path | None, force: bool, **options: Any) -> None:
    """Look at data, settings and machine before a training, and print the command for it.

    It takes what `adapt train` takes, a model to begin with (--from) included. It says counts, sizes, shares
    of classes, pairs, duplicates, damaged files and light; the settings that would be chosen, and the memory
    and time that they are expected to take here. Exit code 1 says that something is to be mended first.
    """
    from serve.media.files import check_outputs

    check_outputs([path for path in (output, json_path) if path is not None], force)

    from adapt.commands.check import check as look

    checked = look(everything=everything, **options)
    for line in checked.lines:
        click.echo(line)
    for path in checked.publish(output, json_path):
        click.echo(f"wrote {path}")
    if checked.problems:
        raise SystemExit(1)
