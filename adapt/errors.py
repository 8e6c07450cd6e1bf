"""The house has one kind of error for people, and one kind of command group: those of `serve.errors`."""

from serve.errors import Group, InputError

__all__ = ["Group", "InputError"]
