"""Training pairs and the statistics of finished networks."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch.utils.data import DataLoader
from training_step import small_segmenter

from adapt.augmentation.pairs import TrainingPairs
from adapt.balance.histogram import counted_in_all
from adapt.balance.posthoc import _logits_inside, gather_statistics
from adapt.config.method import Method
from adapt.data.classes import IGNORE, load_classes
from adapt.data.datasets import LabelledFolder, UnlabelledFolder, check_labels
from adapt.training.optimisation import learning_rate_factor


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


def make_pairs(domains: Path, *, temperature: float | None = 0.01, seed: int = 0) -> TrainingPairs:
    source = LabelledFolder(domains / "source", load_classes(domains / "classes.yaml"))
    return TrainingPairs(
        source,
        UnlabelledFolder(domains / "target"),
        check_labels(source).class_pixels,
        crop=(32, 40),
        rare_class_temperature=temperature,
        seed=seed,
    )


def test_a_pair_depends_on_seed_and_index_alone(domains: Path) -> None:
    first, second = make_pairs(domains), make_pairs(domains)
    backwards = {index: second[index] for index in (7, 3, 0)}
    for index in (0, 3, 7):
        for a, b in zip(first[index], backwards[index], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(first[0].source_image, make_pairs(domains, seed=1)[0].source_image)
    assert not torch.equal(first[0].source_image, first[1].source_image)


def test_workers_do_not_change_the_batches(domains: Path) -> None:
    def batches(workers: int) -> list[torch.Tensor]:
        loader = DataLoader(
            make_pairs(domains),
            batch_sampler=[range(i, i + 4) for i in (0, 4, 8)],  # type: ignore[arg-type]
            num_workers=workers,
        )
        return [torch.cat([t.flatten() for t in batch]) for batch in loader]

    for a, b in zip(batches(0), batches(2), strict=True):
        assert torch.equal(a, b)


def test_shapes_and_types(domains: Path) -> None:
    pair = make_pairs(domains)[0]
    assert pair.source_image.shape == pair.target_image.shape == (32, 40, 3)
    assert pair.source_labels.shape == (32, 40)
    assert {tensor.dtype for tensor in pair[:3]} == {torch.uint8}
    assert not pair.target_padding.any()


def test_small_target_pictures_are_padded_and_marked(domains: Path) -> None:
    pairs = make_pairs(domains)
    pairs.crop = (60, 80)  # the pictures are 48 x 64
    padding = pairs[0].target_padding
    assert padding[48:].all() and not padding[:48].all()
    assert int((~padding).sum()) == 48 * 64


def test_rare_class_sampling_shows_the_rare_class_more(domains: Path) -> None:
    def share(temperature: float | None) -> float:
        pairs = make_pairs(domains, temperature=temperature)
        return float(np.mean([(pairs[i].source_labels == 2).float().mean() for i in range(64)]))

    assert share(0.01) > 1.3 * share(None)


def test_source_only_pairs_need_no_target(domains: Path) -> None:
    pairs = make_pairs(domains)
    pairs.target = None
    pair = pairs[0]
    assert torch.equal(pair.target_image, pair.source_image)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    from adapt.config.settings import Training

    training = Training(iterations=100, warmup=10)
    factors = [learning_rate_factor(i, training) for i in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1.0)
    assert max(factors) == pytest.approx(1.0)
    assert factors[100] == 0
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))


# ---- statistics of a finished network --------------------------------------------------------------------


def test_padding_is_not_counted() -> None:
    """A 21 x 30 picture is padded to 24 x 32; decoder pixels whose centre is outside do not count."""
    segmenter = small_segmenter().eval()
    image = torch.randint(0, 256, (1, 21, 30, 3), dtype=torch.uint8)
    logits, inside = _logits_inside(segmenter, image)
    assert logits.shape[2:] == inside.shape[1:] == (6, 8)
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[:5, :7] = True  # centres at 2, 6, 10, 14, 18 < 21 and 2, …, 26 < 30
    assert torch.equal(inside[0], expected)


def test_statistics_are_those_of_the_networks_own_labels(domains: Path) -> None:
    segmenter = small_segmenter().eval()
    target = UnlabelledFolder(domains / "target")
    source = LabelledFolder(domains / "source", load_classes(domains / "classes.yaml"))
    method = Method(min_pixels=1)
    with_source = gather_statistics(segmenter, source, target, method)
    source_free = gather_statistics(segmenter, None, target, method)
    for a, b in zip(with_source.rows, source_free.rows, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(with_source.anchors.means, source_free.anchors.means)

    # 48 x 64 needs no padding: count by hand what the rows must describe
    logits = [segmenter.logits(torch.from_numpy(target[i]).unsqueeze(0)) for i in range(len(target))]
    counts = counted_in_all((f, f.argmax(1)) for f in logits)
    assert counts is not None
    assert torch.equal(source_free.seen, counts.row_pixels > 0)
    # the first moment of a mixture is that of its data, whatever EM found
    means = (counts.counts * counts.centres()).sum(-1) / counts.counts.sum(-1).clamp_min(1)
    fitted = (source_free.rows.weights * source_free.rows.means).sum(-1)
    seen = source_free.seen
    torch.testing.assert_close(fitted[seen], means[seen], atol=1e-3, rtol=1e-3)
    every = torch.cat([f[0].detach().flatten(1) for f in logits], 1)
    for c in seen.nonzero().flatten().tolist():  # of the logits themselves, to a bin
        own = every[:, every.argmax(0) == c].mean(1)
        assert float((fitted[c] - own).abs().max()) < float(counts.bins.step)


def test_ignored_source_pixels_do_not_move_the_anchors(domains: Path, tmp_path: Path) -> None:
    import shutil

    import cv2

    segmenter = small_segmenter().eval()
    target = UnlabelledFolder(domains / "target")
    classes = load_classes(domains / "classes.yaml")
    shutil.copytree(domains / "source", tmp_path / "source")
    for path in (tmp_path / "source" / "labels").iterdir():
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        labels[:, :32] = IGNORE
        cv2.imwrite(str(path), labels)
    before = gather_statistics(segmenter, LabelledFolder(tmp_path / "source", classes), target, Method())
    for path in (tmp_path / "source" / "images").iterdir():
        image = cv2.imread(str(path))
        image[:, :24] = 255  # well inside the ignored half: no decoder pixel that counts sees it
        cv2.imwrite(str(path), image)
    after = gather_statistics(segmenter, LabelledFolder(tmp_path / "source", classes), target, Method())
    for a, b in zip(before.anchors, after.anchors, strict=True):
        assert torch.equal(a, b)
