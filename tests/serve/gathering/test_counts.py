"""Counting: against its slow twin, and what must not change it."""

import gathered_oracle
import numpy as np
import pytest
from gathered_files import subject

from serve.gathering.counts import LEVELS, PIXELS, Counts, add, windows
from serve.gathering.rule import BINS, Rule


def some(C: int, P: int, seed: int = 0, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale, (C, 1, P)).astype(np.float32), rng.integers(0, C, (1, P))


@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_counts_are_those_of_the_oracle(offset: float) -> None:
    rule = Rule(-4.0, 1 / 32, (0.0, 0.0, offset, 0.0, 0.0))
    logits, labels = some(5, 400)
    logits[2, 0, 7], logits[0, 0, 8] = np.nan, np.inf
    counts = Counts.none(5)
    outside = add(counts, rule, logits, labels)
    expected, beyond = gathered_oracle.counted(
        logits[:, 0], labels[0], rule.low, rule.step, rule.offset, BINS, LEVELS
    )
    assert outside == beyond > 100
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(counts, name), values, err_msg=name)
    assert counts.pixels.sum() == counts.plain.sum() == counts.confidence.sum() == 398
    np.testing.assert_array_equal(counts.positive[3], expected["joint"][3, 3])


def test_counts_add_up_in_any_order() -> None:
    rule = subject(4).rule
    whole, parts = Counts.none(4), Counts.none(4)
    pieces = [some(4, 50, seed) for seed in range(5)]
    add(whole, rule, np.concatenate([f for f, _ in pieces], 2), np.concatenate([y for _, y in pieces], 1))
    for logits, labels in reversed(pieces):
        add(parts, rule, logits, labels)
    np.testing.assert_array_equal(whole.values, parts.values)


def test_permuted_classes_permute_the_counts() -> None:
    logits, labels = some(4, 300)
    order = np.array([2, 0, 3, 1])
    back = np.argsort(order)
    one, other = Counts.none(4), Counts.none(4)
    add(one, subject(4).rule, logits, labels)
    add(other, subject(4).rule, logits[order], back[labels])
    np.testing.assert_array_equal(other.joint, one.joint[order][:, order])
    np.testing.assert_array_equal(other.agreed, one.agreed[order])


def test_a_large_frame_gives_some_of_its_pixels_evenly() -> None:
    logits = np.zeros((2, 200, 400), np.float32)
    logits[1, :, 200:] = 1.0
    counts = Counts.none(2)
    add(counts, subject(2).rule, logits, np.zeros((200, 400), np.uint8))
    assert PIXELS / 2 < counts.pixels.sum() <= PIXELS
    assert counts.plain[0] == counts.plain[1] and counts.agreed[1] == 0


def test_nothing_to_count_counts_nothing() -> None:
    counts = Counts.none(3)
    assert add(counts, subject(3).rule, np.full((3, 2, 2), np.nan), np.zeros((2, 2), int)) == 0
    assert not counts.values.any()


def test_labels_are_taken_at_the_centres_of_logit_pixels() -> None:
    picture = np.arange(10 * 11).reshape(10, 11)
    np.testing.assert_array_equal(windows(picture, 4), picture[[2, 6]][:, [2, 6, 10]])
    np.testing.assert_array_equal(windows(picture, 1), picture)
