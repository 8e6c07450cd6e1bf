"""Files of several corrections where other runtimes take them: engines are fed the number, Triton is not."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import engine_stand_in
import numpy as np
import onnx
import pytest
from engine_stand_in import write_engine
from engines import PROFILE, RTX, call, needs_tensorrt
from onnx_segmenters import card, pictures, plain_segmenter, statistics

import serve.inference.engine
from export.deploy.tensorrt import build_engine
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info
from serve import Segmenter
from serve.inference.engine import read_sidecar

NAMES = ("day", "night")


def graph(runtime: bool = False, seeds: tuple[int, int] = (0, 1)) -> onnx.ModelProto:
    day, night = (
        Strength(statistics(3, seed), name, 0.5, runtime, profile=name)
        for seed, name in zip(seeds, NAMES, strict=True)
    )
    return fold(plain_segmenter(3), card(3), replace(day, others=(night,)), Extras(scores=True))


class TestBuilds:
    pytestmark = needs_tensorrt

    @pytest.mark.parametrize("runtime", [False, True])
    def test_with_the_number_as_an_input_that_must_be_fed(self, runtime, tmp_path):
        model, engine = graph(runtime), tmp_path / "x.engine"
        assert build_engine(model, engine, PROFILE, RTX).size > 10_000
        sidecar = json.loads(engine.with_name(engine.name + ".json").read_text())
        assert sidecar["inputs"] == ["image", *(["tau"] if runtime else []), "profile"]
        assert read_sidecar(engine).info == graph_info(model, "")


@pytest.fixture
def stood_in(monkeypatch):
    """ONNX Runtime in the place of TensorRT."""
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: data)
    library = SimpleNamespace(Logger=engine_stand_in._Logger, Runtime=lambda logger: runtime)
    monkeypatch.setattr(serve.inference.engine, "_library", lambda name: library)
    monkeypatch.setattr(serve.inference.engine, "EngineSession", engine_stand_in.StandIn)


def engine_of(folder: Path, model: onnx.ModelProto) -> Path:
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return write_engine(folder / "model.onnx", (2, 128, 192))


@pytest.mark.parametrize("runtime", [False, True])
def test_an_engine_is_fed_the_number(runtime, stood_in, tmp_path, monkeypatch):
    engine = engine_of(tmp_path / "e", graph(runtime))
    fed = []
    run = engine_stand_in.StandIn.run
    monkeypatch.setattr(
        engine_stand_in.StandIn, "run", lambda self, feed: fed.append(feed) or run(self, feed)
    )
    image = pictures(1, 64, 96)[0]
    for number, name in enumerate(NAMES):
        expected = Segmenter(engine.with_suffix(".onnx"), profile=name)(image).labels
        np.testing.assert_array_equal(Segmenter(engine, profile=name)(image).labels, expected)
        assert fed[-1]["profile"] == number and fed[-1]["profile"].dtype == np.int32
        assert ("tau" in fed[-1]) == runtime


def test_an_engine_is_checked_under_each(stood_in, tmp_path):
    engine = engine_of(tmp_path / "e", graph())
    code, said = call("verify", engine, "--against", engine.with_suffix(".onnx"))
    assert code == 0 and "profiles day, night; numbers are of day" in said, said
    assert read_sidecar(engine).info.verification["profiles"] == ["day", "night"]
    onnx.save(graph(seeds=(0, 2)), tmp_path / "other.onnx")
    code, said = call("verify", engine, "--against", tmp_path / "other.onnx")
    assert code == 1 and "numbers are of night" in said, said
    onnx.save(fold(plain_segmenter(3), card(3), Strength(statistics(3), "one", 0.5)), tmp_path / "one.onnx")
    code, said = call("verify", engine, "--against", tmp_path / "one.onnx")
    assert code == 2 and "has the profiles day, night, but" in said and "has none; give" in said


def test_triton_is_given_no_engine_of_several(tmp_path):
    code, said = call("triton", engine_of(tmp_path / "e", graph()), "-o", tmp_path / "models")
    assert code == 2 and "must be fed a profile" in said and "--profile day -o ONE.onnx" in said
