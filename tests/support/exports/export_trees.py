"""Tiny exports as labelling tools write them: each function paints one and returns what is true of it.

The truth is in class names: [height, width] of positions in `NAMES`, the same pictures for every tool.
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import dataset_trees as trees
import numpy as np

NAMES = ("background", "car", "road")
HEIGHT, WIDTH = trees.SIZE
BOXES = {
    "a": [("road", (0, 24, 64, 48)), ("car", (8, 16, 24, 40)), ("car", (40, 0, 44, 8))],
    "b": [("road", (10, 0, 30, 48))],
    "c": [("car", (1, 1, 3, 47))],
}
"""Shapes of each picture as left, top, right, bottom; later ones cover earlier ones."""
COLORS = {"background": (0, 0, 0), "car": (128, 0, 64), "road": (10, 200, 30)}


def truth(stem: str) -> np.ndarray:
    """uint8 [48, 64], positions in NAMES."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name, (left, top, right, bottom) in BOXES[stem]:
        labels[top:bottom, left:right] = NAMES.index(name)
    return labels


def counts(*stems: str) -> dict[str, int]:
    """Pixels of each class in these pictures."""
    pixels = sum(np.bincount(truth(stem).ravel(), minlength=3) for stem in stems)
    return {name: number for name, number in zip(NAMES, pixels.tolist(), strict=True) if number}


