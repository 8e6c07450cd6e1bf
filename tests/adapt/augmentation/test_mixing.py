"""ClassMix with classes that are favoured, and with pictures that have weights on both sides."""

import torch

from adapt.augmentation.augment import class_mix


def mixed(favour: torch.Tensor | None, seed: int, classes: int = 4, **more: torch.Tensor):  # type: ignore[no-untyped-def]
    labels = torch.arange(classes).repeat(8, 1, 1)  # one row with a pixel of each
    images = torch.zeros(8, 3, 1, classes), torch.ones(8, 3, 1, classes)
    weights = torch.full((8, 1, classes), 0.5)
    generator = torch.Generator().manual_seed(seed)
    return class_mix(images[0], labels, images[1], labels.flip(2), weights, generator, favour=favour, **more)


def test_all_alike_is_what_it_was_without() -> None:
    for seed in range(5):
        without, alike = mixed(None, seed), mixed(torch.ones(4), seed)
        assert all(torch.equal(a, b) for a, b in zip(without, alike, strict=True))


def test_half_of_the_classes_are_pasted_in_proportion_to_what_favours_them() -> None:
    favour = torch.tensor([1.0, 1.0, 4.0, 0.001])
    pasted = torch.cat([~mixed(favour, seed).from_target.view(8, 4) for seed in range(500)])
    assert bool((pasted.sum(1) == 2).all())
    shares = pasted.double().mean(0)
    # First one with 1/6, 1/6, 4/6; then one of the rest in the same way. The last one comes hardly ever.
    first = favour[:3] / favour[:3].sum()
    wanted = [
        float(p + sum(first[j] * p / (1 - first[j]) for j in range(3) if j != i)) for i, p in enumerate(first)
    ]
    torch.testing.assert_close(shares[:3], torch.tensor(wanted).double(), atol=0.02, rtol=0)
    assert shares[3] < 0.01


def test_pasted_pixels_bring_their_own_weights() -> None:
    own = torch.full((8, 1, 4), 0.25)
    result = mixed(None, 0, source_weights=own)
    assert torch.equal(result.weights, torch.where(result.from_target, 0.5, 0.25))
    assert torch.equal(mixed(None, 0).weights, torch.where(result.from_target, 0.5, 1.0))
