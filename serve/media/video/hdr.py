"""HDR video, PQ and HLG, to the 8-bit BT.709 pictures that networks are trained on.

    light = inverse transfer function of the code (ITU-R BT.2100), reference white (BT.2408) = 203 cd/m2 = 1
    light <- BT.2020 primaries to BT.709's (BT.2087), clipped at 0
    shown = light                                up to KNEE
            KNEE + (1 - KNEE) * s / (1 + s)      above, with s = (light - KNEE) / (1 - KNEE)
    code  = shown ** (1 / 2.4)                   (BT.1886)

So what is ordinary in a scene looks as in an SDR video of it, and only highlights are compressed.
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

KNEE = 0.75
"""Light, in units of reference white, up to which nothing is compressed."""

WHITE = 255 * 256
"""What libswscale makes of the largest code, in 16 bits."""

_PQ, _HLG = 16, 18  # libav's numbers of transfer characteristics
_REFERENCE_WHITE = 203.0  # cd/m2
_HLG_PEAK = 1000.0  # cd/m2 of the display that HLG is shown on, which gives it a system gamma of 1.2
_HLG_GAMMA = 1.2
_STEPS = 8192.0  # 65536 of them reach light 64, beyond all that PQ can say
_HLG_LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def is_hdr(decoded: Any) -> bool:
    """Is this av.VideoFrame coded for HDR displays?"""
    return decoded.color_trc in (_PQ, _HLG)


def to_sdr(codes_HWC: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """Tone-map 16-bit RGB [H, W, 3], 0 to WHITE, of an HDR frame; `transfer` is its `color_trc`."""
    light = _light_table(transfer).take(codes_HWC)
    if transfer == _HLG:
        luminance = cv2.transform(light, _HLG_LUMINANCE)
        light *= cv2.pow(luminance, _HLG_GAMMA - 1)[..., None] * (_HLG_PEAK / _REFERENCE_WHITE)
    root = cv2.sqrt(np.maximum(cv2.transform(light, _TO_BT709), 0))
    return _code_table().take(np.asarray(cv2.multiply(root, _STEPS, dtype=cv2.CV_16U)))


@lru_cache
def _code_table() -> NDArray[np.uint8]:
    """Shown code of each light, at the index sqrt(light) * _STEPS: fine where the eye is."""
    light = (np.arange(65536) / _STEPS) ** 2
    bright = np.maximum(light - KNEE, 0) / (1 - KNEE)
    shown = np.minimum(light, KNEE) + (1 - KNEE) * bright / (1 + bright)
    return np.round(255 * shown ** (1 / 2.4)).astype(np.uint8)


@lru_cache
def _light_table(transfer: int) -> NDArray[np.float32]:
    """Light of each 16-bit code: of PQ in units of reference white; of HLG that of the scene, at most 1."""
    code = np.minimum(np.arange(65536) / WHITE, 1)
    if transfer == _PQ:
        root = code ** (1 / 78.84375)
        ratio = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
        return (ratio ** (1 / 0.1593017578125) * (10000 / _REFERENCE_WHITE)).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
