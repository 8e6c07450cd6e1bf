"""What the commands of `serve` share: options and phrases. Nothing heavy is imported."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

_FASTEST = 100_000  # frames per second, of cameras for crashes
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PROVIDERS = (
    "auto",
    "cpu",
    "cuda",
    "tensorrt",
    "openvino",
)  # as in serve.inference.runtime, which loads numpy

CLUSTER = click.option(
    "--ray",
    "cluster",
    is_flag=False,
    flag_value="auto",
    metavar="[ADDRESS]",
    help="Spread the work over a Ray cluster: this machine's, or that at an address; local starts one.",
)


class Tile(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """Pixels along a tile's side, or "auto"."""

    name = "PIXELS|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto":
            return value
        return click.IntRange(min=1).convert(value, param, ctx)


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """Seconds, or [HH:]MM:SS, with decimals if need be; exact."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if isinstance(value, Fraction):
            return value
        seconds = Fraction(0)
        try:
            for part in str(value).split(":"):
                seconds = 60 * seconds + Fraction(part)
                if Fraction(part) < 0:
                    raise ValueError
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is no time; give seconds (12.5) or hours, minutes and seconds (1:02:03.5).")
        return seconds


class Rate(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """Frames per second, exact: 30, 29.97 or 30000/1001."""

    name = "RATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        try:
            rate = Fraction(value)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if not 0 < rate <= _FASTEST:
            self.fail(f"{value!r} is no rate; give frames per second, as 30, 29.97 or 30000/1001.")
        return rate


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that every segmenting command has."""
    for option in (
        click.option("--force", is_flag=True, help="Overwrite existing output."),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: one per core]"),
        click.option(
            "--provider",
            type=click.Choice(PROVIDERS),
            default="auto",
            show_default=True,
            help="What to run on. A named one is used or refused.",
        ),
        click.option(
            "--tile",
            type=Tile(),
            help="Cut larger pictures into overlapping tiles of this size; auto: a fixed-size model's.  "
            "[default: only where memory does not suffice]",
        ),
        click.option(
            "--profile",
            metavar="NAME",
            help="Correction to run, of a model that holds several.  [default: its first]",
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


class Slot(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """A length of time in whole seconds: 600s, 30m, 1h or 1d."""

    name = "LENGTH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = str(value)[:-1], str(value)[-1:]
        if unit not in _UNITS or not number.isdigit() or not int(number):
            self.fail(f"{value!r} is no length of time; give a whole number and s, m, h or d, such as 1h.")
        return int(number) * _UNITS[unit]


def gathering(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of gathering, which `gather_of` takes."""
    for option in (
        click.option(
            "--gather-save",
            type=click.FloatRange(min=0, min_open=True),
            default=60,
            show_default=True,
            metavar="SECONDS",
            help="Write what was gathered so often: a kill costs no more.",
        ),
        click.option(
            "--device", metavar="NAME", help="Name that what is gathered gets.  [default: this host's]"
        ),
        click.option(
            "--slot", type=Slot(), default="1h", show_default=True, help="Add up what is gathered in it."
        ),
        click.option(
            "--gather-every",
            type=click.IntRange(min=1),
            default=10,
            show_default=True,
            help="Gather from one frame of N.",
        ),
        click.option(
            "--gather",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Count what the model sees in FILE, for `serve drift`; for models exported with --gather.",
        ),
    ):
        command = option(command)
    return command


def gather_of(
    gather: Path | None, gather_every: int, slot: int, device: str | None, gather_save: float
) -> Any:
    """What a Segmenter takes, of the options of `gathering`; None without --gather."""
    if gather is None:
        return None
    from serve.gathering.gatherer import Gather

    chosen = Gather(gather, gather_every, slot, interval=gather_save)
    return chosen if device is None else replace(chosen, device=device)


def ran(segmenter: Any, seconds: float, count: int, unit: str) -> str:
    """What ran where, and how fast; and what was done otherwise for want of memory."""
    line = f"Ran {segmenter.runtime.path} on {segmenter.provider}: {1000 * seconds / count:.1f} ms per {unit}"
    return f"{line}\n{segmenter.notice}" if segmenter.notice else line


def joined(words: Iterable[str]) -> str:
    """a, b and c"""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
