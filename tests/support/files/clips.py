"""Small videos whose frames tell their numbers."""

from pathlib import Path

import av
import numpy as np


def make_video(path: Path, count: int = 24, rate: int = 12, options: dict[str, str] | None = None) -> Path:
    """Frame i is grey with value 8 * i."""
    with av.open(str(path), "w", options=options or {}) as container:
        codec = "mpeg4" if path.suffix == ".avi" else "libx264"
        stream = container.add_stream(codec, rate=rate, options={"crf": "10", "g": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
