"""Five ways in which a camera's pictures get worse, at five strengths each."""

from collections.abc import Callable

import cv2
import numpy as np

Image = np.ndarray
STRENGTHS = (1, 2, 3, 4, 5)


def _bytes(values: np.ndarray) -> Image:
    return np.asarray(values.round().clip(0, 255), np.uint8)


def _fog(image: Image, strength: int, rng: np.random.Generator) -> Image:
    """A light grey over the picture, in drifts, denser towards the top, where it is far."""
    height, width = image.shape[:2]
    drifts = cv2.resize(rng.random((4, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    far = np.linspace(1.1, 0.7, height, dtype=np.float32)[:, None]
    veil = ((0.15, 0.3, 0.45, 0.6, 0.72)[strength - 1] * far * (0.85 + 0.3 * drifts)).clip(0, 0.97)[..., None]
    return _bytes(image * (1 - veil) + 215 * veil)


def _dark(image: Image, strength: int, rng: np.random.Generator) -> Image:
    return _bytes(image * (0.7, 0.5, 0.35, 0.22, 0.12)[strength - 1])


def _blur(image: Image, strength: int, rng: np.random.Generator) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), (0.5, 1.0, 1.5, 2.5, 4.0)[strength - 1]))


def _noise(image: Image, strength: int, rng: np.random.Generator) -> Image:
    return _bytes(image + rng.normal(0, (5, 10, 20, 35, 55)[strength - 1], image.shape))


def _jpeg(image: Image, strength: int, rng: np.random.Generator) -> Image:
    quality = (50, 30, 18, 10, 5)[strength - 1]
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


KINDS: dict[str, Callable[[Image, int, np.random.Generator], Image]] = {
    "fog": _fog,
    "dark": _dark,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
}
"""By name: a picture uint8 [H, W, 3] RGB, a strength from 1 to 5 and chance, to another picture."""
