"""Export: a run folder, or anybody's ONNX segmenter, in; one deployable graph out."""

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime's wheels report their use to their maker unless told not to before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from export.balancing.balance import balance
    from export.pipeline import export_onnx
    from export.statistics.calibrate import calibrate

__all__ = ["balance", "calibrate", "export_onnx"]


def __getattr__(name: str) -> Any:
    """`from export import export_onnx`, loaded on first use so that `--help` stays light."""
    if name == "export_onnx":
        from export.pipeline import export_onnx

        return export_onnx
    if name == "calibrate":
        from export.statistics.calibrate import calibrate

        return calibrate
    if name == "balance":
        from export.balancing.balance import balance

        return balance
    raise AttributeError(f"module 'export' has no attribute {name!r}")
