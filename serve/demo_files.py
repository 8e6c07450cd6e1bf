"""Results that the page downloads: files in the server's cache, named by content, and cleaned up by age."""

import hashlib
import os
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from serve.files import replacing

_JPEG_QUALITY = 92


class Results:
    """A folder inside Gradio's cache; what lies there is deleted with the uploads (`delete_cache`).

    Equal content gets an equal path, so a picture that did not change is not sent to the browser again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep_image(self, image: NDArray[Any], name: str) -> str:
        """Encode uint8 RGB [H, W, 3] or labels [H, W] in the format that the suffix of `name` says."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
        _, encoded = cv2.imencode(Path(name).suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        data = encoded.tobytes()
        path = self.folder / hashlib.sha256(data).hexdigest()[:32] / name
        if path.exists():
            os.utime(path)  # its age, by which it is deleted, starts anew
        else:
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        return str(path)

    def new_file(self, name: str) -> Path:
        """A path to write to that nobody else has."""
        return self.folder / os.urandom(16).hex() / name
