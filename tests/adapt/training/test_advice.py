"""Advice where memory runs out can be followed: whatever it names, the same checks and a real step accept."""

import re
from functools import cache
from typing import Any

import pytest
import torch

from adapt.config.changes import check_resumable
from adapt.config.settings import Config, load_config, with_assignments
from adapt.errors import InputError
from adapt.model.build import build
from adapt.model.encoders import save_memory
from adapt.model.segmenter import Segmenter
from adapt.training.checks import check_machine, check_network
from adapt.training.failures import NOTHING_LEFT, diverged, memory_advice

SMALL: dict[str, Any] = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
RESNET = {"model_type": "resnet", "embedding_size": 8, "layer_type": "basic", **SMALL}
MIT = {"model_type": "segformer", "num_attention_heads": [1, 1, 2, 2], **SMALL}
VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {"encoder": RESNET, "decoder": "segformer"},
    "dilated resnet": {"encoder": RESNET, "decoder": "deeplabv2", "dilated": True},
    "mit": {"encoder": MIT, "decoder": "daformer"},
    "mit at two scales": {"encoder": MIT, "decoder": "daformer", "multi_resolution": True},
    "dinov2": {"encoder": {"model_type": "dinov2", "image_size": 28, **VIT}, "decoder": "plain-pyramid"},
    "dinov3": {
        "encoder": {"model_type": "dinov3_vit", "intermediate_size": 16, **VIT},
        "decoder": "plain-pyramid",
    },
}
STRIDES = (32, 8, 32, 64, 14, 16)
QUICK = ("dilated resnet", "dinov3")
CASES = [
    pytest.param(network, stride, marks=[] if network in QUICK else pytest.mark.slow)
    for network, stride in zip(NETWORKS, STRIDES, strict=True)
]


def settings(network: str, *more: str) -> Config:
    model = dict(NETWORKS[network])
    model["encoder"] = {"config": model["encoder"]}
    return with_assignments(load_config(overrides={"model": model | {"width": 8}}), more)


@cache
def segmenter_of(network: str) -> Segmenter:
    return build(settings(network).model, 3).segmenter


def advised(text: str) -> list[tuple[str, ...]]:
    """Groups of assignments that are to be taken together."""
    pattern = r"[a-z]+\.[a-z_]+=(?:\[[^]]*\]|\w+)"
    return [tuple(re.findall(pattern, part)) for part in text.split(";") if "=" in part]


def train_once(config: Config, segmenter: Segmenter) -> None:
    """A pass forwards and backwards, as a step takes it."""
    pixels = torch.randn(config.training.batch, 3, *config.data.crop)
    segmenter.train()
    segmenter(pixels).sum().backward()


@pytest.mark.parametrize(("network", "stride"), CASES)
def test_all_advice_can_be_followed(network: str, stride: int) -> None:
    segmenter = segmenter_of(network)
    assert segmenter.stride == stride
    half = ("training.precision=bf16",)
    cases = (((1, 2), 1, ()), ((2, 2), 1, half), ((5, 4), 1, ()), ((1, 2), 3, ()), ((5, 4), 3, half))
    followed = 0
    for sides, batch, more in cases:
        crop = f"data.crop={[stride * side for side in sides]}"
        config = settings(network, crop, f"training.batch={batch}", *more)
        try:
            check_network(config, segmenter)
        except InputError:
            continue  # nobody trains with that
        followed += follow(config, segmenter)
    assert followed >= 4


def follow(config: Config, segmenter: Segmenter) -> int:
    """Check every piece of advice; returns how many there were."""
    text = memory_advice(config, 0, segmenter).partition("the last checkpoint is whole. ")[2]
    resumed, _, new = text.partition("in a new run")
    groups = advised(resumed) + advised(new)
    assert groups or text == NOTHING_LEFT, text
    for assignments in groups:
        after = with_assignments(config, assignments)
        assert after != config, text
        check_machine(after)
        check_network(after, segmenter)
        if assignments in advised(resumed):
            check_resumable(config, after)
        else:
            assert "data.crop" in assignments[0] and "100%" not in new, text
            with pytest.raises(InputError, match=r"data\.crop"):
                check_resumable(config, after)
            area = [h * w for h, w in (config.data.crop, after.data.crop)]
            assert f"about {area[1] / area[0]:.0%} of it" in new and area[1] < area[0]
        if "training.batch" in assignments[0]:
            pictures = [c.training.batch * c.training.accumulate for c in (config, after)]
            assert pictures[0] == pictures[1] and after.training.batch < config.training.batch
        if after.training.batch * after.data.crop[0] <= 64 and after.data.crop != config.data.crop:
            train_once(after, segmenter)
    return len(groups)


@pytest.mark.parametrize("network", ["mit", "dinov2", "dinov3"])
def test_encoders_that_are_said_to_recompute_do(network: str) -> None:
    config = settings(network, "data.crop=[224, 224]", "training.batch=2")
    segmenter = build(config.model, 3).segmenter
    assert "recompute_activations=true" in memory_advice(config, 0, segmenter)
    save_memory(segmenter.encoder)
    train_once(config, segmenter)


def test_a_resnet_is_not_told_to_recompute_and_a_crop_fits_the_stride() -> None:
    text = memory_advice(settings("resnet", "training.batch=1"), 6, segmenter_of("resnet"))
    assert "out of memory at iteration 7 with batches of 1 crops of 512x512 in fp32" in text
    assert "recompute" not in text and "data.crop=[384, 384] takes about 56% of it" in text
    text = memory_advice(
        settings("dinov2", "training.batch=1", "data.crop=[448, 420]"), 0, segmenter_of("dinov2")
    )
    assert "data.crop=[336, 308]" in text


def test_where_nothing_is_left_it_says_so() -> None:
    more = ("training.batch=1", "data.crop=[32, 64]", "training.precision=bf16")
    text = memory_advice(settings("resnet", *more), 0, segmenter_of("resnet"))
    assert text.endswith(NOTHING_LEFT)


def test_advice_is_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device without bf16 fp16 is asked; of one without either, neither."""
    monkeypatch.setattr("adapt.training.checks.best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr("accelerate.utils.is_bf16_available", lambda *_: False)
    config, segmenter = settings("resnet"), segmenter_of("resnet")
    assert "training.precision=fp16" in memory_advice(config, 0, segmenter)
    assert "bf16" not in memory_advice(config, 0, segmenter)


@pytest.mark.parametrize(
    ("more", "says", "does_not_say"),
    [
        ((), "With --resume, set training.clip_gradient;", "bf16"),
        (("training.precision=fp16",), "or training.precision=bf16 instead of fp16;", "lower training.clip"),
        (("training.clip_gradient=2",), "lower training.clip_gradient from 2;", "set training.clip"),
    ],
)
def test_what_to_do_where_losses_are_not_finite(more: tuple[str, ...], says: str, does_not_say: str) -> None:
    text = diverged(["source"], 0, [], settings("resnet", *more).training).message
    assert says in text and does_not_say not in text
    assert "in a new run" in text[text.index("training.encoder_lr") :]
