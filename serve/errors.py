"""Errors that are the person's to mend: one sentence and exit code 2, never a traceback."""

import click

from serve.interruption import like_ctrl_c


class InputError(click.ClickException):
    """Bad input. The message says what was given, what was expected and what to do."""

    exit_code = 2


QUIET = "quiet"
"""Where a command keeps, in the context of click, that no progress is to be shown."""


class Group(click.Group):
    """Command group that words the operating system's refusals (no space, no permission) for a person.

    SIGTERM and SIGHUP interrupt its commands as Ctrl-C does. Each command takes --quiet.
    """

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, which then takes --quiet."""
        if not any(parameter.name == QUIET for parameter in cmd.params):
            cmd.params.append(
                click.Option(
                    ["--quiet"],
                    is_flag=True,
                    expose_value=False,
                    callback=_keep_quiet,
                    help="Show no progress bars; without a terminal there are none.",
                )
            )
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> object:
        try:
            with like_ctrl_c():
                return super().invoke(ctx)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise InputError(f"{place}{error.strerror or error}; nothing is left half-written.") from error


def _keep_quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[QUIET] = value
