"""The umbrella command: `blda adapt …`, `blda export …`, `blda serve …`.

The rooms are loaded only when one is named, so that `--help` starts at once and a machine that has only
the serving room installed can still use it.
"""

import importlib

import click

ROOMS = {
    "adapt": "Adapt a segmenter to a target domain without labels there.",
    "export": "Turn a run, or anybody's ONNX segmenter, into one deployable graph.",
    "serve": "Segment images and videos with a deployable graph.",
}


class Rooms(click.Group):
    """Looks a room's command group up by importing its `cli` module on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(ROOMS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ROOMS:
            return None
        main: click.Command = importlib.import_module(f"{cmd_name}.cli").main
        return main

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(ROOMS.items()))


@click.command(cls=Rooms)
@click.version_option(package_name="blda")
def main() -> None:
    """Balanced domain adaptation for semantic segmentation, from training to serving."""


if __name__ == "__main__":
    main()
