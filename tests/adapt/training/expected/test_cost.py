"""What a training is expected to take: counts that are known, and properties."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from training_step import small_segmenter

from adapt.config.settings import load_config
from adapt.model.build import build
from adapt.training.expected import work
from adapt.training.expected.cost import (
    AROUND,
    MARGIN,
    Cost,
    describe_cost,
    duration,
    expected_memory,
    expected_seconds,
    passes,
)
from adapt.training.expected.work import Clocks, count_work, time_pass, timed_crop


class Flat(nn.Module):
    """One layer at full size: 3 channels to 4."""

    channels, strides = (4,), (1,)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, pixels):
        return [self.layer(pixels)]


class First(nn.Module):
    def forward(self, pyramid):
        return pyramid[0]


def flat():
    from adapt.model.segmenter import Segmenter

    return Segmenter(Flat(), First(), 4, 2, dropout=0.0)


def test_operations_and_kept_bytes_of_a_network_that_can_be_counted_by_hand():
    work = count_work(flat(), 2, (8, 16))
    assert work is not None
    pixels = 2 * 8 * 16
    assert work.operations == 3 * (2 * pixels * 3 * 4 + 2 * pixels * 4 * 2)  # two layers, multiply and add
    # pixels in, features, log-probabilities (float32), labels (int64); the upsampling keeps nothing
    assert work.activations >= 4 * pixels * (3 + 4 + 2) + 8 * pixels
    assert work.activations <= 2 * (4 * pixels * (3 + 4 + 2) + 8 * pixels)


def test_work_grows_with_batch_and_crop_in_proportion():
    segmenter = small_segmenter()
    one, two, large = (count_work(segmenter, n, c) for n, c in ((1, (32, 32)), (2, (32, 32)), (1, (64, 64))))
    assert two.operations == 2 * one.operations and large.operations == 4 * one.operations
    assert two.activations == pytest.approx(2 * one.activations, rel=0.05)


def test_counting_and_timing_leave_network_and_dice_as_they_were():
    segmenter = build(load_config("demo").model, 3).segmenter
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    count_work(segmenter, 2, (64, 64))
    assert time_pass(segmenter, 2, (64, 64), torch.device("cpu")) > 0
    assert torch.equal(torch.rand(1), wanted)
    assert all(torch.equal(before[name], tensor) for name, tensor in segmenter.state_dict().items())
    assert all(parameter.grad is None for parameter in segmenter.parameters()) and segmenter.training


@pytest.mark.parametrize(
    ("wall", "thread", "process", "threads", "seconds"),
    [
        (2.0, 2.0, 4.0, 2, 2.0),  # an idle machine
        (8.0, 2.0, 4.0, 2, 2.0),  # three others have it most of the time
        (8.0, 1.5, 4.0, 2, 2.0),  # the thread that hands out waits for the others
        (2.0, 2.0, 2.5, 4, 2.0),  # most of the work cannot be shared
        (1.0, 1.2, 2.4, 2, 1.0),  # never more than has passed
    ],
)
def test_time_that_others_had_is_not_counted(wall, thread, process, threads, seconds):
    began = Clocks(100.0, 7.0, 9.0)
    ended = Clocks(100.0 + wall, 7.0 + thread, 9.0 + process)
    assert ended.seconds_since(began, threads) == pytest.approx(seconds)


def test_a_pass_is_timed_by_its_own_clock_and_the_least_of_several_counts(monkeypatch):
    """On a machine where every pass lasts a minute, of which the network had a second or two."""
    moments = iter([(0, 0, 0), (60, 2, 2), (60, 2, 2), (120, 3, 3)])
    monkeypatch.setattr(Clocks, "now", classmethod(lambda cls: cls(*map(float, next(moments)))))
    monkeypatch.setattr(work, "LONGEST", 0.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert time_pass(small_segmenter(), 1, (32, 32), torch.device("cpu")) == 1.0


def test_code_that_needs_numbers_is_not_counted():
    segmenter = small_segmenter()
    segmenter.encoder.forward = lambda pixels: [pixels * float(pixels.sum())] * 2
    assert count_work(segmenter, 1, (32, 32)) is None
    config = load_config(None, None, ("data.crop=[32, 32]",))
    assert expected_memory(config, segmenter) is None
    assert expected_seconds(config, segmenter, torch.device("cpu")) is None


def test_memory_is_of_weights_and_of_what_is_kept():
    segmenter = flat()
    config = load_config(None, None, ("data.crop=[64, 64]", "method.host=source", "training.batch=2"))
    kept = count_work(segmenter, 2, (64, 64)).activations
    weights = 4 * sum(each.numel() for each in segmenter.parameters())
    assert expected_memory(config, segmenter) == pytest.approx(AROUND + 4 * weights + MARGIN * kept)
    less = config.model_copy(
        update={
            "training": config.training.model_copy(
                update={"precision": "bf16", "recompute_activations": True}
            )
        }
    )
    assert expected_memory(less, segmenter) == pytest.approx(AROUND + 4 * weights + MARGIN * 0.3 * kept)


PEAK = """
import pathlib, re, torch
from adapt.config.settings import load_config
from adapt.model.build import build
from adapt.training.expected.cost import AROUND, expected_memory
from adapt.training.expected.work import time_pass

def resident():
    # Not getrusage: a new process inherits the peak of the one that started it.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

config = load_config("demo", None, ("data.crop=[256, 256]", "training.batch=16", "method.host=source"))
segmenter = build(config.model, 5).segmenter
time_pass(segmenter, 1, (64, 64), torch.device("cpu"))
before = resident()
time_pass(segmenter, 16, (256, 256), torch.device("cpu"))
print(resident() - before, expected_memory(config, segmenter) - AROUND)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are counted in KiB")
def test_memory_is_about_what_a_pass_takes(root):
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=root, capture_output=True, text=True, check=True)
    taken, expected = map(float, done.stdout.split())
    assert 0.6 * expected < taken < 1.6 * expected, f"{taken / 1e6:.0f} MB of {expected / 1e6:.0f} MB"


@pytest.mark.parametrize(
    ("host", "wanted"), [("source", 1), ("dacs", 2 + 1 / 3), ("daformer", 2 + 2 / 3), ("mic", 3 + 2 / 3)]
)
def test_passes_of_hosts(host, wanted):
    assert passes(load_config(None, None, (f"method.host={host}",))) == pytest.approx(wanted)


def test_the_timed_crop_is_small_enough_or_the_smallest(monkeypatch):
    segmenter = small_segmenter()
    assert timed_crop(segmenter, 1, (64, 96)) == (64, 96)
    monkeypatch.setattr("adapt.training.expected.work.SMALL", count_work(segmenter, 1, (32, 48)).operations)
    assert timed_crop(segmenter, 1, (64, 96)) == (32, 48)
    monkeypatch.setattr("adapt.training.expected.work.SMALL", 0)
    assert max(timed_crop(segmenter, 1, (64, 96))) <= 2 * segmenter.stride


def test_times_are_said_as_a_person_would():
    assert [duration(s) for s in (0.2, 45, 600, 7200, 200_000)] == [
        "about 1 s",
        "about 45 s",
        "about 10 minutes",
        "about 2 hours",
        "about 2 days",
    ]
    cost = Cost(3 * 2**30, 2 * 2**30, 0.5, "4 CPU cores")
    assert describe_cost(cost, 7200) == (
        "expected on 4 CPU cores: about 3.0 GiB of memory (2.0 GiB are free), which is not enough, "
        "about 60 minutes (2 iterations per second)"
    )
    assert "unknown" in describe_cost(Cost(None, 1, None, "cuda"), 5)
