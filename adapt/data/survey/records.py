"""What a look at data found, as plain values for programs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapt.data.survey.looks import Looked
from adapt.data.survey.sets import LabelledSurvey, Survey, color_of, sizes_of


def to_dict(found: Survey) -> dict[str, Any]:
    """All of it as plain values, ready for JSON."""
    names = found.classes.names

    def light(looked: Sequence[Looked]) -> dict[str, Any]:
        color = color_of(looked)
        spread_of = [look.brightness for each in looked for look in each.looks]
        if color is None:
            return {}
        return {
            "color": [round(part, 4) for part in color],
            "brightness": round(float(np.mean(spread_of)), 4),
            "brightness_std": round(float(np.std(spread_of)), 4),
        }

    return {
        "classes": list(names),
        "everything": found.everything,
        "labelled": [_labelled_dict(each, names) for each in found.labelled],
        "target": [
            {
                "path": str(each.part.path),
                "pictures": len(each.part.pictures),
                "videos": [str(video) for video in each.part.videos],
                "frames": each.frames,
                "left_out": [{"path": str(path), "why": why} for path, why in each.part.left_out],
                "looked_at": len(each.looked.looks) + len(each.looked.damaged),
                "sizes": _sizes(each.looked),
                "damaged": [{"path": str(f.path), "why": f.why} for f in each.looked.damaged],
            }
            for each in found.target
        ],
        "light": {role: light(looked) for role, looked in found.looked.items()},
        "duplicates": {
            role: [[str(twice.one), str(twice.other)] for twice in pairs]
            for role, pairs in found.twice.items()
        },
        "problems": found.problems,
    }


def _sizes(looked: Looked) -> list[dict[str, int]]:
    return [
        {"height": height, "width": width, "pictures": number}
        for (height, width), number in sizes_of([looked]).most_common()
    ]


def _labelled_dict(each: LabelledSurvey, names: Sequence[str]) -> dict[str, Any]:
    looks = each.looked.looks
    total = int(each.class_pixels.sum()) + each.ignored_pixels
    shares = each.class_pixels / max(1, int(each.class_pixels.sum()))
    return {
        "role": each.role,
        "path": str(each.part.found.root),
        "layout": each.part.found.layout.name,
        "note": each.part.found.note,
        "pictures": len(each.part.found.images),
        "without_labels": [str(path) for path in each.alone],
        "labels_without_picture": [str(path) for path in each.surplus],
        "looked_at": len(looks) + len(each.looked.damaged) + len(each.looked.unknown),
        "sizes": _sizes(each.looked),
        "class_pixels": dict(zip(names, each.class_pixels.tolist(), strict=True)) if looks else {},
        "class_shares": dict(zip(names, shares.round(6).tolist(), strict=True)) if looks else {},
        "ignored_share": round(each.ignored_pixels / total, 6) if total else None,
        "unknown_values": each.unknown,
        "damaged": [{"path": str(f.path), "why": f.why} for f in each.looked.damaged],
        "files": [
            {
                "path": str(look.path),
                "height": look.size[0],
                "width": look.size[1],
                "class_pixels": dict(zip(names, look.class_pixels, strict=True)),
                "ignored_pixels": look.ignored,
                "brightness": round(look.brightness, 4),
            }
            for look in looks
        ],
    }
