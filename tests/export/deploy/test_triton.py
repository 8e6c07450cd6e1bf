"""Model repositories, held to Triton's own schema."""

import hashlib
import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from onnx_segmenters import card, plain_segmenter, statistics

from adapt.errors import InputError
from export.cli.commands import main
from export.deploy.triton import open_model, write_repository
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info
from serve.card import to_metadata

model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")

ALL = Extras(scores=True, uncorrected_labels=True)


def graph(size=None, runtime=False, extras=ALL, classes=3) -> onnx.ModelProto:
    strength = Strength(statistics(classes), "random", 0.5, runtime) if classes < 9 else None
    return fold(plain_segmenter(classes), card(classes, size), strength, extras)


def written(folder: Path, model: onnx.ModelProto, name: str = "streets") -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


def configuration(folder: Path):
    """config.pbtxt by Triton's schema, which refuses unknown fields and wrong types."""
    text = (folder / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def engine_at(path: Path, model: onnx.ModelProto, most: tuple[int, int, int] = (4, 512, 512)) -> Path:
    """A file that stands for an engine, with its card."""
    path.write_bytes(b"plan")
    fields = {
        "library": "tensorrt 10.9.0",
        "sha256": hashlib.sha256(b"plan").hexdigest(),
        "profile": {"least": [1, 64, 64], "best": [1, 256, 320], "most": most},
        "outputs": [value.name for value in model.graph.output],
        "metadata": to_metadata(graph_info(model, "")),
    }
    path.with_name(path.name + ".json").write_text(json.dumps(fields))
    return path


def test_a_graph_of_any_size(tmp_path):
    file = written(tmp_path, graph(runtime=True))
    code, said = call("triton", file, "-o", tmp_path / "models", "--max-batch", 4, "--warm-up", "240x320")
    assert code == 0, said
    folder = tmp_path / "models" / "streets"
    assert (folder / "1" / "model.onnx").read_bytes() == file.read_bytes()
    assert (folder / "labels.txt").read_text() == "class0\nclass1\nclass2\n"
    config = configuration(folder)
    assert (config.name, config.backend, config.max_batch_size) == ("streets", "onnxruntime", 4)
    inputs = [(i.name, i.data_type, list(i.dims)) for i in config.input]
    assert inputs == [("image", model_config_pb2.TYPE_UINT8, [-1, -1, 3])]  # tau keeps its default
    outputs = {o.name: (o.data_type, list(o.dims)) for o in config.output}
    assert outputs == {
        "labels": (model_config_pb2.TYPE_UINT8, [-1, -1]),
        "uncorrected_labels": (model_config_pb2.TYPE_UINT8, [-1, -1]),
        "scores": (model_config_pb2.TYPE_FP32, [3, -1, -1]),
    }
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    warm = config.model_warmup[0].inputs["image"]
    assert list(warm.dims) == [240, 320, 3] and warm.zero_data
    assert f"tritonserver --model-repository={tmp_path / 'models'}" in said


def test_a_graph_of_one_size_and_of_many_classes(tmp_path):
    file = written(tmp_path, graph((64, 96), extras=Extras(), classes=300))
    config = configuration(write_repository(open_model(file, None, None), tmp_path / "models", "m"))
    assert [list(i.dims) for i in config.input] == [[64, 96, 3]]
    assert [(o.data_type, list(o.dims)) for o in config.output] == [(model_config_pb2.TYPE_UINT16, [64, 96])]
    assert list(config.model_warmup[0].inputs["image"].dims) == [64, 96, 3]


def test_a_graph_that_takes_a_fixed_number_of_pictures_is_not_batched(tmp_path):
    model = graph(extras=Extras())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    file = written(tmp_path, model)
    config = configuration(write_repository(open_model(file, None, None), tmp_path / "models", "m"))
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [2, -1, -1, 3] and list(config.output[0].dims) == [2, -1, -1]
    with pytest.raises(InputError, match="takes 2 at once and no other number"):
        open_model(file, 8, None)


def test_an_engine(tmp_path):
    file = engine_at(tmp_path / "streets.engine", graph())
    folder = write_repository(open_model(file, None, None), tmp_path / "models", "m")
    assert (folder / "1" / "model.plan").read_bytes() == b"plan"
    config = configuration(folder)
    assert (config.backend, config.max_batch_size) == ("tensorrt", 4)
    assert list(config.model_warmup[0].inputs["image"].dims) == [256, 320, 3]
    one = engine_at(tmp_path / "one.engine", graph(), (1, 512, 512))
    config = configuration(write_repository(open_model(one, None, None), tmp_path / "models", "one"))
    assert config.max_batch_size == 1 and not config.HasField("dynamic_batching")


def test_what_does_not_fit_is_refused(tmp_path):
    repository = tmp_path / "models"
    fixed, free = written(tmp_path, graph((64, 96)), "fixed"), written(tmp_path, graph(), "free")
    engine = engine_at(tmp_path / "e.engine", graph())
    sliding = engine_at(tmp_path / "tau.engine", graph(runtime=True))
    for arguments, message in (
        ((fixed, "--warm-up", "128x128"), "takes 64x96 only"),
        ((free, "--warm-up", "32x64"), "takes larger pictures"),
        ((free, "--warm-up", "32"), "is no size such as 512x1024"),
        ((free, "--name", "a/b"), "can't name a Triton model"),
        ((engine, "--max-batch", 5), "was built for 4 at most"),
        ((engine, "--warm-up", "1024x1024"), "was not built for"),
        ((sliding,), "must be fed tau"),
        ((tmp_path / "missing.onnx",), "does not exist"),
    ):
        code, said = call("triton", *arguments, "-o", repository)
        assert code == 2 and message in said, said
        assert not repository.exists()


def test_a_model_in_the_repository_is_kept_unless_forced(tmp_path):
    file = written(tmp_path, graph())
    assert call("triton", file, "-o", tmp_path / "models")[0] == 0
    code, said = call("triton", file, "-o", tmp_path / "models")
    assert code == 2 and "--force" in said
    (tmp_path / "models" / "streets" / "config.pbtxt").write_text("old")
    assert call("triton", file, "-o", tmp_path / "models", "--force")[0] == 0
    assert configuration(tmp_path / "models" / "streets").name == "streets"
    assert call("triton", file, "-o", tmp_path / "models", "--name", "second")[0] == 0
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["second", "streets"]
