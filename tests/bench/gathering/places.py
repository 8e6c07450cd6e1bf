"""Three places of the sample's suburb, by day and at dusk: pictures with a label for every pixel.

A place has frequencies of its own: many people on the market, many trees in the park. Dusk takes the light:
darker, bluish, noisy, lit windows; what stands in the street stays the same.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from adapt.data.classes import save_classes
from adapt.data.images import write_jpeg, write_png
from adapt.synthetic.rendering import Picture, render
from adapt.synthetic.sample import SUBURB
from adapt.synthetic.street import CLASSES, Domain
from adapt.synthetic.things import build_street

SIZE = (128, 256)
_METRES = 110.0

PLACES = {
    "avenue": SUBURB,
    "market": replace(SUBURB, per_100m=SUBURB.per_100m._replace(persons=50, bicycles=26, cars=8, signs=18)),
    "park": replace(SUBURB, per_100m=SUBURB.per_100m._replace(trees=38, houses=0.5, cars=9, persons=20)),
}


def at_dusk(place: Domain) -> Domain:
    """The same streets after sunset."""
    return replace(
        place,
        skies=(((76, 104, 160), (194, 176, 176)), ((110, 116, 142), (180, 170, 174))),
        windows=((250, 206, 122), (58, 60, 76)),
        haze=0.004,
        light=(0.80, 0.76, 0.81),
        noise=5.0,
        blur=0.3,
    )


def picture(place: Domain, *seed: int) -> Picture:
    """One street of a place, another one for every seed."""
    return render(build_street(place, _METRES, np.random.default_rng(seed)), SIZE)


def write_labelled(folder: Path, place: Domain, seed: int, count: int) -> Path:
    """A labelled folder, as `adapt` and `export eval` read them."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        seen = picture(place, seed, number)
        write_jpeg(folder / "images" / f"{number:04d}.jpg", seen.image)
        write_png(folder / "labels" / f"{number:04d}.png", seen.labels)
    save_classes(CLASSES, folder / "classes.yaml")
    return folder
