"""Plain logit adjustment: the shares, the adjusted labels, and that the network runs once for all of it."""

from itertools import pairwise

import evaluation_oracle as oracle
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt.errors import InputError
from adapt.evaluation.baselines import LEAST_PIXELS, STRENGTHS, ShareCount, adjusted, adjustments
from adapt.evaluation.comparison import baselines_of, compare, strengths_of
from adapt.evaluation.prediction import Seen, labels_of_logits
from adapt.evaluation.scores import Scores, confusion_matrix

EXACT = 1e-12  # float64, sums in another order
SINGLE = 1e-5  # float32 logits of size 10 and less, an offset of 30 and less
seeds = st.integers(0, 2**32 - 1)


def some_logits(rng: np.random.Generator, classes: int, size: tuple[int, int], stride: int) -> np.ndarray:
    """[1, C, h, w] with padding at the bottom and right, whose logits would be counted if it were."""
    height, width = (-(-side // 8) * 8 // stride for side in size)
    return rng.normal(0, 3, (1, classes, height, width)).astype(np.float32)


@given(seeds, st.integers(2, 6), st.sampled_from([1, 2, 4]))
@settings(deadline=None, max_examples=25)
def test_shares_are_those_of_the_twin(seed: int, classes: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [(int(rng.integers(5, 17)), int(rng.integers(5, 17))) for _ in range(3)]
    count, pixels = ShareCount(classes), []
    for size in sizes:
        logits = some_logits(rng, classes, size, stride)
        logits[:, -1] -= 40  # a class that is never named
        count.add(torch.from_numpy(logits), stride, size)
        pixels += oracle.pixels_inside(logits[0], stride, *size)
    shares = count.shares()
    assert shares.pictures == 3
    assert shares.labels.tolist() == pytest.approx(oracle.pseudo_label_shares(pixels), abs=EXACT)
    assert float(shares.labels[-1]) == 0
    assert shares.least == pytest.approx(LEAST_PIXELS / (len(pixels) * stride**2), abs=EXACT)
    assert shares.softmax.tolist() == pytest.approx(oracle.mean_softmax(pixels), abs=EXACT)
    assert (shares.softmax > 0).all()


def test_pixels_that_are_no_numbers_do_not_count() -> None:
    logits = torch.tensor([[[[1.0, 5.0, float("nan")]], [[2.0, 1.0, 0.0]]]])
    count = ShareCount(2)
    count.add(logits, 1, (1, 3))
    assert count.shares().labels.tolist() == [0.5, 0.5]
    empty = ShareCount(2)
    empty.add(torch.full((1, 2, 1, 1), float("inf")), 1, (1, 1))
    with pytest.raises(InputError, match="no pixel with finite logits"):
        empty.shares()


@given(seeds, st.integers(2, 6))
@settings(deadline=None, max_examples=25)
def test_adjusted_logits_are_those_of_the_twin(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    logits = some_logits(rng, classes, (40, 52), 4)
    logits[:, -1] -= 9  # of few pixels or none
    count = ShareCount(classes)
    count.add(torch.from_numpy(logits), 4, (40, 52))
    shares = count.shares()
    offsets = adjustments(shares)
    assert [way.strength for way in offsets] == [*STRENGTHS, *STRENGTHS]
    labelled = [round(share * 10 * 13) * 4**2 for share in shares.labels.tolist()]  # pixels of full size
    assert min(labelled) < LEAST_PIXELS < max(labelled)
    for way, offset in offsets.items():
        found = adjusted(torch.from_numpy(logits), offset)[0].numpy()
        given: list[float | None] = shares.by_name[way.by].tolist()
        if way.by == "pseudo-label shares":
            given = [share if n >= LEAST_PIXELS else None for share, n in zip(given, labelled, strict=True)]
        expected = oracle.logit_adjusted(logits[0], given, way.strength)
        assert found == pytest.approx(expected, abs=SINGLE)


def test_a_stronger_adjustment_moves_pixels_to_the_rare_class() -> None:
    """Its share of the labels never falls with t, and at t = 1 it is larger than without."""
    logits = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits[:, 0] += 1.5
    logits[:, 2] -= 0.5
    count = ShareCount(3)
    count.add(logits, 1, (64, 64))
    for by in ("pseudo-label shares", "mean softmax"):
        named = [logits.argmax(1).eq(2).sum()]
        named += [
            adjusted(logits, offset).argmax(1).eq(2).sum()
            for way, offset in adjustments(count.shares()).items()
            if way.by == by
        ]
        assert all(b >= a for a, b in pairwise(named)) and named[-1] > named[0]


def test_all_ways_are_counted_from_the_same_logits() -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for size in ((9, 12), (16, 8), (8, 8)):
        truth = rng.integers(0, 4, size, dtype=np.uint8)
        truth[0] = 255
        pictures.append(Seen(torch.from_numpy(some_logits(rng, 4, size, 4)), 4, size, truth))
    count = ShareCount(4)
    for seen in pictures:
        count.add(seen.logits, 4, seen.size)
    offsets = adjustments(count.shares())
    taken = iter(pictures)  # a second pass would find nothing
    ways = compare(taken, 4, None, (0.0,), offsets)
    assert list(strengths_of(ways)) == [0.0] and list(baselines_of(ways)) == list(offsets)
    for way, counts in ways.items():
        each = []
        for seen in pictures:
            logits = seen.logits if way == 0.0 else adjusted(seen.logits, offsets[way])
            labels = labels_of_logits(logits, 4, seen.size, None, 0.0)
            each.append(confusion_matrix(seen.truth, labels, 4))
        assert (counts.confusion == sum(each)).all()
        assert counts.scores.to_dict() == Scores.from_confusion(np.sum(each, 0)).to_dict()
        for margin, confusion in zip(counts.margins, each, strict=True):
            expected = [confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist()]
            assert margin.tolist() == expected
