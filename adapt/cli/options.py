"""What the commands of `adapt` share: types of their options, and the options that say what is trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(path_type=Path)
Strength = click.FloatRange(0, 2)


class Size(click.ParamType):  # type: ignore[type-arg]
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        height, _, width = str(value).partition("x")
        if not (height.isdigit() and width.isdigit() and int(height) > 0 and int(width) > 0):
            self.fail(f"{value!r} is not a size such as 512x1024 (height x width).", param, ctx)
        return int(height), int(width)


_TRAINING = (
    click.option(
        "--source",
        multiple=True,
        metavar="FOLDER[=SHARE]",
        help="Labelled data set, or a part of it (repeat); =0.3 gives it that share of the draws.",
    ),
    click.option(
        "--target",
        multiple=True,
        metavar="PATH[=SHARE]",
        help="Data set or folder of images, or videos (repeat); shares as of sources.",
    ),
    click.option(
        "--target-labels", type=FOLDER, help="A few labelled pictures of the target to train on too."
    ),
    click.option("--classes", type=FOLDER, help="Class file; by default the one that comes with the source."),
    click.option(
        "--label-map", type=FOLDER, help="YAML file `id: class`, if the source's labels have other ids."
    ),
    click.option("--images", metavar="GLOB", help="Pattern of the source's pictures, below its folder."),
    click.option("--labels", metavar="GLOB", help="Pattern of its label files."),
    click.option("--label-suffix", metavar="TEXT", help="_mask where X_mask.png belongs to X.jpg."),
    click.option(
        "--repair-labels",
        type=click.Choice(["nearest"]),
        help="Take odd colours and averaged ids for near ones.",
    ),
    click.option(
        "--evaluate", type=FOLDER, help="Labelled data set of the target domain, for evaluation only."
    ),
    click.option(
        "--from",
        "start",
        metavar="MODEL",
        help="Begin with a run, a folder of transformers, or file.py:function; no --source is needed then.",
    ),
    click.option("--weights", type=FOLDER, help="State dict for the module of a file.py:function."),
    click.option(
        "--preset",
        help="Named starting point of the settings; `adapt presets` lists them  [default: auto].",
    ),
    click.option("--config", type=FOLDER, help="YAML file of settings."),
    click.option(
        "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="One setting (repeat)."
    ),
)


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `adapt train` trains on, and how: options of whatever looks at the same."""
    for option in reversed(_TRAINING):
        command = option(command)
    return command
