"""What the commands of `export` share: types of their options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


class Channels(click.ParamType):  # type: ignore[type-arg]
    """One number, or one each for red, green and blue."""

    name = "R,G,B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        try:
            numbers = [float(word) for word in str(value).split(",")]
            red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
        except ValueError:
            self.fail(f"{value!r} is neither one number nor three, such as 0.485,0.456,0.406.", param, ctx)
        return red, green, blue


FORCE = click.option("--force", is_flag=True, help="Overwrite the output.")


LEAVE = click.option(
    "--leave",
    metavar="CLASS",
    multiple=True,
    help="Class that stands for none of them (void), which the correction never raises (repeat).",
)


class Lengths(click.ParamType):  # type: ignore[type-arg]
    """Positive whole numbers joined by x; with `dynamic` also that word, which becomes None."""

    def __init__(self, name: str, example: str, *, dynamic: bool = False) -> None:
        self.name = f"{name}|dynamic" if dynamic else name
        self._parts = len(name.split("x"))
        self._wanted = f"{'neither dynamic nor' if dynamic else 'no'} {example}"
        self._dynamic = dynamic

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        words = str(value).split("x")
        if self._dynamic and value == "dynamic":
            return None
        if len(words) != self._parts or not all(word.isdigit() and int(word) > 0 for word in words):
            self.fail(f"{value!r} is {self._wanted}.", param, ctx)
        return tuple(map(int, words))


SIDES = Lengths("HxW", "size such as 512x1024 (height x width)")
SIZE = Lengths("HxW", "a size such as 512x1024 (height x width)", dynamic=True)
BATCH = Lengths("NxHxW", "batch such as 1x512x1024 (N x height x width)")


_OF_A_MODEL = (
    click.option("--classes", type=PATH, help="Class file of the model's outputs, in their order."),
    click.option(
        "--frames", type=click.IntRange(1), default=200, show_default=True, help="Frames per video."
    ),
    click.option(
        "--output", "logits", help="Name of the logits in the graph [default: its one float output]."
    ),
    click.option(
        "--layout", type=click.Choice(["NCHW", "NHWC"], case_sensitive=False), help="[default: found]"
    ),
    click.option("--channel-order", type=click.Choice(["RGB", "BGR"], case_sensitive=False)),
    click.option("--size", type=SIZE, help="Size that pictures are brought to [default: their own]."),
    click.option("--stride", type=click.IntRange(1), help="Sides must be multiples of it [default: found]."),
    click.option("--mean", type=Channels(), help="What is subtracted from pixels [default: found]."),
    click.option("--std", type=Channels(), help="What pixels are divided by then [default: found]."),
    click.option(
        "--range",
        type=click.Choice(["1", "255"]),
        help="Largest pixel value that --mean and --std are of [default: 1].",
    ),
    click.option(
        "--input",
        "inputs",
        metavar="NAME=VALUE",
        multiple=True,
        help="What the graph takes beside the picture, the same at every run: numbers divided by commas (one "
        "fills all), or an .npy file (repeat).",
    ),
    LEAVE,
)


def model_options(command: Command) -> Command:
    """Options that say what somebody else's model is: names, logits, and how it takes pictures."""
    for option in reversed(_OF_A_MODEL):
        command = option(command)
    return command
