"""What a graph takes beside the picture is fixed inside: by what lies beside it, or as the person says."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from calibrated_models import call, images_of
from foreign_inputs import FLAG, GIVEN, MASK, PIXEL_MASK, taking
from foreign_segmenters import write_pictures, write_segmenter
from foreign_steps import ends, step
from onnx import TensorProto
from refusals import expect_refusal
from task_files import IDS, one_former, task, write_tokenizer

from adapt.errors import InputError
from export import balance
from export.foreign.adapters import logits_graph_of
from export.foreign.convention import Told
from export.foreign.inputs.tokens import task_ids
from export.foreign.network import Network, open_network
from serve import Segmenter

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
UNIT = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def write(path: Path, change, **settings: object) -> Path:
    """The colour classifier, which normalises by itself, and what a change makes of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    change(onnx.load(write_segmenter(path, inside=1, **settings)), path)
    return path


def opened(path: Path, *inputs: str) -> Network:
    return open_network(path, Told(**UNIT, inputs=inputs), None)


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("footage"), count=3)


# ---- the task of a OneFormer ------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("length", [20, 77])
def test_ids_are_those_of_transformers(whole, length, tmp_path):
    """Begin and end are there, and what fills up is 0, where CLIP's tokenizer fills up with its end."""
    from transformers import CLIPTokenizer, OneFormerImageProcessorPil, OneFormerProcessor

    tokenizer = CLIPTokenizer.from_pretrained(write_tokenizer(tmp_path / "theirs"), local_files_only=True)
    processor = OneFormerProcessor(OneFormerImageProcessorPil(num_text=3), tokenizer)
    right = processor._preprocess_text(["the task is semantic"], max_length=length)[0].tolist()
    found = task_ids(write_tokenizer(tmp_path / "ours", whole) / "model.onnx", length)
    assert found is not None and found.ids == right == task(length)[0].tolist()
    assert found.named_by == f"{'tokenizer' if whole else 'vocab'}.json beside it"


@pytest.mark.parametrize(
    ("file", "said", "length"),
    [
        ("processor_config.json", '{"task_seq_length": 20}', 20),
        ("config.json", '{"task_seq_len": 30}', 30),
        ("config.json", '{"task_seq_len": "many"}', 77),
        ("config.json", "no JSON", 77),
        ("config.json", "[]", 77),
    ],
)
def test_their_number_is_said_beside_where_the_graph_does_not_say_it(file, said, length, tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / file).write_text(said)
    found = task_ids(tmp_path / "onnx" / "model.onnx", None)
    assert found is not None and len(found.ids) == length


def test_a_tokenizer_is_looked_for_on_the_hub_s_way_alone(tmp_path):
    write_tokenizer(tmp_path)
    assert task_ids(tmp_path / "onnx" / "model.onnx", 77) is not None
    assert task_ids(tmp_path / "other" / "model.onnx", 77) is None
    (tmp_path / "merges.txt").unlink()
    assert task_ids(tmp_path / "model.onnx", 77) is None


def test_a_damaged_tokenizer_is_one_sentence(tmp_path, footage):
    model = write(tmp_path / "model.onnx", one_former)
    (tmp_path / "tokenizer.json").write_text("{")
    target = ("--target", footage / "images", "-o", tmp_path / "out.onnx")
    expect_refusal(
        call("balance", model, *target), "can't be understood as a tokenizer", "--input task_inputs="
    )


def test_a_one_former_is_balanced_by_its_own_tokenizer(footage, tmp_path):
    """From the hub's layout: labels are those that its ids give, and nobody has to say anything."""
    model = write(tmp_path / "hub" / "onnx" / "model.onnx", one_former)
    write_tokenizer(tmp_path / "hub")
    out = tmp_path / "out.onnx"
    said = call("balance", model, "--target", footage / "images", "--tau", 0, "-o", out)
    assert said.exit_code == 0, said.output
    assert 'task_inputs is the ids of "the task is semantic", by vocab.json beside it' in said.output
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    other = tmp_path / "other.onnx"
    of = ("--target", footage / "images", "--tau", 0)
    assert call("balance", model, *of, "--input", "task_inputs=3", "-o", other).exit_code == 0
    for image in images_of(footage):
        pixels = (image / 255).astype(np.float32).transpose(2, 0, 1)[None]
        classes, masks = session.run(None, {"picture": pixels, "task_inputs": task()})
        shares = np.exp(classes[0].astype(np.float64))
        shares = (shares / shares.sum(1, keepdims=True))[:, :-1]
        expected = np.einsum("qc,qhw->chw", shares, 1 / (1 + np.exp(-masks[0].astype(np.float64))))
        found = Segmenter(out)(image).labels[2::4, 2::4]
        best = np.sort(expected, axis=0)
        clear = np.log(best[-1]) - np.log(best[-2]) > 0.5  # upsampled, borders move
        assert clear.mean() > 0.2 and np.array_equal(found[clear], expected.argmax(0)[clear])
        assert (Segmenter(other)(image).labels != Segmenter(out)(image).labels).mean() > 0.1
    pictures = shutil.copytree(footage / "images", tmp_path / "pictures")  # without its class file
    assert call("verify", out, "--data", pictures).exit_code == 0


