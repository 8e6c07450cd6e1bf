"""The demo with a TensorRT engine: page, pictures, videos and card, with ONNX Runtime in TensorRT's place."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import av
import numpy as np
import pytest
from click.testing import CliRunner
from demo_server import Demo, demo, file_data, log, result, submit, upload
from engine_stand_in import write_engine
from PIL import Image
from serve_graphs import halves, write_clip, write_graph

from serve.cli.commands import main

LARGEST = (2, 96, 128)
NETWORKS = str(Path(inspect.getfile(write_engine)).parent)
STAND_IN = f"sys.path.insert(0, {NETWORKS!r}); import engine_stand_in; engine_stand_in.install()"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("engine")
    engine = write_engine(write_graph(folder / "model.onnx", runtime_tau=True, extras=True), LARGEST)
    (folder / "examples").mkdir()
    Image.fromarray(halves(64, 80)).save(folder / "examples" / "street.png")
    options = ("--examples", folder / "examples")
    with demo(folder / "server", engine, *options, before=STAND_IN) as running:
        yield running
        assert "Traceback" not in log(running)


@pytest.mark.parametrize(
    ("given", "shown"), [((64, 80), (64, 80)), ((300, 200), (96, 64)), ((100, 400), (32, 128))]
)
def test_pictures_are_made_as_small_as_the_engine_takes_them(server, tmp_path, given, shown):
    Image.fromarray(halves(*given)).save(tmp_path / "a.png")
    sent = file_data(upload(server, tmp_path / "a.png"))
    answer = result(
        server, "segment_image", submit(server, "segment_image", "model.engine", sent, 2, 0.5, [])
    )
    labels = np.asarray(Image.open(answer[2]["path"]))
    assert labels.shape == shown and set(np.unique(labels)) == {2}
    assert answer[4]["uncorrected"]["red"] == pytest.approx(0.5, abs=0.02)
    assert "on tensorrt" in answer[1]


@pytest.mark.parametrize("given", [(72, 96), (300, 200)])
def test_videos_too(server, tmp_path, given):
    clip = write_clip(tmp_path / "a.mp4", picture=halves(*given), times=range(5), sound="aac")
    sent = file_data(upload(server, clip))
    event = submit(server, "segment_video", "model.engine", sent, 2, 1, "colors")
    video, status = result(server, "segment_video", event)
    with av.open(video["path"]) as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
        assert container.streams.video[0].frames == 5
    assert pixels.shape[0] <= LARGEST[1] and pixels.shape[1] <= LARGEST[2]
    assert pixels[30, 30].tolist() == pytest.approx([0, 0, 255], abs=12)
    assert "5 frames in" in status and "on tensorrt, with its sound" in status


def test_the_card_is_the_engines(server):
    """It ended in an AttributeError: only ONNX Runtime's sessions know the file's metadata."""
    with urlopen(f"{server.url}/config") as answer:
        components = json.load(answer)["components"]
    card = next(c["props"]["value"] for c in components if c["props"].get("elem_id") == "card")
    for words in (
        "model.engine",
        "tensorrt",
        "RGB, up to 96x128, larger ones are made smaller (height x width)",
        "strongest channel",
    ):
        assert words in card


@pytest.mark.parametrize("command", ["demo", "image", "video"])
@pytest.mark.parametrize("provider", ["cpu", "cuda", "openvino"])
def test_another_provider_is_refused(tmp_path, command, provider):
    engine = write_engine(write_graph(tmp_path / "model.onnx"), LARGEST)
    Image.fromarray(halves(64, 80)).save(tmp_path / "a.png")
    write_clip(tmp_path / "a.mp4")
    more = {
        "demo": [],
        "image": [str(tmp_path / "a.png"), "-o", str(tmp_path / "out")],
        "video": [str(tmp_path / "a.mp4"), "-o", str(tmp_path / "out.mp4")],
    }[command]
    done = CliRunner().invoke(main, [command, str(engine), *more, "--provider", provider])
    assert done.exit_code == 2 and (
        f"--provider {provider} can't run {engine}, an engine, which runs on TensorRT alone; leave it out"
    ) in " ".join(done.output.split())
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.mp4").exists()
