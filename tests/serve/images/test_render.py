"""Labels drawn: colours, overlays, shares and legends."""

import numpy as np
import pytest
from serve_graphs import card

from serve.images.render import Entry, Painter, below, every_class, legend, present, shares


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_and_overlay_follow_the_palette(dtype: type) -> None:
    palette = [(int(i), int(255 - i), int(i * 7 % 256)) for i in range(256)]
    labels = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(dtype)
    expected = np.asarray(palette, np.uint8)[labels]
    painter = Painter(palette)
    np.testing.assert_array_equal(painter.colors(labels), expected)
    picture = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    np.testing.assert_array_equal(painter.overlay(picture, labels, 0), picture)
    np.testing.assert_array_equal(painter.overlay(picture, labels, 1), expected)
    blended = painter.overlay(picture, labels, 0.25)
    assert np.abs(blended - (0.75 * picture + 0.25 * expected)).max() <= 1


def test_palette_above_256_classes() -> None:
    palette = [(i % 256, i // 256, 9) for i in range(300)]
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    np.testing.assert_array_equal(Painter(palette).colors(labels), np.asarray(palette, np.uint8)[labels])


def test_shares_and_entries_count_pixels() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[:3] = 2
    np.testing.assert_allclose(shares(labels, 3), [0.7, 0, 0.3])
    assert [(e.name, e.share) for e in present(card(), labels)] == [("red", 0.7), ("blue", 0.3)]
    assert [e.text for e in every_class(card())] == ["red", "green", "blue"]
    assert Entry("pole", (1, 2, 3), 0.004).text.split() == ["pole", "<1%"]


@pytest.mark.parametrize("size", [(16, 16), (72, 97), (480, 640), (2160, 3840)])
def test_legend_shows_every_entry_below_the_untouched_picture(size: tuple[int, int]) -> None:
    entries = [Entry(f"class {i}", (200, 10 * i, 255 - 10 * i), 0.05) for i in range(19)]
    picture = np.random.default_rng(0).integers(0, 100, (*size, 3), np.uint8)
    strip = legend(entries, *size)
    whole = below(picture, strip)
    np.testing.assert_array_equal(whole[: size[0], : size[1]], picture)
    for entry in entries:  # a swatch of at least 9 x 9 pixels, and light text on the same lines
        ys, xs = np.nonzero((strip == entry.color).all(2))
        assert len(ys) >= 81 and np.ptp(xs) < size[1]
        right = strip[ys.min() : ys.max() + 1, xs.max() + 2 :]
        assert (right.min(2) > 120).sum() >= 5
