"""Training end to end on tiny domains: every host and balance, repeats, divergence, what is made of a run."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from training_runs import HOSTS, adapt, album, trace, train

from adapt.config.choices import BALANCES
from adapt.errors import InputError
from adapt.run.run import load_run, part


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
    assert set(card["evaluation"]) == {"0.0", "0.5", "1.0"}
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
    assert "best for mIoU here: tau" in labelled.output


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
