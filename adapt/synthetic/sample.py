"""Sample data: two synthetic street domains with a shift between them, and a clip of the target.

The source is a suburb by day: wide road, many cars and trees. The target is an old town at dusk: other
colours, textures and camera, and other class frequencies (many poles, signs, persons and bicycles, few cars).
It is generated, so its labels are exact, nothing needs to be downloaded and nothing is anybody's property.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import av
import numpy as np

from adapt.data.classes import save_classes
from adapt.data.images import write_jpeg, write_png
from adapt.errors import InputError
from adapt.synthetic.rendering import render
from adapt.synthetic.street import CLASSES, Domain, Frequencies
from adapt.synthetic.things import build_street
from serve.media.progress import Bar
from serve.media.whole import creating

T = TypeVar("T")

_STREET = 110.0  # metres that a camera can see, and a bit
_CLIP_RATE = 12  # frames per second
_CLIP_SPEED = 6.0  # metres per second
_CONTENT = {"source", "target", "target_eval", "classes.yaml", "target.mp4"}


def _domain(which: int) -> Domain:
    """The suburb (0) or the old town (1), of which each line says how they differ."""

    def pick(*both: T) -> T:
        return both[which]

    return Domain(
        camera_height=pick(1.4, 1.75),
        focal=pick(0.75, 0.66),
        horizon=pick(0.46, 0.42),
        road_half=pick(4.2, 3.3),
        sidewalk=pick(2.6, 3.4),
        per_100m=Frequencies(
            trees=pick(24, 10),
            street_trees=pick(4, 6),
            poles=pick(16, 22),
            signs=pick(12, 22),
            persons=pick(28, 56),
            cars=pick(13, 6),
            bicycles=pick(15, 34),
            bins=pick(2, 3),
            fences=pick(0.45, 0.4),
            houses=pick(0.75, 0.92),
        ),
        skies=pick(
            (((86, 142, 214), (188, 214, 238)), ((150, 162, 182), (214, 216, 220))),
            (((128, 148, 192), (226, 202, 188)), ((150, 156, 180), (216, 206, 204))),
        ),
        road=pick((112, 112, 116), (98, 95, 100)),
        pavement=pick((178, 172, 164), (170, 158, 150)),
        grass=pick((104, 148, 66), (104, 124, 64)),
        walls=pick(
            ((204, 184, 158), (190, 120, 96), (222, 214, 200), (164, 168, 176), (214, 190, 130)),
            ((150, 102, 84), (164, 146, 124), (124, 112, 114), (184, 160, 136)),
        ),
        windows=pick(((58, 72, 92), (88, 108, 132)), ((44, 46, 62), (58, 60, 76), (250, 206, 122))),
        leaves=pick(
            ((66, 124, 50), (88, 142, 56), (52, 104, 58)), ((132, 118, 50), (82, 108, 52), (146, 100, 46))
        ),
        fences=pick(((232, 230, 224), (170, 126, 84)), ((116, 104, 98), (158, 120, 88))),
        poles=pick(((158, 160, 164), (132, 136, 140)), ((74, 72, 76), (104, 100, 100))),
        signs=pick(((206, 36, 36), (36, 82, 178)), ((228, 186, 44), (196, 52, 44), (44, 92, 150))),
        clothes=pick(
            ((196, 48, 52), (48, 92, 172), (232, 206, 84), (220, 220, 224), (70, 150, 110)),
            ((62, 60, 72), (112, 86, 70), (60, 88, 132), (160, 150, 138), (172, 60, 54)),
        ),
        paints=pick(
            ((200, 40, 40), (226, 228, 232), (44, 82, 158), (40, 42, 46), (150, 156, 164)),
            ((70, 72, 80), (146, 140, 136), (40, 44, 60), (112, 54, 48)),
        ),
        lamp_arms=pick(False, True),
        haze=pick(0.002, 0.006),
        light=pick((1.06, 1.03, 0.98), (0.95, 0.90, 0.92)),
        noise=pick(3.0, 4.0),
        blur=pick(0.0, 0.5),
    )


SUBURB, OLD_TOWN = _domain(0), _domain(1)


def make_sample(
    out: Path,
    seed: int = 0,
    *,
    source: int = 160,
    target: int = 120,
    target_eval: int = 60,
    seconds: float = 4.0,
    size: tuple[int, int] = (128, 256),
    force: bool = False,
) -> None:
    """Write the sample data to the folder `out`; it appears there only when it is complete.

    source/images, source/labels: the labelled source.  target/images: the target, unlabelled.
    target_eval/images, target_eval/labels: other target images, labelled, for evaluation only.
    target.mp4: a drive through a target street, H.264, 12 frames per second.  classes.yaml: the 11 classes.

    seed: 0 or more; the same seed gives the same files with the same versions of the libraries.
    source, target, target_eval: numbers of images.  seconds: length of the clip.  size: (height, width),
    even. force: replace an earlier sample.
    Raises InputError for a number out of range, or if `out` exists (with force: if it is not an earlier
    sample).
    """
    out = Path(out)
    if seed < 0 or min(source, target, target_eval) < 1 or seconds * _CLIP_RATE < 1:
        raise InputError(
            "Sample data needs a seed of 0 or more, at least 1 image per part and 0.1 seconds of clip."
        )
    if min(size) < 32 or size[0] % 2 or size[1] % 2:
        raise InputError(f"The sample's size is {size[0]}x{size[1]}, but must be even and at least 32x32.")
    _check_free(out, force)
    with creating(out, replace=force) as folder:
        _write(folder, seed, (source, target, target_eval), round(seconds * _CLIP_RATE), size)


def _check_free(out: Path, force: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise InputError(f"{out} exists; choose another folder, or --force to replace an earlier sample.")
    if not out.is_dir() or {entry.name for entry in out.iterdir()} - _CONTENT:
        raise InputError(f"{out} holds other files than a sample and is not replaced; choose another folder.")


def _write(out: Path, seed: int, counts: tuple[int, int, int], frames: int, size: tuple[int, int]) -> None:
    jobs: list[Callable[[], None]] = []
    for part, (name, domain, count, labelled) in enumerate(
        zip(
            ("source", "target", "target_eval"),
            (SUBURB, OLD_TOWN, OLD_TOWN),
            counts,
            (True, False, True),
            strict=True,
        )
    ):
        (out / name / "images").mkdir(parents=True)
        if labelled:
            (out / name / "labels").mkdir()
        for i in range(count):
            stem = f"{name}_{i:04d}"
            labels = out / name / "labels" / f"{stem}.png" if labelled else None
            image = out / name / "images" / f"{stem}.jpg"
            jobs.append(partial(_still, domain, (seed, part, i), size, image, labels))
    jobs.append(partial(_clip, (seed, 3), frames, size, out / "target.mp4"))
    save_classes(CLASSES, out / "classes.yaml")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in Bar(pool.map(lambda job: job(), reversed(jobs)), "drawing streets", len(jobs), unit="file"):
            pass


def _still(
    domain: Domain, seed: tuple[int, ...], size: tuple[int, int], image: Path, labels: Path | None
) -> None:
    picture = render(build_street(domain, _STREET, np.random.default_rng(seed)), size)
    write_jpeg(image, picture.image)
    if labels is not None:
        write_png(labels, picture.labels)


def _clip(seed: tuple[int, ...], frames: int, size: tuple[int, int], path: Path) -> None:
    """A camera that drives down a street of the target."""
    metres = frames * _CLIP_SPEED / _CLIP_RATE
    street = build_street(OLD_TOWN, _STREET + metres, np.random.default_rng(seed))
    clear = [
        thing
        for thing in street.foreground
        if abs(thing.x - street.camera_x) > 1.9 or thing.z > metres + 12  # nobody is run over
    ]
    street = street._replace(foreground=clear)
    with av.open(str(path), "w") as container:
        # one thread: with more, the bytes would depend on the number of cores
        stream = container.add_stream("libx264", rate=_CLIP_RATE, options={"crf": "18", "threads": "1"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            picture = render(street, size, number * _CLIP_SPEED / _CLIP_RATE, number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.image, format="rgb24")))
        container.mux(stream.encode(None))
