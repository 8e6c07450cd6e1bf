"""What the commands of `adapt` share: types of their options."""

from pathlib import Path

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
