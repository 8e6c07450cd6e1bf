"""What stands along the streets of the sample data: houses, trees, poles, people, cars and so on.

Each is a function that paints one Thing on the Canvas, with every detail drawn from the thing's own seed: the
same thing looks the same from wherever the camera sees it. Outlines are in metres, right of and above the
thing's foot.
"""

import numpy as np

from adapt.data.classes import IGNORE, Color
from adapt.synthetic.street import (
    BICYCLE,
    BUILDING,
    CAR,
    FENCE,
    NEAR,
    PERSON,
    POLE,
    SIGN,
    VEGETATION,
    Canvas,
    Domain,
    Paint,
    Street,
    Thing,
    disc,
    grain,
    pick,
    shade,
)

_TEXELS = 12  # per metre of a wall


def build_street(domain: Domain, length: float, generator: np.random.Generator) -> Street:
    """A random street of the domain, `length` metres long, for a camera at z = 0 and onwards."""
    many = domain.per_100m
    edge = domain.road_half + domain.sidewalk

    def scatter(draw: Paint, per_100m: float, low: float, high: float) -> list[Thing]:
        count = generator.poisson(per_100m * length / 100)
        side = generator.choice((-1, 1), count)
        x = side * generator.uniform(low, high, count)
        return [
            Thing(draw, float(x[i]), float(generator.uniform(3, length)), int(generator.integers(1 << 30)))
            for i in range(count)
        ]

    def line_up(draw: Paint, share: float, x: float, shortest: float, longest: float) -> list[Thing]:
        things, z = [], -generator.uniform(0, longest)
        while z < length:
            extent = generator.uniform(shortest, longest)
            if generator.random() < share:
                things.append(Thing(draw, x, float(z), int(generator.integers(1 << 30)), float(extent)))
            z += extent
        return things

    houses = [thing for side in (-1, 1) for thing in line_up(_house, many.houses, side * (edge + 2.0), 8, 16)]
    fences = [thing for side in (-1, 1) for thing in line_up(_fence, many.fences, side * (edge + 0.1), 5, 12)]
    foreground = (
        scatter(_tree, many.street_trees, edge - 0.8, edge - 0.3)
        + scatter(_pole, many.poles, domain.road_half + 0.3, domain.road_half + 0.6)
        + scatter(_sign, many.signs, domain.road_half + 0.4, domain.road_half + 1.2)
        + scatter(_person, 0.8 * many.persons, domain.road_half + 0.5, edge - 0.4)
        + scatter(_person, 0.2 * many.persons, 0.5, domain.road_half)
        + scatter(_car, 0.6 * many.cars, domain.road_half - 1.1, domain.road_half - 0.9)
        + scatter(_car, 0.4 * many.cars, 1.2, 2.0)
        + scatter(_bicycle, many.bicycles, domain.road_half - 0.6, edge - 0.6)
        + scatter(_bin, many.bins, edge - 0.7, edge - 0.4)
    )
    return Street(
        domain,
        houses + scatter(_tree, many.trees, edge + 1.0, edge + 6.0),
        fences,
        foreground,
        camera_x=float(generator.uniform(-0.6, 1.4)),
        tilt=float(generator.normal(0, 0.02)),
        sky=domain.skies[generator.integers(len(domain.skies))],
        light=np.array(domain.light) * generator.uniform(0.82, 1.12) * generator.uniform(0.96, 1.04, 3),
        seed=int(generator.integers(1 << 30)),
    )


def _box(x: float, bottom: float, top: float) -> np.ndarray:
    """Outline of a rectangle of half width x."""
    return np.array([(-x, bottom), (-x, top), (x, top), (x, bottom)])