def ring(box: tuple[int, int, int, int]) -> list[list[float]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def rgb(stem: str) -> np.ndarray:
    return np.array([COLORS[name] for name in NAMES], np.uint8)[truth(stem)]


def instances(stem: str) -> np.ndarray:
    """RGB, a colour for each shape whatever its class is."""
    painted = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, (_, (left, top, right, bottom)) in enumerate(BOXES[stem]):
        painted[top:bottom, left:right] = (128 * (number % 2), 128, 64 * number)
    return painted


def text(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def cvat(root: Path) -> Path:
    """Segmentation mask 1.1, with images saved."""
    lines = [f"{name}:{','.join(map(str, COLORS[name]))}::" for name in NAMES]
    text(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n")
    text(root / "ImageSets/Segmentation/default.txt", "a\nb\nc\n")
    for stem in BOXES:
        trees.picture(root / "JPEGImages" / f"{stem}.jpg")
        trees.write(root / "SegmentationClass" / f"{stem}.png", rgb(stem))
        trees.write(root / "SegmentationObject" / f"{stem}.png", instances(stem))
    return root


def voc(root: Path) -> Path:
    """VOCdevkit with lists; palette PNGs; a picture that has no segmentation."""
    place = root / "VOCdevkit" / "VOC2012"
    values = np.array([0, 7, 20], np.uint8)  # car, and tvmonitor for road
    palette = [(i, i, i) for i in range(256)]
    for stem in BOXES:
        trees.picture(place / "JPEGImages" / f"2007_{stem}.jpg")
        trees.palette_png(place / "SegmentationClass" / f"2007_{stem}.png", values[truth(stem)], palette)
    trees.picture(place / "JPEGImages" / "2008_boxes_only.jpg")
    for name, stems in (("train", "ab"), ("val", "c"), ("trainval", "abc")):
        text(place / "ImageSets/Segmentation" / f"{name}.txt", "".join(f"2007_{stem}\n" for stem in stems))
    return root


def labelme_voc(root: Path, folder: str = "SegmentationClass") -> Path:
    """What labelme2voc.py makes, now or, with SegmentationClassPNG, before."""
    text(root / "class_names.txt", "_background_\ncar\nroad\n")
    (root / "SegmentationClass").mkdir(parents=True)
    for stem in BOXES:
        trees.picture(root / "JPEGImages" / f"{stem}.jpg")
        trees.palette_png(root / folder / f"{stem}.png", truth(stem), [(i, 0, 0) for i in range(256)])
        trees.picture(root / "SegmentationClassVisualization" / f"{stem}.jpg")
    return root


def roboflow(root: Path) -> Path:
    for split, stems in (("train", "ab"), ("valid", "c")):
        text(root / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, car\n2, road\n")
        for stem in stems:
            name = f"{stem}_jpg.rf.0123456789abcdef"
            trees.picture(root / split / f"{name}.jpg")
            trees.write(root / split / f"{name}_mask.png", truth(stem))
    text(root / "README.roboflow.txt", "exported")
    return root


def labelme(root: Path) -> Path:
    for stem, boxes in BOXES.items():
        trees.picture(root / f"{stem}.jpg")
        shapes = [
            {"label": name, "points": ring(box), "group_id": None, "shape_type": "polygon", "flags": {}}
            for name, box in boxes
        ]
        shapes[0] |= {"shape_type": "rectangle", "points": [list(boxes[0][1][:2]), list(boxes[0][1][2:])]}
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{stem}.jpg",
            "imageData": None,
        }
        text(root / f"{stem}.json", content | {"imageHeight": HEIGHT, "imageWidth": WIDTH})
    return root


def supervisely(root: Path) -> Path:
    classes = [
        {"title": name, "shape": "any", "color": "#{:02X}{:02X}{:02X}".format(*COLORS[name])}
        for name in NAMES[1:]
    ]
    text(root / "meta.json", {"classes": classes, "tags": [], "projectType": "images"})
    for stem, boxes in BOXES.items():
        trees.picture(root / "ds0" / "img" / f"{stem}.jpg")
        figures = []
        for number, (name, box) in enumerate(boxes):
            left, top, right, bottom = box
            if number:  # a bitmap: PNG, packed, at its origin
                mask = np.zeros((bottom - top, right - left, 4), np.uint8) + 255
                data = base64.b64encode(zlib.compress(cv2.imencode(".png", mask)[1].tobytes())).decode()
                figure = {"geometryType": "bitmap", "bitmap": {"data": data, "origin": [left, top]}}
            else:
                figure = {"geometryType": "polygon", "points": {"exterior": ring(box), "interior": []}}
            figures.append({"classTitle": name, "tags": [], **figure})
        content = {
            "description": "",
            "tags": [],
            "size": {"height": HEIGHT, "width": WIDTH},
            "objects": figures,
        }
        text(root / "ds0" / "ann" / f"{stem}.jpg.json", content)
    return root


def ade20k(root: Path) -> Path:
    """0 is none of the classes, so that the truth's background does not count."""
    table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t2\t1\t0\tcar, auto\n2\t0.2\t2\t1\t1\troad, route\n"
    text(root / "objectInfo150.txt", table)
    for split, stems in (("training", "ab"), ("validation", "c")):
        for stem in stems:
            trees.picture(root / "images" / split / f"ADE_{split}_{stem}.jpg")
            trees.write(root / "annotations" / split / f"ADE_{split}_{stem}.png", truth(stem))
    return root


def ultralytics_masks(root: Path) -> Path:
    """masks_dir and label_mapping: two values of a class, and one that does not count."""
    text(
        root / "data.yaml",
        "path: /home/somebody/datasets/x\ntrain: images/train\nval: images/val\nmasks_dir: masks\n"
        "names: {0: background, 1: car, 2: road}\nlabel_mapping: {-1: 255, 0: 0, 5: 1, 6: 1, 9: 2, 3: 255}\n",
    )
    values = np.array([0, 6, 9], np.uint8)
    for split, stems in (("train", "ab"), ("val", "c")):
        for stem in stems:
            trees.picture(root / "images" / split / f"{stem}.jpg")
            trees.write(root / "masks" / split / f"{stem}.png", values[truth(stem)])
    return root


def ultralytics_polygons(root: Path) -> Path:
    text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['car', 'road']\n")
    for split, stems in (("train", "ab"), ("valid", "c")):
        for stem in stems:
            trees.picture(root / split / "images" / f"{stem}.jpg")
            lines = [
                " ".join(
                    [str(NAMES.index(name) - 1), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in ring(box))]
                )
                for name, box in BOXES[stem]
            ]
            text(root / split / "labels" / f"{stem}.txt", "\n".join(lines) + "\n")
    return root


def huggingface(root: Path, saved: bool = False) -> Path:
    """Parquet files as on the hub; or, saved, Arrow files as save_to_disk writes them."""
    import pyarrow as arrow
    from pyarrow import parquet

    for split, stems in (("train", "ab"), ("validation", "c")):
        rows: dict[str, list[dict[str, Any]]] = {"image": [], "label": []}
        for stem in stems:
            picture = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 99, np.uint8))[1].tobytes()
            labels = cv2.imencode(".png", truth(stem))[1].tobytes()
            rows["image"].append({"bytes": picture, "path": f"{stem}.jpg"})
            rows["label"].append({"bytes": labels, "path": None})
        table = arrow.table(rows)
        if saved:
            (root / split).mkdir(parents=True)
            with arrow.ipc.new_stream(root / split / "data-00000-of-00001.arrow", table.schema) as stream:
                stream.write_table(table)
            text(root / split / "state.json", {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
        else:
            (root / "data").mkdir(parents=True, exist_ok=True)
            parquet.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet", row_group_size=1)
    text(root / "id2label.json", {str(i): name for i, name in enumerate(NAMES)})
    return root
