"""What export reads, altered in every way: one sentence, no traceback."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from altered import alter, changed, paths, refused
from folded_graphs import folded
from onnx import numpy_helper
from onnx_segmenters import statistics
from safetensors import safe_open
from safetensors.torch import load, load_file, save, save_file
from serve_graphs import write_graph

from export.fold.folded import folded_statistics, graph_info
from export.foreign.convention import Intake
from export.foreign.inputs.fixed import Fixed
from export.foreign.network import Outlet
from export.sources.statistics_file import Calibrated, read_statistics, write_statistics
from serve.card import Key


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of statistics, as `export calibrate` writes it."""
    path = tmp_path_factory.mktemp("calibrated") / "stats.safetensors"
    value = base64.b64encode(numpy_helper.from_array(np.arange(3)).SerializeToString()).decode()
    taken = (Fixed("task", value),)
    intake = Intake("NCHW", "RGB", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), None, None, ("told",), taken)
    record = Calibrated(
        "model.onnx",
        "two pictures",
        ("a", "b", "c"),
        ((0, 0, 0), (1, 1, 1), (2, 2, 2)),
        (5, 6, 7),
        intake,
        Outlet("logits", "NCHW", 3, 4, 4),
    )
    write_statistics(path, statistics(3), record)
    read_statistics(path)
    return path


@pytest.mark.parametrize("change", ["removed", "null", "wrong"])
def test_every_key_of_a_file_of_statistics(calibrated: Path, tmp_path: Path, change: str) -> None:
    with safe_open(calibrated, "pt") as opened:
        record = json.loads(opened.metadata()["blda.calibration"])
    file, tensors, tried = tmp_path / "stats.safetensors", load_file(calibrated), 0
    for path in paths(record):
        if change != "wrong" and path[-1] in ("size", "batch", "network", "resized", "offset"):
            continue  # None where any will do
        if change == "removed" and (
            path[:-1] in (("intake", "found"), ("intake", "inputs"))
            or path[-1] in ("network", "masked", "inputs")
        ):
            continue  # older files have none
        save_file(tensors, file, {"blda.calibration": json.dumps(changed(record, path, change))})
        refused(lambda: read_statistics(file), str(file), "blda export calibrate")
        tried += 1
    assert tried > 25


@pytest.mark.parametrize("value", ["no base64", "bm8gdGVuc29y", ""])
def test_the_value_of_an_input(calibrated: Path, tmp_path: Path, value: str) -> None:
    with safe_open(calibrated, "pt") as opened:
        record = json.loads(opened.metadata()["blda.calibration"])
    record["intake"]["inputs"][0]["tensor"] = value
    file = tmp_path / "stats.safetensors"
    save_file(load_file(calibrated), file, {"blda.calibration": json.dumps(record)})
    refused(lambda: read_statistics(file), str(file), "the value of the input task is none")


@pytest.mark.parametrize("key", ["seen", "eps", "rows.means", "anchors.variances"])
def test_tensors_of_a_file_of_statistics(calibrated: Path, tmp_path: Path, key: str) -> None:
    file = tmp_path / "stats.safetensors"
    for change in (lambda t: t.pop(key), lambda t: t.update({key: torch.zeros(2, 3, 1)})):
        shutil.copy(calibrated, file)
        alter(file, change)
        refused(lambda: read_statistics(file), str(file), key)


def test_statistics_inside_a_graph(tmp_path: Path) -> None:
    model = folded()
    assert folded_statistics(model) is not None
    entry = next(entry for entry in model.metadata_props if entry.key == Key.STATISTICS)
    tensors = load(base64.b64decode(entry.value))
    for change in (lambda t: t.pop("seen"), lambda t: t.update({"seen": torch.ones(9)})):
        other = dict(tensors)
        change(other)
        entry.value = base64.b64encode(save(other)).decode()
        refused(lambda: folded_statistics(model), "statistics inside the graph", "seen")


@pytest.mark.parametrize("part", ["card", "correction"])
@pytest.mark.parametrize("change", ["removed", "null", "wrong"])
def test_every_key_of_a_graphs_card(tmp_path: Path, part: str, change: str) -> None:
    """Those that are left out have a meaning of their own."""
    model = onnx.load(write_graph(tmp_path / "graph.onnx"))
    entry = next(entry for entry in model.metadata_props if entry.key == f"blda.{part}")
    record = json.loads(entry.value)
    defaults = {("size",), ("minimum_size",), ("model",), ("license_note",), ("uncorrected",), ("excluded",)}
    for path in paths(record):
        if (change == "removed" and path in defaults) or (path == ("size",) and change == "null"):
            continue
        if change == "removed" and path[0] == "uncorrected":
            continue
        entry.value = json.dumps(changed(record, path, change))
        refused(lambda: graph_info(model, "graph.onnx"), "graph.onnx", "export it again")
