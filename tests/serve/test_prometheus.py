"""Prometheus' text format: what a scraper reads of it."""

import math

from metrics_text import metrics_of

from serve.prometheus import histogram, metric, text


def test_names_with_any_character_come_back() -> None:
    odd = 'a "b"\\c\nd,e="f"}'
    found = metrics_of(text(metric("gauge", "m", "About it.", [({"class": odd, "of": "x"}, 0.25)])))
    assert found == {("m", (("class", odd), ("of", "x"))): 0.25}


def test_large_counts_are_exact_and_what_is_not_finite_is_left_out() -> None:
    many = 2**53 - 1
    lines = metric("counter", "m_total", "About it.", [({}, many), ({"a": "b"}, math.nan)])
    assert metrics_of(text(lines)) == {("m_total", ()): many}
    assert lines[-1] == f"m_total {many}"
    assert metric("gauge", "m", "About it.", [({}, math.inf)]) == []


def test_bins_of_a_histogram_add_up() -> None:
    found = metrics_of(text(histogram("m", "About it.", [0.1, 1.0], [({"of": "x"}, [2, 0, 3], 7.5)])))
    assert found == {
        ("m_bucket", (("le", "0.1"), ("of", "x"))): 2,
        ("m_bucket", (("le", "1"), ("of", "x"))): 2,
        ("m_bucket", (("le", "+Inf"), ("of", "x"))): 5,
        ("m_sum", (("of", "x"),)): 7.5,
        ("m_count", (("of", "x"),)): 5,
    }
