"""Draws a street as a camera would take it, with a label for every pixel."""

from typing import NamedTuple

import cv2
import numpy as np

from adapt.synthetic.street import (
    BICYCLE,
    BUILDING,
    FAR,
    ROAD,
    SIDEWALK,
    VEGETATION,
    Canvas,
    Domain,
    Street,
    grain,
    pick,
    shade,
)

_SIGHT = 65.0  # beyond, a person is a few pixels and left out


class Picture(NamedTuple):
    """image: uint8 [H, W, 3] RGB.  labels: uint8 [H, W], ids of CLASSES or IGNORE."""

    image: np.ndarray
    labels: np.ndarray


def render(street: Street, size: tuple[int, int], travelled: float = 0.0, frame: int = 0) -> Picture:
    """The street seen after `travelled` metres. size: (height, width), frame: varies the camera's noise."""
    canvas = Canvas(street, size, travelled)
    _sky(canvas, street)
    _ground(canvas, street.domain)
    for layer, farthest in ((street.background, FAR), (street.fences, FAR), (street.foreground, _SIGHT)):
        for thing in sorted(layer, key=lambda thing: -thing.z):
            if canvas.nearest(thing) < farthest:
                thing.draw(canvas, thing, street.domain)
    return Picture(_photograph(canvas, street, frame), np.ascontiguousarray(canvas.labels[1::2, 1::2]))


def _sky(canvas: Canvas, street: Street) -> None:
    """A gradient with clouds, and a skyline of far houses and woods where the street ends."""
    domain, generator = street.domain, np.random.default_rng(street.seed)
    down = np.clip(np.arange(canvas.height) / canvas.horizon, 0, 1)[:, None, None]
    gradient = (1 - down) * np.array(street.sky[0]) + down * np.array(street.sky[1])
    clouds = cv2.resize(generator.random((6, 10)).astype(np.float32), (canvas.width, canvas.height))
    clouds = np.clip(clouds - 0.45, 0, 1)[..., None] * 70 * (1 - 0.6 * down)
    canvas.colors[:] = np.clip(gradient + clouds, 0, 255)
    canvas.distance[:] = 60  # haze softens the sky, but does not swallow it
    x, z = -70.0, canvas.z + FAR
    while x < 70:
        width, height, is_wood = generator.uniform(4, 12), generator.uniform(2, 9), generator.random() < 0.4
        color = pick(domain.leaves if is_wood else domain.walls, generator)
        corners = [
            (x, 0.0, z),
            (x, height, z),
            (x + width, height * (0.8 if is_wood else 1), z),
            (x + width, 0.0, z),
        ]
        canvas.polygon(corners, shade(color, 0.85), VEGETATION if is_wood else BUILDING)
        x += width


def _ground(canvas: Canvas, domain: Domain) -> None:
    """Road with markings, paved sidewalks, and grass beyond, textured in world coordinates."""
    top = max(0, int(canvas.horizon) + 1)
    depth = canvas.focal * canvas.y / (np.arange(top, canvas.height) + 0.5 - canvas.horizon)
    depth = np.minimum(depth, 4 * FAR).astype(np.float32)[:, None]
    ray = (np.arange(canvas.width) + 0.5 - canvas.width / 2) / canvas.focal
    x = canvas.x + ray.astype(np.float32) * depth
    z = np.broadcast_to(depth + canvas.z, x.shape)
    across = np.abs(x)
    labels = np.full(x.shape, VEGETATION, np.uint8)
    labels[across < domain.road_half + domain.sidewalk] = SIDEWALK
    labels[across < domain.road_half] = ROAD
    base = np.zeros((BICYCLE + 1, 3), np.float32)
    base[[ROAD, SIDEWALK, VEGETATION]] = domain.road, domain.pavement, domain.grass
    colors = base[labels]
    near = np.exp(-depth / 25)  # detail fades with distance, else it would flicker
    rough = grain()[(z * 12).astype(np.int64) % 256, (x * 12).astype(np.int64) % 256]
    colors += (rough * near * np.where(labels == VEGETATION, 26, 13))[..., None]
    joint = (labels == SIDEWALK) & ((np.mod(x, 0.8) < 0.06) | (np.mod(z, 0.8) < 0.06))
    colors -= (joint * near * 40)[..., None]
    curb = (labels == SIDEWALK) & (across < domain.road_half + 0.18)
    colors[curb] *= 1.18
    dash = (across < 0.09) & (np.mod(z, 7) < 3.5)
    colors[dash & (labels == ROAD)] = np.array(domain.road, np.float32) * 0.3 + 160
    canvas.colors[top:] = colors.clip(0, 255)
    canvas.labels[top:] = labels
    canvas.distance[top:] = depth


def _photograph(canvas: Canvas, street: Street, frame: int) -> np.ndarray:
    """Haze, light, lens and sensor: the colour layer becomes a picture of half its size."""
    domain = street.domain
    small = (canvas.width // 2, canvas.height // 2)
    colors = cv2.resize(canvas.colors, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    distance = cv2.resize(canvas.distance, small, interpolation=cv2.INTER_AREA)
    clear = np.exp(-domain.haze * distance)[..., None]
    colors = colors * clear + np.array(street.sky[1], np.float32) * (1 - clear)
    colors *= street.light.astype(np.float32)
    if domain.blur:
        colors = cv2.GaussianBlur(colors, (0, 0), domain.blur)
    generator = np.random.default_rng((street.seed, frame))
    colors += generator.normal(0, domain.noise, colors.shape).astype(np.float32)
    return np.asarray(colors.clip(0, 255), np.uint8)
