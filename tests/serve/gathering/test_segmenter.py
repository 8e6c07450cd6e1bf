"""A Segmenter that gathers: what is counted is what the graph said, whichever way the picture was run."""

import subprocess
import sys
import time
from pathlib import Path

import gathered_oracle
import numpy as np
import pytest
from PIL import Image
from serve_commands import expect_refusal, serve
from serve_graphs import CLASSES, halves, write_clip, write_graph

from serve import Segmenter
from serve.errors import InputError
from serve.gathering.counts import LEVELS
from serve.gathering.gatherer import Gather
from serve.gathering.rule import BINS, Rule
from serve.gathering.store import Gathered

RULE = Rule(-0.25, 1.0, (0.0, 0.0, 30.0))


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "model.onnx", gather=RULE)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (*shape, 3), np.uint8)


def expected_of(pictures: list[np.ndarray], labels: list[np.ndarray]) -> dict[str, np.ndarray]:
    """By the definition of the graph: the mean of every 4 x 4 pixels, and the label at its centre."""
    total: dict[str, np.ndarray] = {}
    for picture, said in zip(pictures, labels, strict=True):
        h, w = (side // 4 for side in picture.shape[:2])
        means = picture[: 4 * h, : 4 * w].reshape(h, 4, w, 4, 3).mean((1, 3)).transpose(2, 0, 1)
        at = said[2 : 4 * h : 4, 2 : 4 * w : 4]
        found, _ = gathered_oracle.counted(
            means.reshape(3, -1), at.ravel(), RULE.low, RULE.step, RULE.offset, BINS, LEVELS
        )
        total = {name: total.get(name, 0) + values for name, values in found.items()}
    return total


def check(file: Path, expected: dict[str, np.ndarray]) -> None:
    counts = Gathered(file).total()
    for name, values in expected.items():
        off = 1 if name == "confidence" else 0  # two equal logits are sure by 0.5, give or take a rounding
        np.testing.assert_allclose(getattr(counts, name), values, rtol=0, atol=off, err_msg=name)


@pytest.mark.parametrize("size", [None, (64, 96)])
def test_counts_what_the_graph_says(tmp_path: Path, size: tuple[int, int] | None) -> None:
    graph = write_graph(tmp_path / "m.onnx", gather=RULE, size=size)
    frames = noise(5, 64, 96)
    segmenter = Segmenter(graph, gather=Gather(tmp_path / "f", every=2))
    segmenter.warm_up(64, 96)  # black frames, which nobody took
    labels = [segmenter(frames[0]).labels, *segmenter(frames[1:]).labels]
    segmenter.close()
    check(tmp_path / "f", expected_of(list(frames[::2]), labels[::2]))
    found = Gathered(tmp_path / "f").head
    assert found.subject.classes == CLASSES and found.records[0].frames == 3


def test_padding_is_no_picture(tmp_path: Path, graph: Path) -> None:
    segmenter = Segmenter(graph, gather=Gather(tmp_path / "f"))
    frame = noise(40, 24)
    labels = segmenter(frame).labels
    segmenter.close()
    check(tmp_path / "f", expected_of([frame], [labels]))


def test_tiles_are_counted(tmp_path: Path, graph: Path) -> None:
    segmenter = Segmenter(graph, tile=100, gather=Gather(tmp_path / "f"))
    segmenter(noise(150, 220))
    segmenter.close()
    counts = Gathered(tmp_path / "f").total()
    cells = 150 * 220 // 16
    assert cells <= counts.pixels.sum() < 2.5 * cells, "neighbours' overlaps are counted twice"


def test_a_graph_without_logits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="export it again with --gather"):
        Segmenter(write_graph(tmp_path / "plain.onnx"), gather=tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_without_gather_the_logits_are_not_asked_for(tmp_path: Path, graph: Path, monkeypatch) -> None:
    asked: list[list[str]] = []
    segmenter = Segmenter(graph)
    run = segmenter._run
    monkeypatch.setattr(
        segmenter, "_run", lambda r, names, *rest: asked.append(names) or run(r, names, *rest)
    )
    segmenter(halves())
    segmenter.close()
    assert asked == [["labels"]]


def test_image_gathers_and_goes_on(tmp_path: Path, graph: Path) -> None:
    pictures = tmp_path / "p"
    pictures.mkdir()
    for number in range(3):
        Image.fromarray(noise(64, 64)).save(pictures / f"{number}.png")
    options = ("--gather", tmp_path / "f", "--gather-every", 2, "--slot", "1d", "--device", "mast")
    for out in ("a", "b"):
        result = serve("image", graph, pictures, "-o", tmp_path / out, *options)
        assert result.exit_code == 0, result.output
    (record,) = Gathered(tmp_path / "f").head.records
    assert (record.frames, record.device, record.slot % 86400) == (4, "mast", 0)


def test_video_gathers(tmp_path: Path, graph: Path) -> None:
    clip = write_clip(tmp_path / "c.mp4")
    result = serve("video", graph, clip, "-o", tmp_path / "o.mp4", "--gather", tmp_path / "f")
    assert result.exit_code == 0, result.output
    assert Gathered(tmp_path / "f").head.records[0].frames == 2  # of 12, one of 10


def test_what_can_not_be_gathered_is_said(tmp_path: Path, graph: Path) -> None:
    clip, f = write_clip(tmp_path / "c.mp4"), tmp_path / "f"
    refusals = (
        (("video", graph, clip, "-o", tmp_path / "o", "--gather", f, "--ray"), "one process"),
        (("video", graph, clip, "-o", tmp_path / "o", "--gather", f, "--slot", "1 hour"), "such as 1h"),
        (("demo", graph, graph, "--gather", f), "for one model"),
    )
    for arguments, words in refusals:
        expect_refusal(serve(*arguments), words)
    f.write_text("mine")
    expect_refusal(
        serve("video", graph, clip, "-o", tmp_path / "o.mp4", "--gather", f), "no whole safetensors"
    )
    assert f.read_text() == "mine"


def test_sigterm_costs_nothing(tmp_path: Path, graph: Path, root: Path) -> None:
    """Every frame that was segmented before it is in the file."""
    clip = write_clip(tmp_path / "c.mp4", times=range(3000))
    command = ["video", graph, clip, "-o", tmp_path / "o.mp4", "--gather", tmp_path / "f"]
    command += ["--gather-every", 1, "--gather-save", 1000, "--threads", 1, "--shares"]
    run = subprocess.Popen(
        [sys.executable, "-m", "serve", *map(str, command)], cwd=root, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    written = 0
    while written < 100 and time.monotonic() < deadline:
        time.sleep(0.02)
        written = max((p.read_text().count("\n") for p in tmp_path.glob(".o.shares*")), default=0)
    run.terminate()
    assert run.wait(60) != 0 and written >= 100
    assert sum(record.frames for record in Gathered(tmp_path / "f").head.records) >= written - 1
