"""Confusion matrix, scores, prediction and their table."""

import json

import numpy as np
import oracle
import oracle_scores
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adapt.balance.correction import posthoc_scores, shift_table
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from adapt.data.classes import IGNORE
from adapt.errors import InputError
from adapt.evaluation.prediction import confusions, evaluate, predict
from adapt.evaluation.scores import Scores, confusion_matrix, format_scores
from adapt.model.window import Window

EXACT = 1e-12  # float64 ratios of integers
seeds = st.integers(0, 2**32 - 1)


class Painter(nn.Module):
    """A stand-in with the segmenter's interface: logits are a fixed linear map of the averaged colours."""

    output_stride = 4
    stride = 16

    def __init__(self, classes: int) -> None:
        super().__init__()
        weights = torch.randn(classes, 3, generator=torch.Generator().manual_seed(0))
        self.mix = nn.Parameter(6 * weights)
        self.calls = 0
        self.modes: list[bool] = []

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return images - 0.5

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        cells = nn.functional.avg_pool2d(pixels, self.output_stride)
        return torch.einsum("cr,nrhw->nchw", self.mix, cells)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.modes.append(self.training)
        height, width = images.shape[1:3]
        pixels = self.normalise(images.permute(0, 3, 1, 2).float() / 255)
        return self(nn.functional.pad(pixels, (0, -width % self.stride, 0, -height % self.stride)))


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)


@pytest.fixture
def table():
    rows, anchors, seen = oracle.random_statistics(np.random.default_rng(2), 5)
    tensors = [Mixture(*(torch.from_numpy(part).float() for part in m)) for m in (rows, anchors)]
    return shift_table(ShiftStatistics(tensors[0], tensors[1], torch.from_numpy(seen)))


@given(seeds, st.integers(2, 9))
@settings(deadline=None)
def test_confusion_matrix_counts_every_pixel_that_counts(seed, classes):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, size=(9, 7)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.3] = IGNORE
    predicted = rng.integers(0, classes, size=(9, 7)).astype(np.uint8)
    expected = np.zeros((classes, classes), int)
    for truth, guess in zip(labels.flat, predicted.flat, strict=True):
        if truth != IGNORE:
            expected[truth, guess] += 1
    assert (confusion_matrix(labels, predicted, classes) == expected).all()


def test_confusion_matrix_refuses_what_it_cannot_count():
    with pytest.raises(ValueError, match="shape"):
        confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(ValueError, match="outside"):
        confusion_matrix(np.array([0, 1]), np.array([0, 2]), 2)
    with pytest.raises(ValueError, match="outside"):
        confusion_matrix(np.array([0, 2]), np.array([0, 1]), 2)


@given(seeds, st.integers(2, 9), st.floats(0, 0.9))
@settings(deadline=None)
def test_scores_match_the_oracle(seed, classes, absent):
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 500, size=(classes, classes))
    confusion[1:][rng.random(classes - 1) < absent] = 0
    confusion[0, 0] += 1
    scores = Scores.from_confusion(confusion)
    iou, accuracy, bias = (
        oracle_scores.iou(confusion),
        oracle_scores.accuracy(confusion),
        oracle_scores.bias(confusion),
    )
    assert scores.iou == pytest.approx(iou, abs=EXACT, nan_ok=True)
    assert scores.accuracy == pytest.approx(accuracy, abs=EXACT, nan_ok=True)
    assert scores.bias == pytest.approx(bias, abs=EXACT)
    present = confusion.sum(axis=1) > 0
    assert scores.mean_iou == pytest.approx(iou[present].mean(), abs=EXACT)
    assert scores.mean_accuracy == pytest.approx(accuracy[present].mean(), abs=EXACT)
    assert scores.std_iou == pytest.approx(iou[present].std(), abs=EXACT)
    assert scores.sum_abs_bias == pytest.approx(np.abs(bias).sum(), abs=EXACT)
    assert scores.pixel_accuracy == pytest.approx(np.trace(confusion) / confusion.sum(), abs=EXACT)


