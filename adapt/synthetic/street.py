"""A street that does not exist: a small perspective renderer whose every pixel has an exact label.

The world is a straight street along +z (metres): x to the right, y up, the ground at y = 0. Things stand
along it and are painted from far to near, each into three layers at once: colour, label and distance.
Distance is what haze needs. Everything is painted at twice the size; colours are averaged down, labels taken
at one pixel in four.

A Domain says how a street looks and how often each thing occurs, so two domains differ in both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from adapt.data.classes import IGNORE, ClassList, Color

CLASSES = ClassList(
    names=(
        "road",
        "sidewalk",
        "building",
        "fence",
        "pole",
        "sign",
        "vegetation",
        "sky",
        "person",
        "car",
        "bicycle",
    ),
    ids=tuple(range(11)),
    palette=(
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (190, 153, 153),
        (153, 153, 153),
        (220, 220, 0),
        (107, 142, 35),
        (70, 130, 180),
        (220, 20, 60),
        (0, 0, 142),
        (119, 11, 32),
    ),
    ignore=(IGNORE,),
)
ROAD, SIDEWALK, BUILDING, FENCE, POLE, SIGN, VEGETATION, SKY, PERSON, CAR, BICYCLE = range(11)
FAR = 90.0  # metres; beyond stands the skyline
NEAR = 0.8

Colors = tuple[Color, ...]
Point = tuple[float, float, float]  # x, y, z in metres


@dataclass(frozen=True)
class Domain:
    """How one domain looks. Lengths in metres, colours RGB 0..255."""

    camera_height: float
    focal: float  # share of the picture's width
    horizon: float  # share of the picture's height
    road_half: float
    sidewalk: float
    per_100m: "Frequencies"
    skies: tuple[tuple[Color, Color], ...]  # at the top, at the horizon
    road: Color
    pavement: Color
    grass: Color
    walls: Colors
    windows: Colors
    leaves: Colors
    fences: Colors
    poles: Colors
    signs: Colors
    clothes: Colors
    paints: Colors
    lamp_arms: bool
    haze: float  # 1 / metre
    light: tuple[float, float, float]  # factor on R, G, B
    noise: float  # standard deviation, grey levels
    blur: float  # standard deviation, pixels


class Frequencies(NamedTuple):
    """How many stand along 100 m of street, both sides together. fences, houses: share of the length."""

    trees: float
    street_trees: float
    poles: float
    signs: float
    persons: float
    cars: float
    bicycles: float
    bins: float
    fences: float
    houses: float


class Thing(NamedTuple):
    """Something at x, z with an own seed for its details. length: along z, for walls and fences."""

    draw: "Paint"
    x: float
    z: float
    seed: int
    length: float = 0.0


Paint = Callable[["Canvas", Thing, Domain], None]


class Street(NamedTuple):
    """One street of a domain, and the camera and weather it is seen in.

    background: houses and the trees in their gardens.  foreground: what stands between the fences.
    camera_x: metres right of the middle.  tilt: moves the horizon, share of the height.
    sky: colours at the top and at the horizon.  light: factor on R, G, B.
    """

    domain: Domain
    background: list[Thing]
    fences: list[Thing]
    foreground: list[Thing]
    camera_x: float
    tilt: float
    sky: tuple[Color, Color]
    light: np.ndarray
    seed: int


class Canvas:
    """Three layers at twice the picture's size, and the pinhole camera that paints on them."""

    def __init__(self, street: Street, size: tuple[int, int], travelled: float) -> None:
        domain = street.domain
        self.height, self.width = 2 * size[0], 2 * size[1]
        self.colors = np.zeros((self.height, self.width, 3), np.uint8)
        self.labels = np.full((self.height, self.width), SKY, np.uint8)
        self.distance = np.full((self.height, self.width), 2 * FAR, np.float32)
        self.focal = domain.focal * self.width
        self.horizon = (domain.horizon + street.tilt) * self.height
        self.x, self.y, self.z = street.camera_x, domain.camera_height, travelled

    def nearest(self, thing: Thing) -> float:
        """Distance of the thing's near end; infinite once it lies behind the camera."""
        if thing.z + thing.length - self.z < (2 * NEAR if thing.length else 2.5):
            return float("inf")
        return max(NEAR, thing.z - self.z)

    def project(self, points: list[Point]) -> np.ndarray:
        """World points (x, y, z) to pixels [n, 2]."""
        x, y, z = np.array(points, np.float64).T
        depth = np.maximum(z - self.z, NEAR)
        u = self.width / 2 + self.focal * (x - self.x) / depth
        return np.stack((u, self.horizon - self.focal * (y - self.y) / depth), axis=1)

    def polygon(self, points: list[Point], color: Color, label: int) -> None:
        """A filled polygon in the world."""
        depth = min(z for _, _, z in points) - self.z
        self._fill(np.rint(self.project(points)).astype(np.int32), color, label, depth)

    def flat(self, outline: np.ndarray, thing: Thing, color: Color, label: int) -> None:
        """A filled polygon facing the camera. outline: [n, 2] metres right of and above the thing's foot."""
        depth = max(thing.z - self.z, NEAR)
        scale = self.focal / depth
        foot = (self.width / 2 + scale * (thing.x - self.x), self.horizon + scale * self.y)
        self._fill(np.rint(outline * (scale, -scale) + foot).astype(np.int32), color, label, depth)

    def _fill(self, outline: np.ndarray, color: Color, label: int, depth: float) -> None:
        cv2.fillPoly(self.colors, [outline], color)
        cv2.fillPoly(self.labels, [outline], label)
        cv2.fillPoly(self.distance, [outline], depth)

    def wall(self, thing: Thing, height: float, texture: np.ndarray, label: int) -> None:
        """A textured wall along the street from z to z + length. texture: uint8 [h, w, 3], column 0 at z."""
        start, stop = max(thing.z, self.z + NEAR), min(thing.z + thing.length, self.z + 1.3 * FAR)
        corners = self.project(
            [(thing.x, height, start), (thing.x, height, stop), (thing.x, 0, stop), (thing.x, 0, start)]
        ).astype(np.float32)
        per_metre = texture.shape[1] / thing.length
        left, right, bottom = (start - thing.z) * per_metre, (stop - thing.z) * per_metre, texture.shape[0]
        source = np.array([(left, 0), (right, 0), (right, bottom), (left, bottom)], np.float32)
        first = max(0, int(corners[:, 0].min()))
        last = min(self.width, int(corners[:, 0].max()) + 1)
        if first >= last:
            return
        local = corners - np.array((first, 0), np.float32)
        move = cv2.getPerspectiveTransform(source, local)
        shape = (last - first, self.height)
        warped = cv2.warpPerspective(
            texture, move, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros((self.height, last - first), np.uint8)
        cv2.fillConvexPoly(mask, np.rint(local).astype(np.int32), 1)
        inside = mask.astype(bool)
        columns = np.arange(first, last) + 0.5 - self.width / 2
        depth = self.focal * abs(thing.x - self.x) / np.maximum(np.abs(columns), 1)
        depth = depth.clip(start - self.z, stop - self.z)
        self.colors[:, first:last][inside] = warped[inside]
        self.labels[:, first:last][inside] = label
        self.distance[:, first:last][inside] = np.broadcast_to(depth, inside.shape)[inside]

    def shadow(self, x: float, z: float, width: float, length: float) -> None:
        """Darkens the ground; labels stay."""
        if z - self.z > 30:
            return
        outline = disc(0, 0, 0.5, 12) * (width, length) + (x, z)
        points = [(along, 0.0, away) for along, away in outline.tolist()]
        outline = np.rint(self.project(points)).astype(np.int32)
        (left, top), (right, bottom) = outline.min(0).clip(0), outline.max(0) + 1
        region = self.colors[top:bottom, left:right]
        if region.size:
            mask = np.zeros(region.shape[:2], np.uint8)
            cv2.fillConvexPoly(mask, outline - (left, top), 1)
            region[mask.astype(bool)] //= 2


@cache
def grain() -> np.ndarray:
    """float32 [256, 256] in about -1..1, coarse and fine grain, tiling at the edges."""
    generator = np.random.default_rng(7)
    fine = generator.normal(0, 0.35, (256, 256))
    coarse = cv2.resize(np.pad(generator.normal(0, 0.5, (32, 32)), 1, mode="wrap"), (272, 272))[8:-8, 8:-8]
    return np.asarray(fine + coarse, np.float32)


def disc(x: float, y: float, radius: float, corners: int = 14) -> np.ndarray:
    """Outline [corners, 2] of a circle, the first corner on top."""
    return _unit_disc(corners) * radius + (x, y)


@cache
def _unit_disc(corners: int) -> np.ndarray:
    """A regular polygon, first corner on top."""
    around = np.linspace(0, 2 * np.pi, corners + 1)[:-1] + np.pi / 2
    return np.stack((np.cos(around), np.sin(around)), axis=1)


def pick(colors: Colors, generator: np.random.Generator) -> Color:
    """One of the colours, a little off."""
    base, change = colors[generator.integers(len(colors))], generator.integers(-12, 13, 3).tolist()
    red, green, blue = (min(255, max(0, part + more)) for part, more in zip(base, change, strict=True))
    return red, green, blue


def shade(color: Color, factor: float) -> Color:
    """The colour in more or less light."""
    red, green, blue = (min(255, int(part * factor)) for part in color)
    return red, green, blue
