"""A OneFormer as small as can be: queries whose classes depend on the task, and the tokenizer beside it."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LENGTH = 77
MERGES = ("t h", "th e</w>", "i s</w>", "t a", "ta s", "tas k</w>", "s e")
IDS = (59, 53, 57, 54, 58, 12, 0, 13, 19, 8, 28, 60)
"""Of "the task is semantic" by `write_tokenizer`: begin, the, task, is, se m a n t i c, end."""


def task(length: int = LENGTH) -> np.ndarray:
    """[1, length] what OneFormer is given."""
    return np.array([[*IDS, *[0] * (length - len(IDS))]])


def write_tokenizer(folder: Path, whole: bool = False) -> Path:
    """vocab.json and merges.txt as CLIP has them, of letters; or both in tokenizer.json."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in MERGES),
    ]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    if whole:
        from transformers import CLIPTokenizer

        CLIPTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            (folder / name).unlink(missing_ok=True)
    return folder


def one_former(model: onnx.ModelProto, path: Path, length: int | str = LENGTH) -> None:
    """The classifier as a OneFormer: masks are its logits mixed, classes what the task makes them."""
    graph, last, rng = model.graph, model.graph.output[0].name, np.random.default_rng(0)
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    shape = [batch.dim_param or batch.dim_value, length]
    size = LENGTH if isinstance(length, str) else length
    weights = {
        "mix": rng.normal(0, 0.5, (7, 4, 1, 1)).astype(np.float32),
        "say": rng.normal(0, 0.02, (size, 7 * 4)).astype(np.float32),
        "of_queries": np.array([0, 7, 4]),
    }
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    graph.input.append(helper.make_tensor_value_info("task_inputs", TensorProto.INT64, shape))
    names = ("class_queries_logits", "masks_queries_logits")
    graph.node.extend(
        [
            helper.make_node("Cast", ["task_inputs"], ["task"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["task", "say"], ["said"]),
            helper.make_node("Reshape", ["said", "of_queries"], [names[0]]),
            helper.make_node("Conv", [last, "mix"], [names[1]]),
        ]
    )
    del graph.output[:]
    for name, dims in zip(names, (["n", 7, 4], ["n", 7, "h", "w"]), strict=True):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
    onnx.save(model, path)