def test_parts_give_the_same_file_and_another_task_is_another_network(footage, tmp_path):
    model = write(tmp_path / "model.onnx", one_former)
    target, stats = ("--target", footage / "images"), tmp_path / "stats.safetensors"
    given = ("--input", f"task_inputs={GIVEN}")
    assert call("calibrate", model, *target, *given, "-o", stats).exit_code == 0
    corrected = tmp_path / "corrected.onnx"
    folding = ("--with-correction", "--stats", stats, "--data", footage / "images", "-o", corrected)
    made = call("onnx", model, *folding)
    assert made.exit_code == 0 and "passed: against" in made.output, made.output
    out = tmp_path / "out.onnx"
    assert call("balance", model, *target, *given, "-o", out).exit_code == 0
    for image in images_of(footage):
        assert np.array_equal(Segmenter(out)(image).labels, Segmenter(corrected)(image).labels)
    other = tmp_path / "other.safetensors"
    assert call("calibrate", model, *target, "--input", "task_inputs=7", "-o", other).exit_code == 0
    mixed = ("--with-correction", "--stats", other, "--data", footage / "images", "-o", tmp_path / "no.onnx")
    expect_refusal(call("onnx", corrected, *mixed), "were not gathered with the network")
    expect_refusal(call("balance", out, *target, *given, "-o", tmp_path / "again.onnx"), "exported here")


def test_what_is_asked_has_at_most_two_questions(footage, tmp_path):
    path = tmp_path / "model.onnx"
    one_former(onnx.load(write_segmenter(path)), path)
    said = call("balance", path, "--target", footage / "images", "-o", tmp_path / "out.onnx")
    assert said.exit_code == 2 and "the file leaves two things open" in said.output
    assert "1. " in said.output and "2. " in said.output and "3. " not in said.output
    assert "--input task_inputs=1,2,3 or --input task_inputs=FILE.npy; a tokenizer beside it" in said.output
    assert "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 (ImageNet)" in said.output


# ---- any other --------------------------------------------------------------------------------------------


