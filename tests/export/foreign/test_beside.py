"""What makers write in and beside their models: one normalisation, names and order, however it is said."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from calibrated_models import call
from foreign_segmenters import MEAN, NAMES, STD, write_pictures, write_segmenter
from onnx import TensorProto

from adapt.errors import InputError
from export.fold.folded import graph_info
from export.foreign.beside import read_beside
from export.foreign.convention import Told, intake
from export.foreign.network import open_network

OF_255 = {"mean": [255 * m for m in MEAN], "std": [255 * s for s in STD]}
ID2LABEL = {str(c): name for c, name in enumerate(NAMES)}


def normalize(**settings: object) -> dict[str, object]:
    return {"pipeline": {"tasks": [{"module": "Net"}, {"transforms": [{"type": "Normalize", **settings}]}]}}


def nvinfer(channels: int, offsets: list[float], scale: float) -> str:
    listed = ";".join(map(str, offsets))
    return (
        f"[property]\nnet-scale-factor={scale}\noffsets={listed}\nmodel-color-format={channels}\n"
        "labelfile-path=labels.txt\n[class-attrs-all]\nx=%1\n"
    )


EVEN = (0.25, 0.25, 0.25)
SAID = {
    "transformers": ("preprocessor_config.json", {"image_mean": MEAN, "image_std": STD}, MEAN, STD, "RGB"),
    "transformers, of 255": (
        "preprocessor_config.json",
        {"do_normalize": True, "do_rescale": False, "image_mean": OF_255["mean"], "image_std": OF_255["std"]},
        *(MEAN, STD, "RGB"),
    ),
    "transformers, another factor": (
        "preprocessor_config.json",
        {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
        *((0.5,) * 3, (0.5,) * 3, "RGB"),
    ),
    "transformers, not normalised, flipped, as MobileViT": (
        "preprocessor_config.json",
        {"do_normalize": False, "do_rescale": True, "do_flip_channel_order": True, "image_mean": [9, 9, 9]},
        *((0,) * 3, (1,) * 3, "BGR"),
    ),
    "transformers, beside a tokenizer": (
        "processor_config.json",
        {"image_processor": {"image_mean": MEAN, "image_std": STD}, "processor_class": "OneFormerProcessor"},
        *(MEAN, STD, "RGB"),
    ),
    "mmdeploy": ("pipeline.json", normalize(to_rgb=True, **OF_255), MEAN, STD, "RGB"),
    "mmdeploy, BGR": (
        "pipeline.json",
        normalize(to_rgb=False, mean=OF_255["mean"][::-1], std=OF_255["std"][::-1]),
        *(MEAN, STD, "BGR"),
    ),
    "PaddleSeg": (
        "deploy.yaml",
        {"Deploy": {"transforms": [{"type": "Normalize", "mean": list(MEAN), "std": list(STD)}]}},
        *(MEAN, STD, "RGB"),
    ),
    "PaddleSeg, its default": (
        "deploy.yaml",
        {"Deploy": {"transforms": [{"type": "Normalize"}]}},
        *((0.5,) * 3, (0.5,) * 3, "RGB"),
    ),
    "NVIDIA TAO": ("nvinfer_config.txt", nvinfer(0, OF_255["mean"], 1 / 63.75), MEAN, EVEN, "RGB"),
    "NVIDIA TAO, BGR": ("nvinfer_config.txt", nvinfer(1, OF_255["mean"][::-1], 1 / 63.75), MEAN, EVEN, "BGR"),
}


def write(file: Path, content: object) -> None:
    text = yaml.safe_dump(content) if file.suffix == ".yaml" else json.dumps(content)
    file.write_text(content if isinstance(content, str) else text)


@pytest.mark.parametrize("kind", SAID)
def test_normalisation_and_order_are_read(kind, tmp_path):
    name, content, mean, std, order = SAID[kind]
    write(tmp_path / name, content)
    path = write_segmenter(tmp_path / "model.onnx")
    taken = intake(onnx.load(path), Told(), path)
    assert taken.mean == pytest.approx(mean) and taken.std == pytest.approx(std)
    assert taken.channel_order == order and name in taken.found[1]
    told = intake(onnx.load(path), Told(mean=(0.1,) * 3, std=(0.2,) * 3, channel_order="BGR"), path)
    assert told.mean == pytest.approx((0.1,) * 3) and told.channel_order == "BGR"


def resize(**settings: object) -> dict[str, object]:
    return {"Deploy": {"transforms": [{"type": "Resize", **settings}, {"type": "Normalize"}]}}


SIZES: dict[str, tuple[str, dict[str, object], tuple[int, int] | None, str]] = {
    "SegFormer": ("preprocessor_config.json", {"size": {"height": 64, "width": 96}}, (64, 96), "size of"),
    "as older ones": ("preprocessor_config.json", {"size": 96, "do_resize": True}, (96, 96), "size of"),
    "not resized": ("preprocessor_config.json", {"size": 96, "do_resize": False}, None, ""),
    "MobileViT": (
        "preprocessor_config.json",
        {"size": {"shortest_edge": 288}, "crop_size": {"height": 64, "width": 64}, "do_center_crop": True},
        *((64, 64), "crop_size of"),
    ),
    "a crop that is not made": (
        "preprocessor_config.json",
        {"size": 96, "crop_size": 64, "do_center_crop": False},
        *((96, 96), "size of"),
    ),
    "Mask2Former": (
        "preprocessor_config.json",
        {"size": {"shortest_edge": 288, "longest_edge": 2048}},
        *(None, "brings their shorter side to 288"),
    ),
    "older MaskFormer": (
        "preprocessor_config.json",
        {"size": 288, "max_size": 2048},
        *(None, "brings their shorter side to 288"),
    ),
    "DPT, as wide as the picture": (
        "preprocessor_config.json",
        {"size": {"height": 64, "width": 64}, "keep_aspect_ratio": True},
        *(None, ""),
    ),
    "PaddleSeg, width first": ("deploy.yaml", resize(target_size=[96, 64]), (64, 96), "Resize of"),
    "PaddleSeg, as wide as the picture": (
        "deploy.yaml",
        resize(target_size=[96, 64], keep_ratio=True),
        *(None, ""),
    ),
}


@pytest.mark.parametrize("kind", SIZES)
def test_sizes_that_pictures_are_brought_to_are_read(kind, tmp_path):
    name, content, size, words = SIZES[kind]
    write(tmp_path / name, content)
    path = write_segmenter(tmp_path / "model.onnx", inside=1)
    taken = intake(onnx.load(path), Told(), path)
    assert taken.size == size and words in taken.found[-1]
    assert taken.found[-1].startswith("any size" if size is None else f"size {size[0]}x{size[1]}")
    assert intake(onnx.load(path), Told(size=(128, 160)), path).found[-1] == "size 128x160", "as told"
    fixed = write_segmenter(tmp_path / "fixed.onnx", inside=1, size=(32, 32))
    assert intake(onnx.load(fixed), Told(), fixed).size == (32, 32), "it takes no other"


@pytest.mark.parametrize("said", ["512", {"height": 512}, {"height": 64.5, "width": 64}, [1, 2, 3], 0, True])
def test_a_damaged_size_is_a_sentence(said, tmp_path):
    write(tmp_path / "preprocessor_config.json", {"size": said})
    path = write_segmenter(tmp_path / "model.onnx", inside=1)
    with pytest.raises(InputError, match="can't be understood"):
        intake(onnx.load(path), Told(), path)


def test_bgr_numbers_are_those_of_its_own_user(tmp_path):
    """mmdeploy without to_rgb: the picture is BGR, and so are its numbers."""
    path = write_segmenter(tmp_path / "model.onnx", order="BGR")
    write(tmp_path / "pipeline.json", SAID["mmdeploy, BGR"][1])
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    numbers = (np.array(OF_255[key][::-1]) for key in ("mean", "std"))
    mean, std = numbers
    pixels = ((image[..., ::-1] - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]
    import onnxruntime

    own = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"picture": pixels}
    )
    opened = open_network(path, Told(), None)
    np.testing.assert_allclose(opened.logits(image[None]), own[0], atol=1e-4)


def test_pixels_of_whole_numbers_are_never_normalised(tmp_path):
    path = write_segmenter(tmp_path / "model.onnx", inside=255, dtype=TensorProto.UINT8)
    write(tmp_path / "preprocessor_config.json", SAID["transformers"][1])
    assert intake(onnx.load(path), Told(), path).std == pytest.approx((1 / 255,) * 3)


def test_a_model_of_ultralytics_runs_in_one_try(tmp_path):
    footage = write_pictures(tmp_path / "footage", count=3)
    path = write_segmenter(tmp_path / "model.onnx", inside=1)
    model = onnx.load(path)
    said = {"names": str(dict(enumerate(NAMES))), "stride": "32", "imgsz": "[64, 96]", "task": "semantic"}
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    made = call("balance", path, "--target", footage / "images", "-o", tmp_path / "out.onnx")
    assert made.exit_code == 0, made.output
    assert "4: ground, sky, wall, sign (its metadata)" in made.output
    assert "mean 0, std 1 (pixels from 0 to 1, as Ultralytics' metadata mean)" in made.output
    assert "64x96 (height x width, imgsz of its metadata)" in made.output
    assert graph_info(onnx.load(tmp_path / "out.onnx"), "").card.size == (64, 96)
    assert intake(model, Told(size=(96, 128)), path).size == (96, 128)
    for number, damaged in ((0, "{0: 'ground', 1"), (2, "[64]"), (2, "['a', 96]"), (2, "0")):
        before = model.metadata_props[number].value
        model.metadata_props[number].value = damaged
        onnx.save(model, path)
        other = call("balance", path, "--target", footage / "images", "-o", tmp_path / "other.onnx")
        assert other.exit_code == 2 and "names, stride or imgsz can't be understood" in other.output
        model.metadata_props[number].value = before


def test_the_layout_of_the_hub_and_of_no_other_folder(tmp_path):
    for place in ("onnx", "else"):
        (tmp_path / place).mkdir()
        write_segmenter(tmp_path / place / "model.onnx")
    write(tmp_path / "config.json", {"id2label": ID2LABEL, "semantic_loss_ignore_index": 255})
    write(tmp_path / "preprocessor_config.json", SAID["transformers"][1])
    found = [
        read_beside(onnx.load(path), path)
        for path in (tmp_path / "onnx" / "model.onnx", tmp_path / "else" / "model.onnx")
    ]
    assert found[0].names == dict(enumerate(NAMES)) and found[0].mean == pytest.approx(MEAN)
    assert not found[1].names and found[1].mean is None


def test_names_of_another_number_of_classes_are_said_and_not_taken(tmp_path):
    footage = write_pictures(tmp_path / "footage", count=2)
    path = write_segmenter(tmp_path / "model.onnx", inside=1)
    (tmp_path / "labels.txt").write_text("ground;sky;wall\n")
    made = call("calibrate", path, "--target", footage / "images", "-o", tmp_path / "s.safetensors")
    assert made.exit_code == 0 and "class3" in made.output
    said = call("balance", path, "--target", footage / "images", "-o", tmp_path / "out.onnx")
    assert "labels.txt beside it names 3, not 4" in said.output
    (tmp_path / "labels.txt").write_text("\n".join(NAMES) + "\n")
    said = call("balance", path, "--target", footage / "images", "-o", tmp_path / "out.onnx", "--force")
    assert "ground, sky, wall, sign (labels.txt beside it)" in said.output


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "preprocessor_config.json",
            {"image_mean": "IMAGENET", "image_std": [1, 1, 1]},
            "image_mean is 'IMAGENET'",
        ),
        (
            "preprocessor_config.json",
            {"image_mean": [1, 2], "image_std": [1, 1, 1]},
            "image_mean is [1, 2], nei",
        ),
        ("preprocessor_config.json", {"image_mean": [0, 0, 0]}, "'image_std'"),
        ("preprocessor_config.json", {"image_mean": [0] * 3, "image_std": [1, 0, 1]}, "is above 0"),
        (
            "preprocessor_config.json",
            {"do_rescale": True, "rescale_factor": "1/255"},
            "rescale_factor is '1/255'",
        ),
        ("preprocessor_config.json", "{", "Expecting property name"),
        ("preprocessor_config.json", "[]", "no JSON object"),
        ("processor_config.json", {"image_processor": "none"}, "its image_processor holds no settings"),
        ("pipeline.json", {"pipeline": {}}, "'tasks'"),
        ("pipeline.json", normalize(mean=[1, 2, 3]), "'std'"),
        ("deploy.yaml", "Deploy: [", "can't be understood"),
        ("deploy.yaml", "nothing: 1", "'Deploy'"),
        ("nvinfer_config.txt", "[property]\noffsets=1;2\n", "offsets is [1.0, 2.0]"),
        ("nvinfer_config.txt", "net-scale-factor=1\n", "no section headers"),
    ],
)
def test_damaged_files_are_one_sentence(name, content, reason, tmp_path):
    path = write_segmenter(tmp_path / "model.onnx")
    write(tmp_path / name, content)
    target = write_pictures(tmp_path / "footage", count=1)
    said = call("balance", path, "--target", target / "images", "-o", tmp_path / "out.onnx")
    assert said.exit_code == 2, said.output
    assert (
        f"{name} can't be understood" in said.output and reason in said.output and "[2/5]" not in said.output
    )


def test_a_head_that_only_training_needs_is_no_question(tmp_path):
    """torchvision's models give `out` and `aux`."""
    model = onnx.load(write_segmenter(tmp_path / "model.onnx", inside=1, tail="two"))
    for old, new in ((model.graph.output[0].name, "out"), (model.graph.output[1].name, "aux")):
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
    model.graph.output[0].name, model.graph.output[1].name = "out", "aux"
    onnx.save(model, tmp_path / "model.onnx")
    assert open_network(tmp_path / "model.onnx", Told(), None).outlet.name == "out"
