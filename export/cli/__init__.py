"""Options in, one call, errors for people."""

from export.cli.commands import main as main
