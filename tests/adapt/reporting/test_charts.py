"""Charts: points where they belong, round numbers on the axes, nothing that is not SVG."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.reporting.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    line_chart,
    ticks,
)


def points(chart: str) -> list[tuple[float, float]]:
    (path,) = re.findall(r'class="line s0" d="([^"]*)"', chart)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)]


def test_points_are_where_their_values_are() -> None:
    found = points(line_chart([Line("a", [0, 5, 10], [0, 1, 2])], "a over b"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    assert found[0] == (LEFT, HEIGHT - BOTTOM) and found[2] == (WIDTH - RIGHT, TOP)
    assert found[1] == pytest.approx((middle, (HEIGHT - BOTTOM + TOP) / 2), abs=0.06)


def test_nothing_leaves_the_chart_whatever_is_drawn() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1.0, 1e7):
        y = scale * rng.normal(size=1000)
        found = points(line_chart([Line("a", np.arange(1000), y)], "a", zero=False))
        assert len(found) == MOST_POINTS
        assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in found)


def test_peaks_can_be_cut_off() -> None:
    found = points(line_chart([Line("a", [0, 1, 2], [1.0, 80.0, 2.0])], "a", highest=4))
    assert found[1][1] == TOP and found[0][1] == pytest.approx(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) / 4)


def test_a_gap_breaks_the_line() -> None:
    chart = line_chart([Line("a", [0, 1, 2, 3], [1, np.nan, 2, 2])], "a")
    (path,) = re.findall(r'class="line s0" d="([^"]*)"', chart)
    assert path.count("M") == 2 and path.count("L") == 1


@pytest.mark.parametrize("values", [[3.0], [0.0], [2.0, 2.0, 2.0], [-1.0, -1.0]])
def test_a_constant_is_drawn_too(values: list[float]) -> None:
    assert len(points(line_chart([Line("a", range(len(values)), values)], "a"))) == len(values)


def test_a_chart_is_xml_with_a_name_for_those_who_cannot_see() -> None:
    line = Line("a < b & c", [0, 1], [0, 1], color=2, dashed=True, strength=0.5)
    chart = ElementTree.fromstring(line_chart([line], 'what "is" <shown>'))
    assert chart.attrib["role"] == "img" and chart.attrib["aria-label"] == 'what "is" <shown>'
    (path,) = (part for part in chart.iter("path") if "line" in part.attrib["class"])
    assert path.attrib["class"] == "line s2" and path.attrib["opacity"] == "0.50"
    assert path.find("title").text == "a < b & c"  # type: ignore[union-attr]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_ticks_are_few_round_and_inside(low: float, size: float, zero: bool) -> None:
    values = np.array([low, low + size])
    found = ticks(values, zero=zero)
    assert 2 <= len(found) <= 12
    low, high = (min(low, 0), max(low + size, 0)) if zero else (low, low + size)
    assert low - 1e-6 * size <= found[0] and found[-1] <= high + 1e-6 * (high - low)
    step = found[1] - found[0]
    digits = step / 10 ** np.floor(np.log10(step) + 1e-9)
    assert min(abs(digits - d) for d in (1, 2, 5)) < 1e-3


def test_a_chart_without_a_scale_uses_the_whole_width() -> None:
    chart = line_chart([Line("a", [0, 1], [0, 1])], "a", scale=False, height=100)
    assert points(chart)[0][0] == RIGHT and 'viewBox="0 0 320 100"' in chart