def test_scores_of_no_labels_are_refused():
    with pytest.raises(InputError, match="No pixel"):
        Scores.from_confusion(np.zeros((3, 3), int))


def test_scores_survive_json():
    scores = Scores.from_confusion(np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]]))
    content = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert content["iou"] == [0.75, 0.4, None]
    assert content["pixel_accuracy"] == 5 / 8
    assert set(content) == set(Scores.__dataclass_fields__) - {"confusion"}


def test_zero_strength_is_the_argmax_of_upsampled_logits(picture, table):
    painter = Painter(5)
    logits = painter.logits(torch.from_numpy(picture)[None])
    up = nn.functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
    expected = up.argmax(1)[0, :50, :70].numpy()
    assert (predict(painter, picture) == expected).all()
    assert (predict(painter, picture, table, tau=0.0) == expected).all()


def test_correction_comes_before_the_upsampling(picture, table):
    painter = Painter(5)
    logits = painter.logits(torch.from_numpy(picture)[None])
    scores = posthoc_scores(logits, table, 0.8)
    up = nn.functional.interpolate(scores, scale_factor=4, mode="bilinear", align_corners=False)
    labels = predict(painter, picture, table, tau=0.8)
    assert labels.dtype == np.uint8 and labels.shape == (50, 70)
    assert (labels == up.argmax(1)[0, :50, :70].numpy()).all()
    assert (labels != predict(painter, picture)).any()


def test_strength_needs_a_table(picture):
    with pytest.raises(ValueError, match="table"):
        predict(Painter(5), picture, None, tau=0.2)


def test_evaluate_agrees_with_predict_and_runs_the_network_once_a_picture(picture, table):
    painter = Painter(5).train()
    rng = np.random.default_rng(1)
    pictures = [picture, picture[:33, ::-1].copy(), picture[::-1].copy()]
    data = [(image, rng.integers(0, 4, size=image.shape[:2], dtype=np.uint8)) for image in pictures]
    data[0][1][:10] = IGNORE
    result = evaluate(painter, data, 5, table, taus=(0.0, 0.5), progress=False)
    assert painter.calls == len(data) and painter.modes == [False] * 3 and painter.training
    assert list(result) == [0.0, 0.5]
    for tau, scores in result.items():
        confusion = sum(confusion_matrix(t, predict(painter, i, table, tau), 5) for i, t in data)
        assert scores.to_dict() == Scores.from_confusion(confusion).to_dict()
        assert (scores.confusion == confusion).all()
        assert np.isnan(scores.iou[4]) and scores.bias[4] > 0, "class 4 is never true but predicted"


def test_pictures_are_counted_one_by_one(picture, table):
    rng = np.random.default_rng(1)
    data = [(p, rng.integers(0, 5, size=p.shape[:2], dtype=np.uint8)) for p in (picture, picture[:20])]
    found = list(confusions(Painter(5), data, 5, table, taus=(0.0, 0.5), progress=False))
    for (image, truth), by_tau in zip(data, found, strict=True):
        for tau, confusion in by_tau.items():
            assert (confusion == confusion_matrix(truth, predict(Painter(5), image, table, tau), 5)).all()


def test_windows_give_the_scores_of_the_whole_picture_to_a_network_without_a_view(picture, table):
    truth = np.random.default_rng(1).integers(0, 5, size=picture.shape[:2], dtype=np.uint8)
    whole, cut = (
        evaluate(Painter(5), [(picture, truth)], 5, table, (0.0, 0.5), window=window, progress=False)
        for window in (None, Window((32, 32), 0.5))
    )
    for tau in whole:
        moved = np.abs(whole[tau].confusion - cut[tau].confusion).sum() / 2
        assert moved <= 2, "but for near-ties: a mean of equal float32 numbers differs in the last bit"


