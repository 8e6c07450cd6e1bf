"""The pictures are files a person can open; what they show is prepared right."""

from pathlib import Path

import cv2
import numpy as np
import oracle
import pytest
import torch

from adapt.balance.histogram import logit_histogram
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from adapt.data.classes import IGNORE, ClassList, paint
from adapt.data.known_classes import CAMVID11
from adapt.reporting import figures
from adapt.reporting import pictures as report
from adapt.reporting.pictures import Example, class_counts, class_densities, present_classes

CLASSES = ClassList(
    names=("sky", "road", "bus"), ids=(0, 1, 2), palette=((0, 90, 255), (128, 64, 128), (200, 0, 0))
)
FLOAT32 = 1e-5  # mixtures are stored as float32


@pytest.fixture
def case() -> tuple[oracle.Mixture, oracle.Mixture, ShiftStatistics]:
    rows, anchors, seen = oracle.random_statistics(np.random.default_rng(0), 3)
    seen[2] = False
    tensors = [Mixture(*(torch.from_numpy(part).float() for part in m)) for m in (rows, anchors)]
    return rows, anchors, ShiftStatistics(tensors[0], tensors[1], torch.from_numpy(seen))


@pytest.fixture
def example() -> Example:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, size=(3, 30, 40), dtype=np.uint8)
    labels[2, :5] = IGNORE
    return Example(rng.integers(0, 256, size=(30, 40, 3), dtype=np.uint8), *labels)


def open_png(path: Path) -> np.ndarray:
    assert path.read_bytes().startswith(b"\x89PNG")
    picture = cv2.imread(str(path))
    assert picture is not None and picture.std() > 1, "not a blank page"
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no temporary file is left"
    return picture


def test_densities_are_the_mixtures(case):
    rows, anchors, statistics = case
    shown = class_densities(statistics, points=50)
    assert shown.positive[0] == pytest.approx(oracle.pdf(oracle.at(rows, 0, 0), shown.z), abs=FLOAT32)
    assert np.isnan(shown.positive[2]).all(), "class 2 was never seen"
    assert shown.negative[0] == pytest.approx(oracle.pdf(oracle.at(rows, 1, 0), shown.z), abs=FLOAT32)
    both = [oracle.pdf(oracle.at(rows, c, 2), shown.z) for c in (0, 1)]
    assert shown.negative[2] == pytest.approx(np.mean(both, axis=0), abs=FLOAT32)
    for kind in (0, 1):
        expected = oracle.pdf(oracle.at(anchors, kind), shown.z)
        assert shown.anchors[kind] == pytest.approx(expected, abs=FLOAT32)


def test_axis_reaches_over_all_that_was_seen(case):
    rows, anchors, statistics = case
    z = class_densities(statistics).z
    mixtures = [oracle.at(rows, c, l) for c in (0, 1) for l in range(3)]
    mixtures += [oracle.at(anchors, kind) for kind in (0, 1)]
    for mixture in mixtures:
        assert oracle.cdf(mixture, z[0]) < 0.0021 and oracle.cdf(mixture, z[-1]) > 0.9979


def test_counts_are_scaled_to_densities_and_rows_count_alike():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.choice([0, 1, 2], p=[0.9, 0.09, 0.01], size=(1, 100, 100)))
    logits = torch.from_numpy(rng.normal(size=(1, 3, 100, 100))).float() + 5 * labels.unsqueeze(1)
    shown = class_counts(logit_histogram(logits, labels), torch.tensor([True, True, True]))
    width = shown.z[1] - shown.z[0]
    assert shown.positive.sum(axis=1) * width == pytest.approx([1, 1, 1])
    assert shown.negative.sum(axis=1) * width == pytest.approx([1, 1, 1])
    below = shown.negative[0, shown.z < 7.5].sum() * width
    assert below == pytest.approx(0.5, abs=0.05), "class 1 counts as much as the rarer class 2"


def test_paint_uses_the_palette_and_leaves_the_rest_black():
    painted = paint(np.array([[0, 2], [1, IGNORE]], np.uint8), CLASSES)
    assert painted.tolist() == [[[0, 90, 255], [200, 0, 0]], [[128, 64, 128], [0, 0, 0]]]


def test_legend_lists_the_classes_that_occur(example):
    assert present_classes([example], 3) == [0, 1]
    other = example._replace(truth=np.full((30, 40), 2, np.uint8))
    assert present_classes([example._replace(truth=None), other], 3) == [0, 1, 2]


def test_bias_picture(tmp_path):
    bias = np.linspace(-0.1, 0.1, 11)
    columns = {"with labels": bias, "label-free": 0.5 * bias, "corrected": 0 * bias}
    report.draw_bias(CAMVID11, columns, tmp_path / "bias.png")
    height, width, _ = open_png(tmp_path / "bias.png").shape
    assert 600 < height < 2000 and 800 < width < 2000


def test_bias_picture_of_no_bias_at_all(tmp_path):
    report.draw_bias(CLASSES, {"corrected": np.zeros(3)}, tmp_path / "bias.png")
    assert np.ptp(open_png(tmp_path / "bias.png")) > 100  # names and axes are there, on white


@pytest.mark.parametrize("counted", [False, True])
def test_distribution_picture(case, tmp_path, counted):
    _, _, statistics = case
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (1, 20, 20), generator=generator)
    logits = torch.randn(1, 3, 20, 20, generator=generator)
    histogram = logit_histogram(logits, labels) if counted else None
    report.draw_distributions(CLASSES, statistics, tmp_path / "logits.png", histogram)
    height, width, _ = open_png(tmp_path / "logits.png").shape
    assert 200 < height < 1000 and 800 < width < 2000


def test_distribution_picture_before_anything_was_seen(case, tmp_path):
    _, _, statistics = case
    nothing = ShiftStatistics(statistics.rows, statistics.anchors, torch.zeros(3, dtype=torch.bool))
    report.draw_distributions(CLASSES, nothing, tmp_path / "logits.png")
    assert np.ptp(open_png(tmp_path / "logits.png")) > 100  # the anchors are there, on white


@pytest.mark.parametrize("with_truth", [False, True])
def test_before_and_after_picture(example, tmp_path, with_truth):
    wide = Example(*(np.repeat(part, 2, axis=1) for part in example))  # sizes may differ
    shown = [example if with_truth else example._replace(truth=None), wide._replace(truth=None)]
    report.draw_examples(CLASSES, shown, tmp_path / "examples.png", "corrected (tau 0.2)")
    height, width, _ = open_png(tmp_path / "examples.png").shape
    assert width > height
    columns = 4 if with_truth else 3
    assert width == pytest.approx(columns * 2.9 * figures.DPI, abs=2)


def test_a_failed_picture_leaves_the_old_one(example, tmp_path, monkeypatch):
    path = tmp_path / "examples.png"
    path.write_bytes(b"old")

    def full(partial: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        report.draw_examples(CLASSES, [example], path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["examples.png"]
