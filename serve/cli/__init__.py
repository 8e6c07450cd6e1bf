"""Options in, one call, errors for people."""

from serve.cli.commands import main as main