def test_a_mask_is_as_large_as_the_pictures_however_many(tmp_path):
    for change, inputs in ((MASK, ("mask=1",)), (PIXEL_MASK, ())):
        network = opened(write(tmp_path / "model.onnx", change), *inputs)
        graph = logits_graph_of(network)
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        assert len(session.get_inputs()) == 1
        for size in ((64, 96), (32, 64)):
            pixels = np.random.default_rng(0).random((2, 3, *size), np.float32)
            found = session.run(None, {session.get_inputs()[0].name: pixels})[0]
            assert found.shape == (2, 4, size[0] // 4, size[1] // 4) and np.abs(found).max() > 0


def test_a_file_gives_what_it_holds(tmp_path):
    """A mask of half a picture: the rest has logits of 0."""
    path, mask = write(tmp_path / "model.onnx", MASK, size=(64, 96)), np.ones((1, 1, 64, 96))
    mask[..., 48:] = 0
    np.save(tmp_path / "mask.npy", mask)
    image = np.full((1, 64, 96, 3), 90, np.uint8)
    found = opened(path, f"mask={tmp_path / 'mask.npy'}").logits(image)
    assert np.abs(found[..., :12]).min() > 0 and np.abs(found[..., 12:]).max() == 0


@pytest.mark.parametrize(
    ("kind", "shape", "given", "expected"),
    [
        (INT64, [3], "1,2,3", [1, 2, 3]),
        (INT64, ["n"], "4,5", [4, 5]),
        (INT64, ["n", 2], "6,7", [[6, 7]]),
        (INT64, ["n", "l"], "6,7,8", [[6, 7, 8]]),
        (FLOAT, [2, 2], "0.5", [[0.5, 0.5], [0.5, 0.5]]),
        (FLOAT, [], "2", 2.0),
        (BOOL, [1], "True", [True]),
        (TensorProto.FLOAT16, [2], "1e-3,-2", [np.float16(1e-3), -2]),
    ],
)
def test_numbers_take_the_input_s_type_and_shape(kind, shape, given, expected, tmp_path):
    reads = ends(
        step("Cast", to=FLOAT)._replace(reads=("more",)),
        step("ReduceSum", keepdims=0),
        step("Add")._replace(reads=("logits", "$")),
    )
    network = opened(write(tmp_path / "model.onnx", taking("more", kind, shape, reads)), f"more={given}")
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in network.model.graph.initializer}
    found = tensors.get("more", tensors.get("inputs/more"))
    assert found is not None and found.tolist() == np.array(expected).tolist()
    plain = opened(write(tmp_path / "plain.onnx", ends(step("Identity"))))
    image = np.full((1, 64, 96, 3), 90, np.uint8)
    difference = network.logits(image) - plain.logits(image)
    np.testing.assert_allclose(difference, np.asarray(expected, float).sum(), atol=1e-2)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (["is_training"], ("NAME=VALUE is wanted",)),
        (["is_training="], ("NAME=VALUE is wanted",)),
        (["training=1"], ("is of no input of", "is_training (bool [])")),
        (["is_training=1", "is_training=0"], ("is given 2 times",)),
        (["is_training=2"], ("bool does not hold",)),
        (["is_training=0.5"], ("bool does not hold",)),
        (["is_training=yes"], ("neither numbers divided by commas nor the name of an .npy file",)),
        (["is_training=1,0"], ("has 2 numbers", "takes 1")),
        (["is_training=none.npy"], ("there is no such file",)),
        (["is_training={text}"], ("is no whole .npy file",)),
        (["is_training={long}"], ("has the shape [3]", "is what the graph takes")),
        (["is_training={object}"], ("is no whole .npy file",)),
        (["picture=1", "is_training=0"], ("it must have one that takes a picture",)),
    ],
)
def test_what_does_not_fit_is_one_sentence(inputs, words, footage, tmp_path):
    model = write(tmp_path / "model.onnx", FLAG)
    dropout = onnx.load(model)
    next(node for node in dropout.graph.node if node.op_type == "Dropout").input.append("is_training")
    onnx.save(dropout, model)
    files = {name: tmp_path / f"{name}.npy" for name in ("text", "long", "object")}
    files["text"].write_text("text")
    np.save(files["long"], np.zeros(3, bool))
    np.save(files["object"], np.array([{}]), allow_pickle=True)
    options = [word for each in inputs for word in ("--input", each.format(**files))]
    out = tmp_path / "out.onnx"
    expect_refusal(call("balance", model, "--target", footage / "images", *options, "-o", out), *words)
    assert not out.exists()


def test_the_picture_is_no_such_input(footage, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx", inside=1)
    target = ("--target", footage / "images", "-o", tmp_path / "out.onnx")
    expect_refusal(call("balance", model, *target, "--input", "picture=1"), "is the picture of")


def test_sizes_that_only_a_file_tells(tmp_path):
    summed = step("ReduceSum", keepdims=0)._replace(reads=("more",))
    reads = ends(summed, step("Add")._replace(reads=("logits", "$")))
    model = write(tmp_path / "model.onnx", taking("more", FLOAT, ["a", "b", "c"], reads))
    with pytest.raises(InputError, match="of which only a file tells the sizes"):
        opened(model, "more=1")
    np.save(tmp_path / "more.npy", np.ones((2, 3, 4)))
    assert opened(model, f"more={tmp_path / 'more.npy'}").outlet.classes == 4


def test_a_graph_too_old_to_bring_it_to_the_picture_s_size_is_refused(tmp_path):
    reads = ends(
        step("MaxPool", kernel_shape=[4, 4], strides=[4, 4])._replace(reads=("mask",), name="seen"),
        step("Mul")._replace(reads=("logits", "seen")),
    )
    model = write(tmp_path / "model.onnx", taking("mask", FLOAT, ["N", 1, "H", "W"], reads), opset=8)
    with pytest.raises(InputError, match="has opset 8, which can't bring mask to the picture's size"):
        opened(model, "mask=1")


def test_programs_say_it_as_the_command_does(footage, tmp_path):
    model = write(tmp_path / "model.onnx", one_former)
    ids = f"task_inputs={','.join(map(str, (*IDS, *[0] * 65)))}"
    made = balance(model, [footage / "images"], tmp_path / "out.onnx", inputs=[ids], tau=0.2)
    assert made.exported.verification.passed
