"""Adaptation: labelled source and unlabelled target in, a run folder out. Knows no ONNX and no serving."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapt.commands.train import resume, train
    from adapt.run.run import load_run

__all__ = ["load_run", "resume", "train"]


def __getattr__(name: str) -> Any:
    """`from adapt import train`, loaded on first use so that `--help` stays light."""
    if name == "load_run":
        from adapt.run.run import load_run

        return load_run
    if name in __all__:
        from adapt.commands import train

        return getattr(train, name)
    raise AttributeError(f"module 'adapt' has no attribute {name!r}")
