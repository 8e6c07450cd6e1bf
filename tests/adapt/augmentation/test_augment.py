"""Augmentation: crops stay inside, mixing keeps to its mask, and the generator alone decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt.augmentation.augment import (
    class_mix,
    colour_jitter,
    crop_with_class,
    gaussian_blur,
    images_with_class,
    pad,
    random_crop,
    random_flip,
    rare_class_probabilities,
    without_labels,
)
from adapt.data.classes import IGNORE
from adapt.data.datasets import Sample


def numbered(height: int, width: int) -> Sample:
    """Every pixel says where it is: image = (row, column, 1), label = column mod 7."""
    rows, columns = np.indices((height, width)).astype(np.uint8)
    return Sample(np.stack((rows, columns, np.ones_like(rows)), axis=2), columns % 7)


def assert_is_a_window(crop: Sample, size: tuple[int, int]) -> None:
    """The crop consists of consecutive rows and columns of a numbered sample, then of padding."""
    assert crop.image.shape == (*size, 3)
    assert crop.labels.shape == size
    real = crop.image[..., 2] == 1
    height, width = int(real[:, 0].sum()), int(real[0].sum())
    assert real[:height, :width].all() and real.sum() == height * width
    top, left = crop.image[0, 0, :2].astype(int)
    rows, columns = np.indices((height, width))
    np.testing.assert_array_equal(crop.image[:height, :width, 0], rows + top)
    np.testing.assert_array_equal(crop.image[:height, :width, 1], columns + left)
    np.testing.assert_array_equal(crop.labels[:height, :width], (columns + left) % 7)
    assert (crop.labels[~real] == IGNORE).all()
    assert (crop.image[~real] == 0).all()


sides = st.integers(1, 40)


@settings(deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 99))
def test_crops_are_windows_of_the_padded_sample(height, width, crop_height, crop_width, seed):
    size = (crop_height, crop_width)
    sample, generator = numbered(height, width), np.random.default_rng(seed)
    assert_is_a_window(random_crop(sample, size, generator, cat_max_ratio=0.75), size)
    assert_is_a_window(crop_with_class(sample, 3, size, 5, generator), size)


def test_every_corner_is_drawn():
    generator = np.random.default_rng(0)
    seen = {
        tuple(random_crop(numbered(3, 4), (2, 2), generator).image[0, 0, :2].tolist()) for _ in range(200)
    }
    assert seen == {(row, column) for row in range(2) for column in range(3)}


def test_padding_is_ignored_and_large_samples_are_left_alone():
    sample = numbered(3, 4)
    padded = pad(sample, (5, 4))
    assert (padded.labels[3:] == IGNORE).all()
    np.testing.assert_array_equal(padded.labels[:3], sample.labels)
    assert pad(sample, (2, 2)) is sample
    assert (pad(without_labels(sample.image), (4, 4)).labels == np.array([[0]] * 3 + [[IGNORE]])).all()


def test_a_dominant_class_is_drawn_again():
    labels = np.zeros((8, 64), np.uint8)
    labels[:, 40:] = 1
    sample = Sample(np.zeros((8, 64, 3), np.uint8), labels)
    generator = np.random.default_rng(0)

    def dominated(cat_max_ratio: float) -> float:
        crops = [random_crop(sample, (8, 32), generator, cat_max_ratio).labels for _ in range(300)]
        return float(np.mean([np.bincount(crop.ravel()).max() / crop.size > 0.75 for crop in crops]))

    plain = dominated(1.0)  # 17 of the 33 windows
    assert plain > 0.4
    assert dominated(0.75) < 0.05


def test_ignored_pixels_do_not_count_as_a_dominant_class():
    labels = np.full((4, 4), IGNORE, np.uint8)
    labels[0] = (0, 0, 1, 1)
    sample = Sample(np.zeros((4, 4, 3), np.uint8), labels)
    generator, untouched = np.random.default_rng(0), np.random.default_rng(0)
    random_crop(sample, (4, 4), generator, cat_max_ratio=0.75)
    random_crop(sample, (4, 4), untouched)
    assert generator.random() == untouched.random()  # accepted at once: no further draw


def test_a_rare_class_is_found():
    labels = np.zeros((60, 90), np.uint8)
    labels[50:54, 80:84] = 5
    sample = Sample(np.zeros((60, 90, 3), np.uint8), labels)
    generator = np.random.default_rng(0)
    for _ in range(50):
        crop = crop_with_class(sample, 5, (16, 16), 12, generator)
        assert crop.labels.shape == (16, 16)
        assert np.count_nonzero(crop.labels == 5) >= 12


def test_too_few_pixels_give_the_best_window_and_an_absent_class_any():
    labels = np.zeros((20, 20), np.uint8)
    labels[3, 3] = 5
    sample = Sample(np.zeros((20, 20, 3), np.uint8), labels)
    generator = np.random.default_rng(0)
    assert (crop_with_class(sample, 5, (4, 4), 100, generator).labels == 5).sum() == 1
    assert crop_with_class(sample, 9, (4, 4), 100, generator).labels.shape == (4, 4)


def test_flips_mirror_both_half_of_the_time():
    generator, sample, flipped = np.random.default_rng(0), numbered(3, 5), 0
    for _ in range(200):
        result = random_flip(sample, generator)
        if result is not sample:
            flipped += 1
            np.testing.assert_array_equal(result.image, sample.image[:, ::-1])
            np.testing.assert_array_equal(result.labels, sample.labels[:, ::-1])
    assert 70 < flipped < 130


def test_the_generator_decides_alone():
    sample = numbered(30, 40)

    def draw(seed: int) -> list[np.ndarray]:
        generator = np.random.default_rng(seed)
        return [
            random_crop(sample, (9, 9), generator, 0.75).image,
            crop_with_class(sample, 2, (9, 9), 8, generator).image,
            random_flip(sample, generator).image,
        ]

    for first, second in zip(draw(1), draw(1), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not all(np.array_equal(a, b) for a, b in zip(draw(1), draw(2), strict=True))


def test_rare_class_probabilities_are_a_softmax_of_one_minus_the_share():
    probabilities = rare_class_probabilities(np.array([700, 200, 100, 0]), temperature=0.5)
    expected = np.exp((1 - np.array([0.7, 0.2, 0.1])) / 0.5)
    np.testing.assert_allclose(probabilities[:3], expected / expected.sum(), rtol=1e-12)
    assert probabilities[3] == 0
    cold = rare_class_probabilities(np.array([700, 200, 100, 0]), temperature=0.001)
    np.testing.assert_allclose(cold, [0, 0, 1, 0], atol=1e-12)


def test_images_with_class_need_the_pixels_or_else_any():
    class_pixels = np.array([[500, 3, 0], [20, 0, 0], [100, 1, 0]])
    assert [indices.tolist() for indices in images_with_class(class_pixels, 100)] == [[0, 2], [0, 2], []]


def batch(seed: int = 0, n: int = 4, side: int = 12, classes: int = 6):
    """Source images are 1, target images are 0; pseudo-labels are source classes + 100."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n, side, side), generator=generator)
    labels[:, 0] = IGNORE
    pseudo = torch.randint(100, 100 + classes, (n, side, side), generator=generator)
    return (
        torch.ones(n, 3, side, side),
        labels,
        torch.zeros(n, 3, side, side),
        pseudo,
        torch.full((n, side, side), 0.25),
    )


