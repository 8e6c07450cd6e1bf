"""Videos of ten bits: HDR is tone-mapped to what networks know, SDR only loses bits."""

from fractions import Fraction
from math import exp
from pathlib import Path

import av
import numpy as np
import pytest
from serve_graphs import PALETTE, write_graph

from serve import Segmenter
from serve.media.video.hdr import WHITE, to_sdr
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection
from serve.video.segment import segment_video

PQ, HLG, BT709, BT2020 = 16, 18, 1, 9


def slow_light(code: float, transfer: int) -> float:
    """ITU-R BT.2100, tables 4 and 5, in float64: cd/m2 / 203 for PQ, scene light in [0, 1] for HLG."""
    if transfer == PQ:
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        root = code ** (1 / m2)
        return 10000 * (max(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) / 203
    a, b, c = 0.17883277, 1 - 4 * 0.17883277, 0.55991073
    return code**2 / 3 if code <= 0.5 else (exp((code - c) / a) + b) / 12


def slow_sdr(codes: np.ndarray, transfer: int) -> np.ndarray:
    """One pixel, codes [3] in [0, 1] -> [3] in [0, 255], in float64 from the docstring of hdr.py."""
    light = np.array([slow_light(code, transfer) for code in codes])
    if transfer == HLG:
        light = 1000 / 203 * (light @ [0.2627, 0.6780, 0.0593]) ** 0.2 * light
    # BT.2020 to XYZ to BT.709, from the chromaticities of both
    light = np.linalg.inv(to_xyz(BT709)) @ to_xyz(BT2020) @ light
    shown = []
    for value in np.maximum(light, 0):
        over = (value - 0.75) / 0.25
        shown.append(value if value <= 0.75 else 0.75 + 0.25 * over / (1 + over))
    return 255 * np.array(shown) ** (1 / 2.4)


def to_xyz(primaries: int) -> np.ndarray:
    """[3, 3] from linear RGB, from the chromaticities of red, green, blue and D65."""
    xy = {
        BT709: [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)],
        BT2020: [(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)],
    }[primaries]
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in xy]).T
    x, y = 0.3127, 0.3290
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_tone_mapping_follows_its_formula(transfer: int) -> None:
    codes = np.random.default_rng(0).random((200, 3))
    expected = np.array([slow_sdr(code, transfer) for code in codes])
    made = to_sdr(np.round(codes * WHITE).astype(np.uint16)[None], transfer)[0]
    assert np.abs(made - expected).max() < 1.0  # rounding, and the published matrix has four digits


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_grey_stays_grey_and_brighter_stays_brighter(transfer: int) -> None:
    ramp = np.arange(WHITE + 1, dtype=np.uint16)
    made = to_sdr(np.repeat(ramp[None, :, None], 3, axis=2), transfer)[0].astype(int)
    assert np.ptp(made, axis=1).max() <= 1
    assert (np.diff(made[:, 0]) >= 0).all() and made[0, 0] == 0 and made[-1, 0] >= 250


def write_ten_bits(path: Path, colors: list[tuple[int, int, int]], transfer: int, standard: int) -> Path:
    """A clip of vertical stripes, each 16 pixels wide, with these 10-bit limited-range YCbCr codes."""
    with av.open(str(path), "w") as container:
        options = {"crf": "0", "x265-params": "log-level=error"}
        stream = container.add_stream("libx265", rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 16 * len(colors), "yuv420p10le"
        context = stream.codec_context
        context.colorspace = context.color_primaries = standard
        context.color_trc, context.color_range = transfer, 1
        frame = av.VideoFrame(stream.width, 64, "yuv420p10le")
        for plane, stripe, side in zip(frame.planes, zip(*colors, strict=True), (16, 8, 8), strict=True):
            rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            rows[:, : plane.width] = np.repeat(stripe, side)
            plane.update(rows.tobytes())
        for pts in range(4):
            frame.pts, frame.time_base = pts, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def limited(red: float, green: float, blue: float, standard: int) -> tuple[int, int, int]:
    """10-bit limited-range YCbCr of R'G'B' in [0, 1]."""
    kr, kb = {BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}[standard]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    return round(64 + 876 * luma), round(512 + 896 * cb), round(512 + 896 * cr)


def first_frame(path: Path, **selection: int) -> np.ndarray:
    with VideoReader(path, Selection(**selection)) as reader:
        return next(item.pixels for item in reader.items() if isinstance(item, Frame))


COLORS = [
    (0.58, 0.58, 0.58),
    (0.3, 0.3, 0.3),
    (0.6, 0.3, 0.3),
    (0.35, 0.55, 0.3),
    (0.3, 0.35, 0.6),
    (1, 1, 1),
]


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_files_are_tone_mapped(tmp_path: Path, transfer: int) -> None:
    colors = [limited(*color, BT2020) for color in COLORS]
    pixels = first_frame(write_ten_bits(tmp_path / "in.mkv", colors, transfer, BT2020))
    assert pixels.dtype == np.uint8
    expected = np.array([slow_sdr(np.array(color), transfer) for color in COLORS])
    np.testing.assert_allclose(pixels[32, 8::16], expected, atol=3.5)  # the codec's ten bits and 4:2:0


def test_reference_white_is_nearly_white(tmp_path: Path) -> None:
    """203 cd/m2 is code 0.58 of PQ; taken for SDR it would be a dark grey, 148."""
    path = write_ten_bits(tmp_path / "in.mkv", [limited(0.5807, 0.5807, 0.5807, BT2020)], PQ, BT2020)
    assert abs(first_frame(path).mean() - 255 * 0.875 ** (1 / 2.4)) < 2


def test_sdr_of_ten_bits_only_loses_bits(tmp_path: Path) -> None:
    colors = [limited(*color, BT709) for color in COLORS]
    pixels = first_frame(write_ten_bits(tmp_path / "in.mkv", colors, BT709, BT709))
    np.testing.assert_allclose(pixels[32, 8::16], 255 * np.array(COLORS), atol=1.5)


@pytest.mark.parametrize("transfer", [PQ, BT709])
def test_white_stays_white_when_it_is_made_smaller(tmp_path: Path, transfer: int) -> None:
    path = write_ten_bits(tmp_path / "in.mkv", [limited(1, 1, 1, BT709)] * 4, transfer, BT709)
    small = first_frame(path, max_size=32)
    assert small.shape == (32, 32, 3) and small.min() >= 253


def test_an_hdr_video_becomes_an_sdr_one(tmp_path: Path) -> None:
    colors = [limited(0.6, 0.2, 0.2, BT2020), limited(0.2, 0.6, 0.2, BT2020)]
    source = write_ten_bits(tmp_path / "in.mkv", colors * 3, PQ, BT2020)
    segmenter = Segmenter(write_graph(tmp_path / "model.onnx"), threads=1)
    segment_video(segmenter, source, tmp_path / "out.mp4", output="colors", crf=5)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p" and frame.color_trc == BT709
    picture = frame.to_ndarray(format="rgb24")
    assert np.abs(picture[32, 8] - np.array(PALETTE[0])).max() < 25
    assert np.abs(picture[32, 24] - np.array(PALETTE[1])).max() < 25
