"""Graphs of too many weights for one file, with the limit lowered: a twin in one file says what is right."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from calibrated_models import NORMALISED, call, images_of
from click.testing import CliRunner
from foreign_segmenters import write_pictures, write_segmenter
from onnx import numpy_helper

import export.pipeline
import export.weights.beside
from adapt.errors import InputError
from export.deploy.tensorrt import Options, Profile, build_engine
from export.fold.fingerprint import fingerprint
from export.fold.folded import lineage
from export.sources.source import read_model
from export.weights.beside import array_of, files, outside, read
from serve import Segmenter
from serve.cli.commands import main as serve_main


@pytest.fixture(autouse=True)
def low(monkeypatch):
    """Everything counts as too much for one file, and of weights only single numbers are read anyway."""
    monkeypatch.setattr(export.weights.beside, "LARGEST", 100)
    monkeypatch.setattr(export.weights.beside, "_TAKEN_IN", 16)


def outlying(path: Path, **settings: object) -> Path:
    """The classifier with its weights in a folder beside it."""
    write_segmenter(path, **settings)
    (path.parent / "weights").mkdir(exist_ok=True)
    location = f"weights/{path.stem}.bin"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location=location, size_threshold=0)
    return path


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("footage"))


def balanced(model: Path, footage: Path, out: Path, *options: object) -> str:
    names = ("--classes", footage / "classes.yaml")
    result = call("balance", model, "--target", footage / "images", *NORMALISED, *names, "-o", out, *options)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def made(footage, tmp_path) -> Path:
    out = tmp_path / "made" / "balanced.onnx"
    out.parent.mkdir()
    balanced(outlying(tmp_path / "theirs.onnx"), footage, out)
    return out


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def beside(file: Path) -> Path:
    (data,) = file.parent.glob(f"{file.name}.*.data")
    return data


def test_the_file_and_its_weights_say_what_one_file_says(made, footage, tmp_path, monkeypatch):
    data = beside(made)
    assert names(made.parent) == ["balanced.html", "balanced.onnx", data.name]
    graph = onnx.load(made, load_external_data=False)
    assert {t.external_data[0].value for t in outside(graph)} == {data.name}
    monkeypatch.setattr(export.weights.beside, "LARGEST", 2**31)
    twin = tmp_path / "twin" / "balanced.onnx"
    twin.parent.mkdir()
    balanced(tmp_path / "theirs.onnx", footage, twin)
    assert names(twin.parent) == ["balanced.html", "balanced.onnx"]
    one, other = Segmenter(twin), Segmenter(made)
    for image in images_of(footage):
        assert (one(image).labels == other(image).labels).all()
    assert lineage(read_model(twin)).sha256 == lineage(read_model(made)).sha256


def test_the_parts_and_what_follows_take_it_too(made, footage, tmp_path):
    theirs, stats, again = tmp_path / "theirs.onnx", tmp_path / "stats.safetensors", tmp_path / "again.onnx"
    for arguments in (
        ("calibrate", theirs, "--target", footage / "images", *NORMALISED, "-o", stats),
        ("onnx", theirs, "--stats", stats, "-o", again),
        ("onnx", made, "--tau", 0.2, "-o", tmp_path / "weaker.onnx"),
        ("verify", made, "--data", footage / "images"),
        ("verify", tmp_path / "weaker.onnx"),
        ("show", made),
        ("eval", made, "--data", footage),
    ):
        result = call(*arguments)
        assert result.exit_code == 0, result.output
    for file in (made, again, tmp_path / "weaker.onnx"):
        assert beside(file).stat().st_size == beside(made).stat().st_size
    assert Segmenter(tmp_path / "weaker.onnx").correction.tau == 0.2
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (made, beside(made)):
        shutil.copy(path, moved)
    (moved / made.name).rename(moved / "another-name.onnx")  # the weights keep theirs
    assert call("verify", moved / "another-name.onnx").exit_code == 0
    assert len(names(moved)) == 2


def test_a_graph_without_its_weights_is_one_sentence(made, footage, tmp_path):
    data = beside(made)
    for change in (lambda: data.write_bytes(data.read_bytes()[:-100]), data.unlink):
        change()
        with pytest.raises(InputError, match=r"weights in a file beside it.*copy both together\.$"):
            Segmenter(made)
        for arguments in (("verify", made), ("onnx", made, "-o", tmp_path / "new.onnx"), ("show", made)):
            result = call(*arguments)
            assert result.exit_code == 2 and "copy both together" in result.output
            assert data.name in result.output
    (tmp_path / "weights" / "theirs.bin").write_bytes(b"")
    result = call("balance", tmp_path / "theirs.onnx", "--target", footage, "-o", tmp_path / "new.onnx")
    assert result.exit_code == 2 and "weights in weights/theirs.bin" in result.output


def test_weights_of_another_network_are_seen(made):
    data = beside(made)
    data.write_bytes(data.read_bytes()[:-4] + np.float32(7).tobytes())
    result = call("verify", made)
    assert result.exit_code == 1 and "is not the one that was exported" in result.output


def test_the_size_that_is_said_counts_the_weights(made):
    total = made.stat().st_size + beside(made).stat().st_size
    said = json.loads(CliRunner().invoke(serve_main, ["info", str(made), "--json"]).output)
    assert 0 <= total - said["bytes"] < 2**17  # what lies between them is left out
    assert said["bytes"] > made.stat().st_size


def test_a_new_one_leaves_nothing_of_the_one_before(made, footage, tmp_path, monkeypatch):
    before = beside(made).name
    other = outlying(tmp_path / "other.onnx", upsample=True)
    balanced(other, footage, made, "--force")
    assert len(names(made.parent)) == 3 and beside(made).name != before
    assert Segmenter(made)(images_of(footage)[0]).labels.shape == (64, 96)
    (made.parent / "balanced.onnx.notes.data").write_text("somebody's own")
    monkeypatch.setattr(export.weights.beside, "LARGEST", 2**31)
    balanced(other, footage, made, "--force")
    assert names(made.parent) == ["balanced.html", "balanced.onnx", "balanced.onnx.notes.data"]


def test_a_check_that_fails_leaves_nothing(footage, tmp_path, monkeypatch):
    model, out = outlying(tmp_path / "theirs.onnx"), tmp_path / "made"
    out.mkdir()

    def fails(*_: object) -> None:
        assert len(names(out)) == 2  # unfinished, both of them
        raise InputError("it fails.")

    monkeypatch.setattr(export.pipeline, "verify", fails)
    result = call("balance", model, "--target", footage / "images", *NORMALISED, "-o", out / "b.onnx")
    assert result.exit_code == 2 and result.output.endswith("Error: it fails.\n")
    assert names(out) == []


def test_what_needs_one_file_is_refused_in_a_sentence(made, footage, tmp_path):
    for precision in (("fp16",), ("int8", "--calibrate", footage / "images")):
        result = call("onnx", made, "--precision", *precision, "-o", tmp_path / "less.onnx")
        assert result.exit_code == 2 and "is for networks of up to 2 GB" in result.output
    shape = (1, 64, 96)
    with pytest.raises(InputError, match="engines are built of graphs of up to 2 GB"):
        build_engine(read_model(made), tmp_path / "e.engine", Profile(shape, shape, shape), Options())
    old = outlying(tmp_path / "old.onnx", opset=11)
    result = call("balance", old, "--target", footage / "images", *NORMALISED, "-o", tmp_path / "new.onnx")
    assert result.exit_code == 2 and "opset 11 and more than 2 GB" in result.output
    assert call("triton", made, "-o", tmp_path / "models", "--name", "m").exit_code == 0
    assert names(tmp_path / "models" / "m" / "1") == [beside(made).name, "model.onnx"]
    assert Segmenter(tmp_path / "models" / "m" / "1" / "model.onnx").card.classes


def test_the_fingerprint_does_not_depend_on_where_weights_lie(tmp_path):
    path = outlying(tmp_path / "theirs.onnx", inside=255)
    light, whole = read(path), onnx.load(path)
    assert [t.name[:4] for t in outside(light)] == ["Conv"] and not outside(whole)
    assert fingerprint(light) == fingerprint(whole)
    assert [f.name for f in files(light)] == ["theirs.bin"]


@pytest.mark.parametrize("kind", ["float16", "int64", "bfloat16", "int4"])
def test_weights_of_every_type_are_read_where_they_lie(kind, tmp_path, monkeypatch):
    own = np.dtype(getattr(ml_dtypes, kind)) if kind in ("bfloat16", "int4") else np.dtype(kind)
    values = np.arange(-6, 7).astype(own)
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    tensor = numpy_helper.from_array(values, "w")
    graph = onnx.helper.make_graph(
        [node], "g", [], [onnx.helper.make_tensor_value_info("y", tensor.data_type, [13])], [tensor]
    )
    model, path = onnx.helper.make_model(graph), tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.setattr(export.weights.beside, "_TAKEN_IN", 0)
    (found,) = outside(read(path))
    assert (array_of(found) == values).all() and array_of(found).dtype == own
    assert fingerprint(read(path)) == fingerprint(onnx.load(path))