@pytest.mark.parametrize("classes", [1, 2, 5, 6])
def test_mixing_pastes_half_the_classes_of_each_image_rounded_up(classes):
    source, labels, target, pseudo, weights = batch(classes=classes)
    mixed = class_mix(source, labels, target, pseudo, weights, torch.Generator().manual_seed(1))
    for image in range(len(labels)):
        pasted = labels[image][~mixed.from_target[image]].unique()
        assert len(pasted) == (len(labels[image][1:].unique()) + 1) // 2
        # all of a pasted class, and nothing of the others
        expected = torch.isin(labels[image], pasted)
        assert torch.equal(~mixed.from_target[image], expected)


def test_mixed_pixels_come_whole_from_one_domain():
    source, labels, target, pseudo, weights = batch()
    mixed = class_mix(source, labels, target, pseudo, weights, torch.Generator().manual_seed(1))
    kept = mixed.from_target
    assert kept.dtype == torch.bool and kept.any() and (~kept).any()
    assert torch.equal(mixed.images, (~kept)[:, None].expand(-1, 3, -1, -1).float())
    assert torch.equal(mixed.labels, torch.where(kept, pseudo, labels))
    assert torch.equal(mixed.weights, torch.where(kept, 0.25, 1.0))
    assert kept[labels == IGNORE].all()  # what does not count in the source is never pasted


