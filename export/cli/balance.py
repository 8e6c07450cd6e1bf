"""The command of `export` that does all: anybody's model and footage in, a balanced file out."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from export.cli.options import FORCE, PATH, model_options


@click.command("balance")
@click.argument("model", type=PATH)
@click.option(
    "--target",
    type=PATH,
    multiple=True,
    required=True,
    help="Folder of pictures, or video (repeat for more).",
)
@click.option("-o", "output", type=PATH, required=True, help="ONNX file to write.")
@click.option(
    "--labels",
    type=PATH,
    help="Folder of a few labelled pictures: chooses the strength, shows scores of before and after.",
)
@click.option("--weights", type=PATH, help="State dict for what a MODEL of file.py:function returns.")
@click.option("--report", type=PATH, help="HTML page to write [default: as the file, ending in .html].")
@click.option("--tau", type=float, help="Strength of the correction, 0 to 2 [default: 0.5, or by --labels].")
@click.option(
    "--gather", is_flag=True, help="Also output the logits, for `serve --gather` to count in the field."
)
@model_options
@FORCE
def balance(model: Path, target: tuple[Path, ...], output: Path, **options: Any) -> None:
    """Balance MODEL, any segmenter, for the footage it meets: one file out, and a page about it.

    MODEL is an ONNX file, a folder of transformers, file.py:function, TorchScript, or what torch.export
    saved.

    Neither labels nor training are needed. It says what it found, gathers statistics on the footage, chooses
    the strength, folds the correction in and checks the file before it appears. `calibrate` and
    `onnx --stats` are the same in parts.
    """
    from export.balancing.balance import balance as balanced
    from export.balancing.words import summary

    made = balanced(model, target, output, say=partial(click.echo, err=True), **options)
    click.echo(summary(made))
