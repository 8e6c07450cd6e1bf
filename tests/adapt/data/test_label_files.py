"""Label files: every pixel format that is promised, one clear sentence for every other."""

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from labelled_folders import CLASSES, label_ids, make_folder, refused

from adapt.data.classes import IGNORE
from adapt.data.datasets import LabelledFolder
from adapt.data.images import read_labels
from adapt.errors import InputError
from serve.media.images import read_image
from serve.media.structure import PNG_SIGNATURE, png_chunks


def write_palette_png(path: Path, indices: np.ndarray) -> None:
    """OpenCV cannot write palettes: write a grey PNG and declare it one."""
    _, data = cv2.imencode(".png", indices)
    body = b""
    for kind, content in png_chunks(data.tobytes()):
        if kind == b"IHDR":
            content = content[:9] + b"\x03" + content[10:]
        if kind == b"IDAT" and b"PLTE" not in body:
            colors = bytes(range(30, 30 + 9))
            body += chunk(b"PLTE", colors)
        body += chunk(kind, content)
    path.write_bytes(PNG_SIGNATURE + body)


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_a_palette_png_gives_its_indices(tmp_path):
    write_palette_png(tmp_path / "palette.png", label_ids())
    painted = read_image(tmp_path / "palette.png")
    assert tuple(painted[0, 0]) == (30, 31, 32)  # it really is one
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png"), label_ids())


def test_sixteen_bit_ids_keep_their_values(tmp_path):
    ids = label_ids().astype(np.uint16) * 1000
    cv2.imwrite(str(tmp_path / "deep.png"), ids)
    values = read_labels(tmp_path / "deep.png")
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, ids)


def test_one_bit_labels_are_zero_and_one(tmp_path):
    mask = (label_ids() > 0).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), mask * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.png"), mask)


@pytest.mark.parametrize("alpha", [False, True])
def test_coloured_labels_become_train_ids(alpha, tmp_path):
    make_folder(tmp_path, ["a"])
    colors = np.array(CLASSES.palette, np.uint8)[label_ids()]
    colors[0] = 0  # black is unlabelled
    stored = (
        np.dstack((colors[..., ::-1], np.full(colors.shape[:2], 99, np.uint8)))
        if alpha
        else colors[..., ::-1]
    )
    cv2.imwrite(str(tmp_path / "labels" / "a.png"), stored)
    sample = LabelledFolder(tmp_path, CLASSES)[0]
    assert (sample.labels[0] == IGNORE).all()
    np.testing.assert_array_equal(sample.labels[1:], label_ids()[1:])


def test_jpeg_labels_and_deep_colours_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), label_ids())
    os.replace(tmp_path / "a.jpg", tmp_path / "a.png")  # noqa: PTH105
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "a.png")
    refused(error, tmp_path / "a.png", "not a PNG")
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((4, 4, 3), np.uint16))
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "b.png")
    refused(error, "16 bits")
