"""Training end to end on tiny domains: every host and balance, exact resume, kills, Ctrl-C, divergence."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner, Result

from adapt.cli import main
from adapt.config.choices import BALANCES
from adapt.errors import InputError
from adapt.run.run import load_run, part


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def train(domains: Path, out: Path, *more: str) -> Result:
    return adapt(*tiny.train_arguments(domains, out, *more))


def trace(run: Path) -> list[dict[str, float]]:
    """The loss trace, without the rate."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "iterations_per_second"} for line in lines]


def album(run: Path) -> dict[str, bytes]:
    """The pages, file by file."""
    return {path.name: path.read_bytes() for path in (run / "report" / "album").iterdir()}


@pytest.fixture(scope="module")
def finished(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, evaluated on the labelled target."""
    run = tmp_path_factory.mktemp("finished") / "run"
    result = adapt(*tiny.train_arguments(domains, run), "--evaluate", str(domains / "target_eval"))
    assert result.exit_code == 0, result.output
    return run


OWN = """
from torch import nn

class Own(nn.Module):
    channels = (8, 8)
    strides = (4, 8)

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 8, 2, stride=2), nn.ReLU())

    def forward(self, pixels):
        fine = self.fine(pixels)
        return [fine, self.coarse(fine)]

build = Own
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Setting of an encoder that counts as pretrained, so that there is something to stay near."""
    file = tmp_path_factory.mktemp("own") / "own.py"
    file.write_text(OWN)
    return f"model.encoder={{factory: '{file}:build'}}"


HOSTS: dict[str, tuple[str, ...]] = {
    "source": ("method.host=source",),
    "dacs": ("method.host=dacs",),
    "daformer": ("method.host=daformer", "method.thing_classes=[box]"),
    "mic": ("method.host=mic", "method.thing_classes=[box]", "method.mask_patch=8"),
    "hrda": ("method.host=daformer", "method.feature_distance=0", "model.multi_resolution=true"),
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("balance", BALANCES)
def test_every_host_with_every_balance(
    domains: Path, own: str, tmp_path: Path, host: str, balance: str
) -> None:
    run = tmp_path / "run"
    result = train(domains, run, own, *HOSTS[host], f"method.balance={balance}")
    assert result.exit_code == 0, result.output
    losses = set(trace(run)[-1]) - {"iteration"}
    expected = {"source"} | ({"mixed", "confident"} if host != "source" else set())
    expected |= {"feature_distance"} if host in ("daformer", "mic") else set()
    expected |= {"masked"} if host == "mic" else set()
    if balance == "online":
        expected |= {"source_density"} | ({"mixed_density"} if host != "source" else set())
    assert losses == expected
    opened = load_run(run)
    if balance == "off":
        with pytest.raises(InputError, match="adapt statistics"):
            opened.shift_statistics()
    else:
        assert opened.shift_statistics().num_classes == 3
    assert bool(part(opened.tensors, "teacher")) == (host != "source")


def test_a_plain_vit_with_the_light_pyramid(domains: Path, tmp_path: Path) -> None:
    """DINOv2's architecture, small and from random weights; its patches of 14 pixels divide the crop."""
    vit = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    encoder = "model.encoder={config: " + json.dumps(vit | {"image_size": 28}) + "}"
    more = (encoder, "model.decoder=plain-pyramid", "method.host=mic", "method.mask_patch=14")
    refused = train(domains, tmp_path / "refused", *more, "data.crop=[28, 42]")
    assert refused.exit_code == 2 and "feature_distance=0" in refused.output
    refused = train(domains, tmp_path / "refused", *more, "method.feature_distance=0")
    assert refused.exit_code == 2 and "set data.crop=[28, 28]" in refused.output
    run = tmp_path / "run"
    result = train(domains, run, *more, "data.crop=[28, 42]", "method.feature_distance=0")
    assert result.exit_code == 0, result.output
    assert set(trace(run)[-1]) >= {"source", "mixed", "masked"}
    assert load_run(run).segmenter("teacher").output_stride == 7


def test_training_learns_the_source(domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert (
        train(
            domains, run, "training.iterations=120", "method.host=source", "training.decoder_lr=0.02"
        ).exit_code
        == 0
    )
    result = adapt(
        "eval", str(run), "--data", str(domains / "source"), "--tau", "0", "--json", str(tmp_path / "s")
    )
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "s").read_text())["tau"]["0"]
    assert scores["mean_iou"] > 0.8


def test_the_run_folder_says_what_it_is(finished: Path) -> None:
    card = json.loads((finished / "card.json").read_text())
    assert card["finished"] and card["iterations"] == 6
    assert set(card["evaluation"]) == {"0.0", "0.2", "1.0"}
    assert [line["iteration"] for line in trace(finished)] == [1, 2, 3, 4, 5, 6]
    assert {path.name for path in (finished / "last").iterdir()} == {
        "0000004.safetensors",
        "0000006.safetensors",
    }
    assert len(load_run(finished).frames) == 4
    assert set(album(finished)) == {f"{i:07d}.{kind}" for i in range(1, 7) for kind in ("jpg", "safetensors")}
    assert [json.loads(line)["iteration"] for line in (finished / "evaluations.jsonl").open()] == [6]
    assert any((finished / "tensorboard").iterdir())
    assert not [
        path for path in finished.rglob("*") if path.suffix in (".pt", ".pth", ".pkl", ".bin", ".tmp")
    ]


def test_student_and_teacher_load_and_differ(finished: Path) -> None:
    run = load_run(finished)
    image = torch.zeros(1, 48, 64, 3, dtype=torch.uint8)
    student, teacher = run.segmenter("student"), run.segmenter("teacher")
    assert not student.training
    assert not torch.equal(student.logits(image), teacher.logits(image))


