"""A demo that gathers: what visitors' pictures were counted as is written when it is stopped."""

from pathlib import Path

import gradio_client
import pytest
from api_client import segment
from demo_server import demo
from serve_graphs import write_graph

from serve.gathering.rule import Rule
from serve.gathering.store import Gathered

pytestmark = pytest.mark.usefixtures("downloads_go_with_the_test")


def test_a_demo_gathers_until_it_is_stopped(tmp_path: Path, picture: Path) -> None:
    graph = write_graph(
        tmp_path / "sliding.onnx", runtime_tau=True, extras=True, gather=Rule(-0.25, 1.0, (0.0, 0.0, 0.0))
    )
    options = ("--gather", tmp_path / "f", "--gather-every", 1, "--gather-save", 1000)
    with demo(tmp_path / "server", graph, *options) as running:
        segment(gradio_client.Client(running.url, verbose=False), picture)
    counts = Gathered(tmp_path / "f").total()
    assert counts.pixels.tolist() == [20 * 13, 20 * 12, 0]
    assert Gathered(tmp_path / "f").head.records[0].frames == 1
    assert not list(tmp_path.glob(".f*"))