def test_correction_comes_after_the_mean_over_windows(table):
    """A network that says other things in another window: the labels are those of the corrected mean."""

    class Moody(Painter):
        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return super().__call__(pixels) + self.calls * torch.arange(5.0).view(5, 1, 1)

    image = np.full((32, 48, 3), 90, np.uint8)
    said = Moody(5)
    first = said(said.normalise(torch.full((1, 3, 32, 32), 90 / 255)))[0, :, 0, 0]
    second = first + torch.arange(5.0)
    mean = torch.where(torch.arange(12).view(1, 12) < 4, first.view(5, 1), second.view(5, 1))
    mean = torch.where((torch.arange(12) // 4 == 1).view(1, 12), 0.5 * (first + second).view(5, 1), mean)
    logits = mean.view(1, 5, 1, 12).expand(1, 5, 8, 12)
    up = nn.functional.interpolate(
        posthoc_scores(logits, table, 0.8), scale_factor=4, mode="bilinear", align_corners=False
    )
    labels = predict(Moody(5), image, table, 0.8, Window((32, 32), 0.5))
    assert (labels == up.argmax(1)[0].numpy()).all()


def test_table_shows_every_class_and_column():
    before = Scores.from_confusion(np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]]))
    after = Scores.from_confusion(np.array([[4, 0, 0], [0, 3, 1], [0, 0, 0]]))
    lines = format_scores(["road", "a rather long name", "bus"], {"plain": before, "0.2": after}).splitlines()
    assert len({len(line) for line in lines[:7]}) == 1, "columns are aligned"
    cells = {line[:18].strip(): line[18:].split() for line in lines}
    assert cells["road"] == ["75.0", "100.0", "75.0", "100.0"]
    assert cells["a rather long name"] == ["40.0", "75.0", "50.0", "75.0"]
    assert cells["bus"] == ["-", "-", "-", "-"]
    assert cells["mIoU"] == ["57.5", "87.5"] and cells["mAcc"] == ["62.5", "87.5"]
    assert cells["pixel accuracy"] == ["62.5", "87.5"]
    assert cells["std of IoU"] == ["17.5", "12.5"]
    assert cells["sum |Bias|"] == ["0.500", "0.250"]


def test_resized_pictures_are_judged_at_the_size_of_their_files(tmp_path) -> None:
    """As Cityscapes is: the network sees 1024x512, the prediction is compared at 2048x1024."""
    import cv2

    from adapt.data.classes import ClassList
    from adapt.data.datasets import LabelledFolder
    from adapt.data.images import resize_image, resize_labels

    rng = np.random.default_rng(5)
    classes = ClassList(("a", "b", "c"), (0, 1, 2), ((1, 0, 0), (0, 1, 0), (0, 0, 1)), ())
    blocks = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8).repeat(11, 0).repeat(11, 1)
    labels = rng.integers(0, 3, blocks.shape[:2], dtype=np.uint8)
    for name, array in (("images", blocks[..., ::-1]), ("labels", labels)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "x.png"), np.ascontiguousarray(array))
    painter, size = Painter(3), (32, 48)
    full = LabelledFolder(tmp_path, classes, size, keep_labels=True)
    assert (full[0].image.shape[:2], full[0].labels.shape) == (size, (66, 99))
    (got,) = (counted[0.0] for counted in confusions(painter, full, 3, progress=False))

    image = torch.from_numpy(resize_image(blocks, size)).unsqueeze(0)
    scores = nn.functional.interpolate(painter.logits(image), scale_factor=4.0, mode="bilinear")[
        :, :, :32, :48
    ]
    guess = nn.functional.interpolate(scores, size=(66, 99), mode="bilinear").argmax(1)[0].numpy()
    assert np.array_equal(got, confusion_matrix(labels, guess, 3))

    small = LabelledFolder(tmp_path, classes, size)
    assert np.array_equal(small[0].labels, resize_labels(labels, size))
    assert int(got.sum()) == 66 * 99
