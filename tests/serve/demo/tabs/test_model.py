"""The Model tab, and models that hold several corrections."""

from pathlib import Path

from serve_graphs import halves, write_graph

from serve import Segmenter
from serve.demo.page import model_names
from serve.demo.start import every_profile
from serve.demo.tabs.model import model_html


def test_each_correction_of_a_model_is_a_model_of_its_own(tmp_path: Path) -> None:
    """That of --profile first; they share one open graph, and the page tells them apart."""
    graph = write_graph(tmp_path / "m.onnx", profiles={"day": 0.0, "night": 1.0})
    opened = [Segmenter(graph, profile="night"), Segmenter(write_graph(tmp_path / "plain.onnx"))]
    named = model_names(every_profile(opened))
    assert list(named) == ["m.onnx (night)", "m.onnx (day)", "plain.onnx"]
    night, day = named["m.onnx (night)"], named["m.onnx (day)"]
    assert night is opened[0] and day.runtime is night.runtime
    assert (night(halves()).labels == 2).all() and not (day(halves()).labels == 2).any()
    assert "tau = 1, folded" in model_html(night) and "tau = 0, folded" in model_html(day)
