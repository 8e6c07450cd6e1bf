"""Serving: runs deployable graphs on images and videos. Never imports torch, onnx, adapt or export."""

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime's wheels report their use to their maker unless told not to before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from serve.gathering.gatherer import Gather
    from serve.inference.segmenter import Segmentation, Segmenter

__all__ = ["Gather", "Segmentation", "Segmenter"]


def __getattr__(name: str) -> Any:
    """`from serve import Segmenter`, loaded on first use so that `serve --help` stays light."""
    if name in __all__:
        from serve.gathering import gatherer
        from serve.inference import segmenter

        return getattr(gatherer if name == "Gather" else segmenter, name)
    raise AttributeError(f"module 'serve' has no attribute {name!r}")
