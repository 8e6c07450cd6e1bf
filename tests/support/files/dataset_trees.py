"""Tiny data sets in the layouts of their downloads: one function per layout, each returns what it painted.

Pictures are noise; labels are blocks of the classes that are asked for, by name, in Cityscapes' words.
"""

import zlib
from pathlib import Path

import cv2
import numpy as np

from adapt.data.classes import ClassList
from adapt.data.known_classes import CITYSCAPES19, SYNTHIA16
from serve.media.structure import PNG_SIGNATURE, png_chunks

SIZE = (48, 64)
NAMES = ("road", "building", "sky", "car", "person")


def blocks(values: list[int], seed: int = 0) -> np.ndarray:
    """uint16 [48, 64]: 8x8 blocks, at least one of every value."""
    rng = np.random.default_rng(seed)
    grid = rng.choice(values, size=(6, 8))
    grid.ravel()[: len(values)] = values
    return np.kron(grid, np.ones((8, 8), int)).astype(np.uint16)


def ids(classes: ClassList, names: tuple[str, ...] = NAMES) -> list[int]:
    return [classes.ids[classes.names.index(name)] for name in names]


def write(path: Path, array: np.ndarray) -> Path:
    """A PNG or JPEG of ids (uint8 or uint16), or of RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array if array.ndim == 2 else np.ascontiguousarray(array[..., ::-1]))
    return path


def picture(path: Path, seed: int = 0) -> Path:
    return write(path, np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def palette_png(path: Path, indices: np.ndarray, palette: list[tuple[int, int, int]]) -> Path:
    """OpenCV cannot write palettes: declare a grey PNG one."""
    _, data = cv2.imencode(".png", indices.astype(np.uint8))
    body = b""
    for kind, content in png_chunks(data.tobytes()):
        if kind == b"IHDR":
            content = content[:9] + b"\x03" + content[10:]
        if kind == b"IDAT" and b"PLTE" not in body:
            body += _chunk(b"PLTE", bytes(part for color in palette for part in color))
        body += _chunk(kind, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PNG_SIGNATURE + body)
    return path


def png_of_channels(path: Path, channels: list[np.ndarray]) -> Path:
    """A 16-bit PNG with one, two (grey and alpha) or three channels, in that order."""
    height, width = channels[0].shape
    color_type = {1: 0, 2: 4, 3: 2}[len(channels)]
    rows = np.stack(channels, axis=-1).astype(">u2").reshape(height, -1)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, color_type, 0, 0, 0])
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b""))
    return path


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def cityscapes(root: Path, train: int = 2, val: int = 1) -> Path:
    """With train, val and (unlabelled) test; label ids, and the other files that lie beside them."""
    for split, city, count in (("train", "aachen", train), ("val", "lindau", val), ("test", "bonn", 1)):
        for i in range(count):
            stem = f"{city}_{i:06}_000019"
            picture(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", i)
            if split != "test":
                labels = root / "gtFine" / split / city
                write(labels / f"{stem}_gtFine_labelIds.png", blocks(ids(CITYSCAPES19), i).astype(np.uint8))
                write(labels / f"{stem}_gtFine_instanceIds.png", blocks([24001, 7], i))
                (labels / f"{stem}_gtFine_polygons.json").write_text("{}")
    return root


def gta5(root: Path, count: int = 2, names: tuple[str, ...] = NAMES) -> Path:
    """Palette PNGs of label ids, with Cityscapes' colours as their palette."""
    palette = [(0, 0, 0)] * 35
    for value, color in zip(CITYSCAPES19.ids, CITYSCAPES19.palette, strict=True):
        palette[value] = color
    for i in range(1, count + 1):
        picture(root / "images" / f"{i:05}.png", i)
        values = [*ids(CITYSCAPES19, names), 34]  # and a license plate
        palette_png(root / "labels" / f"{i:05}.png", blocks(values, i), palette)
    (root / "split.mat").write_bytes(b"MATLAB")
    return root


def gta5_in_colours(root: Path, count: int = 2) -> Path:
    color_of = dict(zip(CITYSCAPES19.ids, CITYSCAPES19.palette, strict=True)) | {0: (20, 20, 20)}
    for i in range(1, count + 1):
        picture(root / "images" / f"{i:05}.png", i)
        labels = blocks([*ids(CITYSCAPES19), 0], i)
        colors = np.array([[color_of[int(value)] for value in row] for row in labels], np.uint8)
        write(root / "labels" / f"{i:05}.png", colors)
    return root


def synthia(root: Path, channels: int = 3, count: int = 2) -> Path:
    """16-bit PNGs: class id, then instance ids."""
    for i in range(count):
        picture(root / "RGB" / f"{i:07}.png", i)
        labels = blocks([*ids(SYNTHIA16), 0, 22], i)
        noise = blocks([3, 9, 300], i + 1)
        png_of_channels(root / "GT" / "LABELS" / f"{i:07}.png", [labels, noise, noise][:channels])
    return root


def acdc(root: Path, kind: str = "labelTrainIds", conditions: tuple[str, ...] = ("fog", "night")) -> Path:
    for condition in conditions:
        for split in ("train", "val", "test"):
            stem = f"GOPR0122_frame_{len(split):06}"
            sequence = root / "rgb_anon" / condition / split / "GOPR0122"
            picture(sequence / f"{stem}_rgb_anon.png", len(condition))
            if split != "test":
                labels = root / "gt" / condition / split / "GOPR0122"
                values = list(range(5)) if kind == "labelTrainIds" else ids(CITYSCAPES19)
                write(labels / f"{stem}_gt_{kind}.png", blocks(values).astype(np.uint8))
        reference = root / "rgb_anon" / condition / "train_ref" / "GOPR0122"
        picture(reference / "GOPR0122_frame_000005_rgb_ref_anon.png")
    return root


def dark_zurich(root: Path) -> Path:
    for time in ("night", "twilight", "day"):
        picture(root / "rgb_anon/train" / time / "GOPR0351" / f"GOPR0351_frame_{len(time):06}_rgb_anon.png")
    picture(root / "rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png")
    labels = blocks([0, 2, 10, 255]).astype(np.uint8)
    write(root / "gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_labelTrainIds.png", labels)
    return root


def bdd100k(root: Path) -> Path:
    """As the download has them now: JPEG pictures, train ids."""
    for split, stem in (("train", "0004a4c0-d4dff0ad"), ("val", "7d06fefd-f7be05a6")):
        picture(root / "images/10k" / split / f"{stem}.jpg")
        write(root / "labels/sem_seg/masks" / split / f"{stem}.png", blocks([0, 2, 10, 255]).astype(np.uint8))
    return root


def bdd100k_seg(root: Path) -> Path:
    """As the download had them before."""
    for split, stem in (("train", "0004a4c0-d4dff0ad"), ("val", "7d06fefd-f7be05a6")):
        picture(root / "seg/images" / split / f"{stem}.jpg")
        labels = blocks([0, 2, 10, 255]).astype(np.uint8)
        write(root / "seg/labels" / split / f"{stem}_train_id.png", labels)
        write(root / "seg/color_labels" / split / f"{stem}_train_color.png", labels)
    return root


def camvid(root: Path) -> Path:
    """SegNet's copy."""
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for i in range(count):
            picture(root / split / f"0001TP_{i:06}.png", i)
            write(root / f"{split}annot" / f"0001TP_{i:06}.png", blocks([0, 3, 8, 11]).astype(np.uint8))
    (root / "train.txt").write_text("/SegNet/CamVid/train/0001TP_000000.png ...")
    return root