def test_a_confident_target_pixel_is_still_the_targets():
    source, labels, target, pseudo, weights = batch()
    sure = torch.ones_like(weights)
    first = class_mix(source, labels, target, pseudo, sure, torch.Generator().manual_seed(1))
    second = class_mix(source, labels, target, pseudo, weights, torch.Generator().manual_seed(1))
    assert torch.equal(first.from_target, second.from_target)


def test_images_choose_their_classes_independently():
    source, labels, target, pseudo, weights = batch(n=16)
    labels[:] = labels[:1]
    mixed = class_mix(source, labels, target, pseudo, weights, torch.Generator().manual_seed(1))
    assert len(torch.unique(mixed.from_target.flatten(1), dim=0)) > 5


def test_every_class_is_pasted_equally_often():
    source, labels, target, pseudo, weights = batch(n=600, side=8, classes=4)
    labels[:, 1:] = torch.arange(4).repeat(14).view(7, 8)
    mixed = class_mix(source, labels, target, pseudo, weights, torch.Generator().manual_seed(1))
    share = [((labels == c) & ~mixed.from_target).flatten(1).any(1).float().mean().item() for c in range(4)]
    assert share == pytest.approx([0.5] * 4, abs=0.08)


def test_an_unlabelled_source_image_pastes_nothing():
    source, labels, target, pseudo, weights = batch(n=2)
    labels[0] = IGNORE
    mixed = class_mix(source, labels, target, pseudo, weights, torch.Generator().manual_seed(1))
    assert mixed.from_target[0].all() and not mixed.from_target[1].all()


def test_the_torch_generator_decides_alone():
    arguments = batch()
    images = torch.rand(4, 3, 12, 12)

    def draw(seed: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [
            *class_mix(*arguments, generator),
            colour_jitter(images, 0.2, 0.5, generator),
            gaussian_blur(images, generator),
        ]

    torch.manual_seed(0)
    first = draw(3)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, draw(3), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, draw(4), strict=True))


def test_jitter_stays_in_range_and_strength_zero_changes_nothing():
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    jittered = colour_jitter(images, 0.5, 1.0, generator)
    assert jittered.shape == images.shape and jittered.min() >= 0 and jittered.max() <= 1
    assert (jittered - images).abs().mean() > 0.02
    torch.testing.assert_close(colour_jitter(images, 0.0, 1.0, generator), images, atol=2e-6, rtol=0)
    assert colour_jitter(images, 0.5, 0.0, generator) is images


def test_jitter_and_blur_pick_images_with_their_probability():
    images = torch.rand(400, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    for changed in (colour_jitter(images, 0.3, 0.25, generator), gaussian_blur(images, generator, 0.25)):
        share = (changed != images).flatten(1).any(1).float().mean().item()
        assert share == pytest.approx(0.25, abs=0.07)


def test_blur_keeps_flat_pictures_and_the_mean_and_smooths():
    generator = torch.Generator().manual_seed(0)
    flat = torch.full((2, 3, 16, 16), 0.4)
    torch.testing.assert_close(gaussian_blur(flat, generator, 1.0), flat, atol=1e-6, rtol=0)
    point = torch.zeros(1, 3, 17, 17)
    point[..., 8, 8] = 1
    blurred = gaussian_blur(point, generator, 1.0, (1.0, 1.0))
    torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(1, 3), atol=1e-5, rtol=0)
    # the peak of a normalised sampled Gaussian, sigma 1, radius 4
    taps = torch.exp(-(torch.arange(-4, 5, dtype=torch.float64) ** 2) / 2)
    torch.testing.assert_close(blurred[0, 0, 8, 8].item(), (1 / taps.sum() ** 2).item(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", [gaussian_blur, lambda x, g, p: colour_jitter(x, 0.2, p, g)])
def test_mixed_precision_leaves_pictures_as_they_are(change):
    """A GPU's fp16 and bf16 are for the network; once a blurred picture came back in them and was refused."""
    images = torch.rand(3, 3, 24, 32)
    expected = change(images, torch.Generator().manual_seed(1), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = change(images, torch.Generator().manual_seed(1), 1.0)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
