"""Errors that are the person's to mend: one sentence and exit code 2, never a traceback."""

import click

from adapt.interruption import like_ctrl_c


class InputError(click.ClickException):
    """Bad input. The message says what was given, what was expected and what to do."""

    exit_code = 2


class Group(click.Group):
    """Command group that words the operating system's refusals (no space, no permission) for a person.

    SIGTERM and SIGHUP interrupt its commands as Ctrl-C does.
    """

    def invoke(self, ctx: click.Context) -> object:
        try:
            with like_ctrl_c():
                return super().invoke(ctx)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise InputError(f"{place}{error.strerror or error}; nothing is left half-written.") from error
