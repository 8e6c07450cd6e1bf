"""What a training without a source begins with: norms and classifier set to the target, and held."""

from pathlib import Path

import numpy as np
import prior_oracle
import pytest
import tiny
import torch
from torch import nn
from training_runs import adapt
from training_step import normed_segmenter, small_segmenter

from adapt.commands.opening import open_unlabelled
from adapt.config.settings import Config, load_config
from adapt.model.segmenter import Segmenter
from adapt.run.run import load_run
from adapt.training.teacher import new_teacher
from adapt.training.watching.start import LEAST, set_to_target

CPU = torch.device("cpu")


class Pictures(list):  # type: ignore[type-arg]
    """As an `UnlabelledImages` is indexed."""


def pictures(*sizes: tuple[int, int]) -> Pictures:
    generator = np.random.default_rng(0)
    return Pictures(generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes)


def config_of(norms: float, adjustment: float, batch: int = 2) -> Config:
    sets = (f"method.start_norms={norms}", f"method.start_adjustment={adjustment}", f"training.batch={batch}")
    return load_config(None, None, sets, {"model": {"start": "theirs"}})


def norm_of(segmenter: Segmenter) -> nn.BatchNorm2d:
    norm = segmenter.decoder[1]  # type: ignore[index]
    assert isinstance(norm, nn.BatchNorm2d)
    return norm


def test_norms_take_their_share_of_the_target() -> None:
    """Batches of two pictures of a size, the odd one out alone."""
    target = pictures((16, 32), (24, 32), (16, 32), (16, 32))
    segmenter = normed_segmenter()
    before = {name: buffer.clone() for name, buffer in norm_of(segmenter).named_buffers()}
    seen: list[torch.Tensor] = []
    norm = norm_of(segmenter)
    handle = norm.register_forward_hook(lambda _, given, made: seen.append(given[0].detach()))
    set_to_target(segmenter, target, config_of(0.25, 0), CPU)  # type: ignore[arg-type]
    handle.remove()
    assert sorted(len(batch) for batch in seen) == [1, 1, 2]
    for name, of in (("running_mean", "mean"), ("running_var", "variance")):
        for channel in (0, 7, 13):
            batches = [batch[:, channel].flatten().tolist() for batch in seen]
            wanted = prior_oracle.blended(float(before[name][channel]), batches, 0.25, of)
            assert float(getattr(norm, name)[channel]) == pytest.approx(wanted, abs=1e-5)
    assert not norm.training and norm.momentum == 0.1
    assert torch.equal(norm.num_batches_tracked, before["num_batches_tracked"])


def test_the_classifier_is_adjusted_by_the_mean_softmax() -> None:
    target = pictures((16, 32), (24, 40), (16, 24))
    segmenter = small_segmenter().eval()
    assert segmenter.classifier is not None and segmenter.classifier.bias is not None
    with torch.no_grad():
        segmenter.classifier.bias[2] -= 30  # a share below LEAST
    bias = segmenter.classifier.bias.tolist()
    with torch.no_grad():
        logits = [segmenter.logits(torch.from_numpy(image).unsqueeze(0))[0] for image in target]
    rows = [
        one[:, : image.shape[0] // 4, : image.shape[1] // 4]
        for one, image in zip(logits, target, strict=True)
    ]
    shares = prior_oracle.softmax_shares(torch.cat([one.flatten(1) for one in rows], 1).T.numpy())
    assert shares[2] < LEAST < min(shares[:2])
    segmenter.train()
    set_to_target(segmenter, target, config_of(0, 0.5), CPU)  # type: ignore[arg-type]
    wanted = prior_oracle.adjusted_bias(bias, shares, 0.5, LEAST)
    assert segmenter.classifier.bias.tolist() == pytest.approx(wanted, abs=1e-5)
    assert segmenter.training


def test_nothing_is_changed_where_nothing_is_asked_for() -> None:
    segmenter = normed_segmenter()
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    set_to_target(segmenter, pictures((16, 32)), config_of(0, 0), CPU)  # type: ignore[arg-type]
    assert all(torch.equal(before[name], tensor) for name, tensor in segmenter.state_dict().items())


def test_what_cannot_be_set_stays_and_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    segmenter = normed_segmenter()
    segmenter.decoder = nn.Sequential(segmenter.decoder, nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(14))
    segmenter.classify = nn.Conv2d(14, 3, 1, bias=False)
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    set_to_target(segmenter, pictures((16, 32)), config_of(0.5, 0.5), CPU)  # type: ignore[arg-type]
    assert all(torch.equal(before[name], tensor) for name, tensor in segmenter.state_dict().items())
    said = capsys.readouterr().err
    assert "batch normalisation stays as it is" in said and "no single classifier with a bias" in said
    assert not any(module.training for module in segmenter.modules())


def test_fixed_norms_stay_in_training_for_student_and_teacher() -> None:
    segmenter = normed_segmenter()
    assert norm_of(segmenter.train()).training and norm_of(new_teacher(segmenter, (16, 16))).training
    segmenter.fixed_norms = True
    teacher = new_teacher(segmenter, (16, 16))
    assert not norm_of(segmenter.train()).training and segmenter.training
    assert not norm_of(teacher).training
    before = norm_of(segmenter).running_mean.clone()  # type: ignore[union-attr]
    segmenter(torch.randn(2, 3, 16, 16))
    assert torch.equal(before, norm_of(segmenter).running_mean)  # type: ignore[arg-type]


def test_a_run_begins_with_it(tmp_path: Path) -> None:
    """Written down before the first step: a run that is stopped at once has it, and only without a source."""
    domains = tiny.make_domains(tmp_path)
    begun = tmp_path / "begun"
    assert (
        adapt(*tiny.train_arguments(domains, begun, "method.host=source", "method.balance=off")).exit_code
        == 0
    )
    sets = [s for s in tiny.SETTINGS if not s.startswith(("model.", "method.rare_class"))]
    lines = [*sets, "method.start_norms=1", "training.encoder_lr=1e-12", "training.decoder_lr=1e-12"]
    words = ["train", "--from", str(begun), "--target", str(domains / "target"), "-o", str(tmp_path / "run")]
    result = adapt(*words, *(word for line in lines for word in ("--set", line)))
    assert result.exit_code == 0, result.output
    first, run = load_run(begun).segmenter(), load_run(tmp_path / "run")
    config = run.config
    target = open_unlabelled(config, run.path)
    assert target is not None
    set_to_target(first, target, config, CPU)
    wanted, found = first.state_dict(), run.segmenter().state_dict()
    for name in wanted:
        if "running" in name or name == "classify.bias":
            assert torch.allclose(wanted[name], found[name], atol=1e-5), name
    assert not torch.equal(found["classify.bias"], load_run(begun).segmenter().state_dict()["classify.bias"])
