"""Tiny exports that describe all pictures in one JSON file: COCO's kinds, and Label Studio's."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dataset_trees as trees
import numpy as np
from export_trees import BOXES, HEIGHT, NAMES, WIDTH, ring, text, truth


def coco_instances(root: Path) -> Path:
    """As CVAT exports it: images/ and annotations/; polygons, and a mask of run lengths."""
    content = _coco(BOXES)
    content["annotations"] = [
        {
            "id": number,
            "image_id": i + 1,
            "category_id": NAMES.index(name),
            "area": 1e4 - number,
            "iscrowd": 0,
        }
        | {"segmentation": [[x for point in ring(box) for x in point]]}
        for i, (stem, boxes) in enumerate(BOXES.items())
        for number, (name, box) in enumerate(boxes)
    ]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    left, top, right, bottom = BOXES["b"][0][1]
    mask[top:bottom, left:right] = True
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(np.r_[0, flat.astype(int), 2]))
    runs = np.diff(np.r_[0, changes]).tolist()
    content["annotations"][3]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": runs}
    text(root / "annotations" / "instances_default.json", content)
    for stem in BOXES:
        trees.picture(root / "images" / "default" / f"{stem}.jpg")
    return root


def coco_stuff(root: Path) -> Path:
    """With packed run lengths, as COCO's own files; the background is unlabelled."""
    from pycocotools import mask

    for split, stems in (("train", "ab"), ("val", "c")):
        content = _coco(stems)
        content["annotations"] = [
            {"id": 10 * i + c, "image_id": i + 1, "category_id": c, "area": 1, "iscrowd": 0}
            | {"segmentation": _packed(mask.encode(np.asfortranarray((truth(stem) == c).astype(np.uint8))))}
            for i, stem in enumerate(stems)
            for c in (1, 2)
        ]
        text(root / "annotations" / f"stuff_{split}2017.json", content)
        text(root / "annotations" / f"captions_{split}2017.json", content | {"annotations": []})
        for stem in stems:
            trees.picture(root / f"{split}2017" / f"{stem}.jpg")
    return root


def coco_panoptic(root: Path) -> Path:
    for split, stems in (("train", "ab"), ("val", "c")):
        content = _coco(stems)
        content["annotations"] = []
        for i, stem in enumerate(stems):
            numbers = truth(stem).astype(np.uint32) * 70_000  # 0 is void
            channels = [numbers & 255, numbers >> 8 & 255, numbers >> 16]
            folder = root / "annotations" / f"panoptic_{split}2017"
            trees.write(folder / f"{stem}.png", np.stack(channels, -1).astype(np.uint8))
            segments = [{"id": 70_000 * c, "category_id": c, "area": 1} for c in (1, 2)]
            content["annotations"].append(
                {"image_id": i + 1, "file_name": f"{stem}.png", "segments_info": segments}
            )
            trees.picture(root / f"{split}2017" / f"{stem}.jpg")
        text(root / "annotations" / f"panoptic_{split}2017.json", content)
    return root


def _coco(stems: Iterable[str]) -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": i + 1, "file_name": f"{stem}.jpg", "height": HEIGHT, "width": WIDTH}
            for i, stem in enumerate(stems)
        ],
        "categories": [{"id": i, "name": NAMES[i], "supercategory": ""} for i in (1, 2)],
    }


def _packed(runs: dict[str, Any]) -> dict[str, Any]:
    return {"size": runs["size"], "counts": runs["counts"].decode()}


def label_studio(root: Path) -> Path:
    """JSON with polygons and rectangles in per cent, and brushes; pictures under their uploaded names."""
    tasks = []
    for number, (stem, boxes) in enumerate(BOXES.items()):
        trees.picture(root / "pictures" / f"{stem}.jpg")
        result = []
        for kind, (name, box) in zip(
            ("polygonlabels", "rectanglelabels", "brushlabels"), boxes, strict=False
        ):
            left, top, right, bottom = box
            across, down = 100 / WIDTH, 100 / HEIGHT
            value: dict[str, Any] = {kind: [name]}
            if kind == "polygonlabels":
                value |= {"points": [[x * across, y * down] for x, y in ring(box)], "closed": True}
            elif kind == "rectanglelabels":
                value |= {"x": left * across, "y": top * down, "rotation": 0}
                value |= {"width": (right - left) * across, "height": (bottom - top) * down}
            else:
                mask = np.zeros((HEIGHT, WIDTH), bool)
                mask[top:bottom, left:right] = True
                value |= {"format": "rle", "rle": packed_brush(mask)}
            sizes = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
            result.append({"id": "x", "type": kind, "value": value, "from_name": "label", **sizes})
        annotation = {"id": number, "was_cancelled": False, "result": result}
        data = {"image": f"/data/upload/1/0123abcd-{stem}.jpg"}
        tasks.append({"id": number + 1, "annotations": [annotation], "data": data})
    text(root / "project-1-at-2026.json", tasks)
    return root


def label_studio_min(root: Path) -> Path:
    """JSON-MIN: regions under the control's name; an earlier annotation of a task before the last one."""
    (path,) = label_studio(root).glob("*.json")
    lines = []
    for task in json.loads(path.read_text()):
        (annotation,) = task["annotations"]
        regions = [
            each["value"] | {key: each[key] for key in ("original_width", "original_height")}
            for each in annotation["result"]
        ]
        common = task["data"] | {"id": task["id"], "annotator": 1, "lead_time": 2.5}
        lines.append(common | {"label": regions[:1], "annotation_id": 0})
        lines.append(common | {"label": regions, "annotation_id": annotation["id"], "comment": "fine"})
    lines.append({"image": "/data/upload/1/x.jpg", "id": 99, "annotator": 1, "annotation_id": 9})
    text(path, lines)
    return root


def label_studio_png(root: Path) -> Path:
    """Brush labels as PNG, each label of each task in a file, beside the JSON."""
    label_studio(root)
    for number, stem in enumerate(BOXES):
        for c, name in enumerate(NAMES[1:], 1):
            if (truth(stem) == c).any():
                mask = (truth(stem) == c).astype(np.uint8) * 255
                trees.write(
                    root / "png" / f"task-{number + 1}-annotation-{number}-by-1-tag-{name}-0.png", mask
                )
    return root


def packed_brush(mask: np.ndarray) -> list[int]:
    """Run lengths of four equal channels as Label Studio packs them; the longest runs have 16 bits."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    ends = np.flatnonzero(np.diff(np.r_[values.astype(int), -1])) + 1
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{width - 1:04b}" for width in (3, 4, 8, 16))
    start = 0
    for end in ends.tolist():
        while start < end:
            length = min(end - start, 1 << 16)
            bits += "1" + "11" + f"{length - 1:016b}" + f"{values[start]:08b}"
            start += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
