"""Options in, one call, errors for people."""

from adapt.cli.commands import main as main