def _house(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    generator = np.random.default_rng(thing.seed)
    height, storey, wall = (
        generator.uniform(6, 15),
        generator.uniform(2.7, 3.4),
        pick(domain.walls, generator),
    )
    rows, columns = int(height * _TEXELS), int(thing.length * _TEXELS)
    texture = np.array(wall, np.float32) + 16 * grain()[:rows, :columns, None]
    texture[:: _TEXELS // 2] *= 0.93
    pitch = generator.uniform(1.9, 3.0)
    wide, tall = (int(side * _TEXELS) for side in generator.uniform((0.8, 1.3), (1.4, 1.9)))
    for floor in np.arange(0.8, height - 2.2, storey):
        top = int((height - floor) * _TEXELS) - tall
        for place in np.arange(0.6, thing.length - 1.4, pitch):
            left = int(place * _TEXELS)
            texture[top - 1 : top + tall + 2, left - 1 : left + wide + 1] = shade(wall, 0.6)
            window = domain.windows[int(generator.integers(len(domain.windows)))]
            texture[top : top + tall, left : left + wide] = window
    texture[: _TEXELS // 2] *= 0.7  # the eaves
    pixels = texture.clip(0, 255).astype(np.uint8)
    if thing.z > canvas.z + NEAR:  # the end wall, facing the camera
        outer = thing.x + np.sign(thing.x) * 9
        end = [
            (thing.x, 0.0, thing.z),
            (thing.x, height, thing.z),
            (outer, height, thing.z),
            (outer, 0.0, thing.z),
        ]
        canvas.polygon(end, shade(wall, 0.75), BUILDING)
    canvas.wall(thing, height, pixels, BUILDING)


def _fence(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    generator = np.random.default_rng(thing.seed)
    height, color = generator.uniform(0.9, 1.5), pick(domain.fences, generator)
    rows, columns = int(height * 2 * _TEXELS), int(thing.length * 2 * _TEXELS)
    texture = np.empty((rows, columns, 3), np.float32)
    texture[:] = shade(color, 0.45)
    texture[:, np.arange(columns) % 6 < 3] = color
    texture[[2, 3, rows // 2, rows // 2 + 1]] = shade(color, 0.85)
    canvas.wall(thing, height, texture.astype(np.uint8), FENCE)


def _tree(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    generator = np.random.default_rng(thing.seed)
    radius, trunk = generator.uniform(1.0, 2.0), generator.uniform(2.0, 3.5)
    canvas.shadow(thing.x, thing.z, 1.6 * radius, 1.6 * radius)
    canvas.flat(
        _box(0.14, 0, trunk + radius), thing, shade((96, 74, 54), generator.uniform(0.7, 1.1)), VEGETATION
    )
    color = pick(domain.leaves, generator)
    boughs = 22
    angle, reach = generator.uniform(0, 2 * np.pi, boughs), radius * np.sqrt(generator.random(boughs))
    x, y = reach * np.cos(angle), reach * np.sin(angle)
    light = 0.8 + 0.3 * y / radius + generator.uniform(-0.15, 0.15, boughs)
    thick = generator.uniform(0.25, 0.5, boughs) * radius
    for bough in range(boughs if thing.z - canvas.z < 30 else 10):  # far ones need fewer
        outline = disc(x[bough], trunk + radius + y[bough], thick[bough], 9)
        canvas.flat(outline, thing, shade(color, light[bough]), VEGETATION)


def _pole(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    generator = np.random.default_rng(thing.seed)
    height, half, color = (
        generator.uniform(4.5, 7),
        generator.uniform(0.1, 0.16),
        pick(domain.poles, generator),
    )
    canvas.flat(_box(half, 0, height), thing, color, POLE)
    canvas.flat(_box(1.6 * half, 0, 0.9), thing, shade(color, 0.8), POLE)
    if domain.lamp_arms:
        reach = -float(np.sign(thing.x))
        arm = np.array([(0, height), (0, height - 0.15), (reach, height), (reach, height + 0.15)])
        canvas.flat(arm, thing, color, POLE)
        lamp = np.array(
            [
                (reach * 0.8, height),
                (reach * 1.5, height),
                (reach * 1.5, height + 0.2),
                (reach * 0.8, height + 0.2),
            ]
        )
        canvas.flat(lamp, thing, (255, 232, 170), POLE)


def _sign(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    generator = np.random.default_rng(thing.seed)
    height, radius, color = (
        generator.uniform(2.1, 2.8),
        generator.uniform(0.42, 0.62),
        pick(domain.signs, generator),
    )
    canvas.flat(_box(0.05, 0, height), thing, pick(domain.poles, generator), POLE)
    corners = int(generator.choice((3, 4, 16)))
    canvas.flat(disc(0, height + radius, radius, corners), thing, color, SIGN)
    canvas.flat(disc(0, height + radius, 0.62 * radius, corners), thing, (225, 225, 220), SIGN)
    canvas.flat(_box(0.1 * radius, height + 0.7 * radius, height + 1.3 * radius), thing, (30, 30, 30), SIGN)


def _person(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    generator = np.random.default_rng(thing.seed)
    tall = generator.uniform(1.5, 1.9)
    coat, trousers = pick(domain.clothes, generator), shade(pick(domain.clothes, generator), 0.6)
    skin = shade((226, 180, 150), generator.uniform(0.5, 1.05))
    stride = generator.uniform(0.06, 0.2)
    canvas.shadow(thing.x, thing.z, 0.9, 0.6)
    for side in (-1, 1):
        foot = side * stride
        leg = np.array(
            [
                (foot - 0.09, 0),
                (foot + 0.09, 0),
                (0.04 + 0.1 * side, 0.5 * tall),
                (-0.1 + 0.06 * side, 0.5 * tall),
            ]
        )
        canvas.flat(leg, thing, trousers, PERSON)
    body = np.array([(-0.17, 0.46), (-0.27, 0.7), (-0.2, 0.84), (0.2, 0.84), (0.27, 0.7), (0.17, 0.46)]) * (
        1,
        tall,
    )
    canvas.flat(body, thing, coat, PERSON)
    canvas.flat(disc(0, 0.92 * tall, 0.13), thing, skin, PERSON)
    canvas.flat(disc(0, 0.955 * tall, 0.1), thing, (50, 38, 30), PERSON)


def _car(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    """Two boxes, body and cabin, with wheels and lights."""
    generator = np.random.default_rng(thing.seed)
    paint, length, half = (
        pick(domain.paints, generator),
        generator.uniform(3.6, 4.6),
        generator.uniform(0.82, 0.95),
    )
    deck, roof = generator.uniform(0.8, 0.95), generator.uniform(1.4, 1.65)
    canvas.shadow(thing.x, thing.z + length / 2, 2.6 * half, 1.3 * length)
    _cuboid(canvas, thing, half * 0.95, (0.05, 0.3), (0.1, length), (22, 22, 24))
    inner = thing.x - np.sign(thing.x - canvas.x) * half
    for along in (0.8, length - 0.8):
        wheel = [(inner, y, thing.z + along + z) for z, y in disc(0, 0.32, 0.33).tolist()]
        canvas.polygon(wheel, (20, 20, 22), CAR)
    _cuboid(canvas, thing, half, (0.28, deck), (0, length), paint)
    _cuboid(canvas, thing, half * 0.92, (deck, roof), (0.35, length - 1.1), (52, 60, 70), top=0.78)
    _cuboid(canvas, thing, half * 0.72, (roof - 0.09, roof), (0.5, length - 1.3), paint)
    for side in (-1, 1):
        light = _box(0.14, deck - 0.24, deck - 0.1) + np.array((side * (half - 0.18), 0))
        canvas.flat(light, thing, (215, 30, 25), CAR)
    canvas.flat(_box(0.26, 0.42, 0.54), thing, (225, 225, 215), CAR)


def _cuboid(
    canvas: Canvas,
    thing: Thing,
    half: float,
    y: tuple[float, float],
    z: tuple[float, float],
    color: Color,
    top: float = 1.0,
) -> None:
    """The three faces of a box that the camera sees.

    half: half its width; top: the share of it that is left on top.  y and z: from and to, z from the thing's
    own.
    """
    (low, high), (near, far) = y, (thing.z + z[0], thing.z + z[1])
    near_top, far_top = near + 0.6 * half * (1 - top), far - 3 * half * (1 - top)
    inner = -np.sign(thing.x - canvas.x) * half
    left, right = thing.x - half, thing.x + half
    left_top, right_top = thing.x - half * top, thing.x + half * top
    side, side_top = thing.x + inner, thing.x + inner * top
    flank = [(side, low, near), (side_top, high, near_top), (side_top, high, far_top), (side, low, far)]
    lid = [
        (left_top, high, near_top),
        (right_top, high, near_top),
        (right_top, high, far_top),
        (left_top, high, far_top),
    ]
    back = [(left, low, near), (left_top, high, near_top), (right_top, high, near_top), (right, low, near)]
    canvas.polygon(flank, shade(color, 0.8), CAR)
    canvas.polygon(lid, shade(color, 1.15), CAR)
    canvas.polygon(back, color, CAR)


def _bicycle(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    generator = np.random.default_rng(thing.seed)
    color, radius = pick(domain.signs + domain.paints, generator), generator.uniform(0.32, 0.38)
    canvas.shadow(thing.x, thing.z, 1.6, 0.4)
    for side in (-1, 1):
        canvas.flat(disc(side * 0.52, radius, radius), thing, (28, 28, 30), BICYCLE)
        canvas.flat(disc(side * 0.52, radius, 0.72 * radius), thing, (120, 122, 124), BICYCLE)
    for (x0, y0), (x1, y1) in (
        ((-0.52, radius), (-0.2, 0.85)),
        ((-0.52, radius), (0.05, 0.32)),
        ((0.05, 0.32), (-0.2, 0.85)),
        ((0.05, 0.32), (0.42, 0.9)),
        ((-0.2, 0.8), (0.42, 0.85)),
        ((0.52, radius), (0.4, 1.02)),
        ((-0.34, 0.92), (-0.06, 0.92)),
        ((0.24, 1.02), (0.44, 1.02)),
    ):
        along = np.array((x1 - x0, y1 - y0))
        side = 0.035 * np.array((-along[1], along[0])) / np.hypot(*along)
        start, stop = np.array((x0, y0)), np.array((x1, y1))
        canvas.flat(np.array([start - side, start + side, stop + side, stop - side]), thing, color, BICYCLE)


def _bin(canvas: Canvas, thing: Thing, domain: Domain) -> None:
    """Litter bins belong to no class: their pixels are ignored."""
    generator = np.random.default_rng(thing.seed)
    canvas.flat(_box(0.28, 0, 0.95), thing, pick(domain.fences, generator), IGNORE)
    canvas.flat(_box(0.31, 0.9, 1.02), thing, (40, 42, 44), IGNORE)