def test_the_same_seed_gives_the_same_run(domains: Path, finished: Path, tmp_path: Path) -> None:
    assert train(domains, tmp_path / "again").exit_code == 0
    assert trace(tmp_path / "again") == trace(finished)
    first, second = load_run(finished).tensors, load_run(tmp_path / "again").tensors
    assert all(torch.equal(first[key], second[key]) for key in first)


STOP = """
import os, signal, sys
from adapt.training import trainer
step = trainer.Trainer._step
def counted(self, pair):
    values = step(self, pair)
    if self.iteration + 1 == {at}:
        os.kill(os.getpid(), signal.{signal})
    return values
trainer.Trainer._step = counted
from adapt.cli import main
main({arguments!r})
"""


@pytest.mark.parametrize("at", [1, 3, 5])
def test_kill_and_resume_repeat_the_uninterrupted_run(
    domains: Path, finished: Path, tmp_path: Path, at: int
) -> None:
    """kill -9 inside a step; the resumed run's losses and weights are bitwise those of the whole run."""
    run = tmp_path / "run"
    code = STOP.format(at=at, signal="SIGKILL", arguments=tiny.train_arguments(domains, run))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    load_run(run).segmenter()  # loadable at any moment
    result = adapt("train", "--resume", str(run))
    assert result.exit_code == 0, result.output
    assert trace(run) == trace(finished)
    assert album(run) == album(finished)
    first, second = load_run(finished).tensors, load_run(run).tensors
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_kill_and_resume_of_everything_at_once(domains: Path, own: str, tmp_path: Path) -> None:
    """Masks, feature distance, two scales and accumulated gradients go on as if nothing had happened."""
    more = (own, *HOSTS["mic"], "model.multi_resolution=true", "training.batch=1", "training.accumulate=2")
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(domains, whole, *more).exit_code == 0
    code = STOP.format(at=3, signal="SIGKILL", arguments=tiny.train_arguments(domains, run, *more))
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -signal.SIGKILL
    assert adapt("train", "--resume", str(run)).exit_code == 0
    assert trace(run) == trace(whole)
    first, second = load_run(whole).tensors, load_run(run).tensors
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(
    domains: Path, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code = STOP.format(at=3, signal="SIGINT", arguments=tiny.train_arguments(domains, run))
    stopped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert stopped.returncode == 130, stopped.stderr
    assert f"adapt train --resume {run}" in stopped.stdout
    assert load_run(run).card.iterations == 3
    assert adapt("train", "--resume", str(run)).exit_code == 0
    assert trace(run) == trace(finished)


def test_kill_at_any_moment_leaves_a_loadable_run(domains: Path, tmp_path: Path) -> None:
    """Killed from outside at random times while it does nothing but save: never half a file."""
    run = tmp_path / "run"
    arguments = tiny.train_arguments(domains, run, "training.save_every=1", "training.iterations=100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "adapt", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while len(list((run / "last").glob("*.safetensors"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        for _ in range(20):  # the reader sees whole files while the writer replaces them
            load_run(run).segmenter()
            time.sleep(0.013)
    finally:
        process.kill()
        process.wait()
    opened = load_run(run)
    assert opened.segmenter().num_classes == 3
    assert opened.card.iterations > 0


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(
    domains: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = train(domains, run, "training.encoder_lr=1e30", "training.decoder_lr=1e30")
    assert result.exit_code == 1
    assert "loss is not finite at iteration" in result.output
    assert "training.clip_gradient" in result.output
    tensors = load_run(run).tensors
    assert all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point())


def test_statistics_for_another_place_without_training(domains: Path, finished: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = load_run(run).shift_statistics()
    result = adapt("statistics", str(run), "--target", str(domains / "source" / "images"), "--source-free")
    assert result.exit_code == 0, result.output
    after = load_run(run).shift_statistics()
    assert not torch.equal(before.rows.means, after.rows.means)
    assert not torch.equal(before.anchors.means, after.anchors.means)


def test_bias_writes_a_table_and_pictures(domains: Path, finished: Path, tmp_path: Path) -> None:
    result = adapt("bias", str(finished), "--data", str(domains / "target_eval"), "-o", str(tmp_path / "b"))
    assert result.exit_code == 0, result.output
    assert "ground" in result.output and "sum |Bias|" in result.output and "measured" in result.output
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert names == {"bias.png", "distributions.png", "examples.png"}


def test_tau_sweeps_strengths_with_and_without_labels(domains: Path, finished: Path) -> None:
    alone = adapt("tau", str(finished))
    assert alone.exit_code == 0, alone.output
    assert "estimated |Bias|" in alone.output and "mIoU" not in alone.output.splitlines()[0]
    labelled = adapt("tau", str(finished), "--data", str(domains / "target_eval"))
    assert labelled.exit_code == 0, labelled.output
    scores = adapt("eval", str(finished), "--data", str(domains / "target_eval"), "--tau", "0.5")
    mean = next(line.split()[1] for line in scores.output.splitlines() if line.startswith("mIoU"))
    row = next(line for line in labelled.output.splitlines() if line.split()[:1] == ["0.5"])
    assert row.split()[3] == mean
    assert "best here" in labelled.output


def test_a_target_of_videos(domains: Path, tmp_path: Path) -> None:
    import av
    import numpy as np

    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value * 10, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    run = tmp_path / "run"
    arguments = tiny.train_arguments(domains, run, "data.frames=5")
    arguments[arguments.index("--target") + 1] = str(clip)
    result = adapt(*arguments)
    assert result.exit_code == 0, result.output
    assert len(list((run / "frames").rglob("*.png")) + list((run / "frames").rglob("*.jpg"))) == 5
    # the clip may go: its frames are in the run
    clip.unlink()
    assert load_run(run).shift_statistics().num_classes == 3
