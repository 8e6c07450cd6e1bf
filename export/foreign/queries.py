"""Query models (MaskFormer, Mask2Former, OneFormer, EoMT): the per-class map, built inside the graph.

Such a network gives Q queries, each a distribution over the C classes and "no object", and a mask. Its
semantic map is

    p[c] = sum_q softmax(class[q])[c] * sigmoid(mask[q]),        c without "no object", the last

(Cheng et al. 2021, "Per-Pixel Classification is Not All You Need", section 3.4), as transformers'
post_process_semantic_segmentation has it. What is balanced are its logarithms, whose best class is the same.

Other models have queries or boxes too and no semantic map; they are refused by name.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from adapt.errors import InputError
from export.foreign.graph import FLOATS, describe, opset, rank, value_type

CLASSES = ("class_queries_logits", "pred_logits", "mask_cls_results", "mask_cls")
MASKS = ("masks_queries_logits", "pred_masks", "mask_pred_results", "mask_pred")
"""What transformers, Detectron2's and OpenMMLab's exports call the two outputs."""
BOXES = ("pred_boxes", "boxes", "dets", "bboxes", "pred_bboxes")
_LEAST = 1e-30
"""p that its logarithm is taken of at least: what float32 leaves of a class that no query names."""
_PREFIX = "queries/"


class Queries(NamedTuple):
    """The two values of a query model."""

    classes: str
    """[N, Q, C + 1], in logits."""
    masks: str
    """[N, Q, h, w], in logits."""

    @property
    def name(self) -> str:
        """Both, as --output takes them."""
        return f"{self.classes},{self.masks}"


def find_queries(model: onnx.ModelProto, output: str | None, path: Path) -> Queries | None:
    """The two values whose product is the semantic map; None of a model that has no queries.

    Args:
        output: None looks at the outputs; CLASSES,MASKS names both values.

    Raises:
        InputError: a model that finds objects, and says nothing of every pixel.
    """
    made = {name for node in model.graph.node for name in node.output}
    if output is not None:
        parts = output.split(",")
        return Queries(*parts) if len(parts) == 2 and output not in made and made.issuperset(parts) else None
    floats = {v.name: v for v in model.graph.output if value_type(v) in FLOATS}
    _refuse_objects(model, floats, path)
    names = [next((n for n in known if n in floats), None) for known in (CLASSES, MASKS)]
    if names[0] is not None and names[1] is not None:
        return Queries(names[0], names[1])
    return None


def _refuse_objects(model: onnx.ModelProto, floats: dict[str, onnx.ValueInfoProto], path: Path) -> None:
    """Refuse detectors and instance segmenters by what their outputs are called."""
    tasks = [p.value for p in model.metadata_props if p.key == "task"]
    outputs, kind = describe(model.graph.output), ""
    ranks = {rank(value) for value in floats.values()}
    if tasks and tasks[0] in ("detect", "segment", "pose", "obb", "classify"):
        kind = f"its metadata say task={tasks[0]} (Ultralytics)"
    elif any(name in floats for name in BOXES):
        kind = "it gives boxes, as DETR and RF-DETR do"
    elif set(floats) == {"output0", "output1"} and ranks == {3, 4}:
        kind = "it gives boxes and mask prototypes, as YOLO's segmenters do"
    if kind:
        raise InputError(
            f"{path} is no semantic segmenter: {kind} ({outputs}), so it has no score of every class at "
            "every pixel to balance; give a semantic model, or name a value that has them with --output."
        )


def with_map(model: onnx.ModelProto, queries: Queries, path: Path) -> tuple[onnx.ModelProto, str]:
    """A copy with the logarithm of the semantic map as a value more, and its name.

    Raises:
        InputError: the graph is too old for the operators of the map.
    """
    if opset(model) < 11:
        raise InputError(f"{path} has opset {opset(model)}, a query model needs 11; export it again.")
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    constants = {
        "first": np.array([0]),
        "last": np.array([-1]),
        "axis": np.array([2]),
        "flat": np.array([0, 0, -1]),
        "sides": np.array([2, 3]),
        "keep": np.array([0, 0]),
        "least": np.array(_LEAST, np.float32),
        "one": np.array(1, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(v, _PREFIX + name) for name, v in constants.items())

    def add(kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        names = [_PREFIX + i if i in constants else i for i in inputs]
        graph.node.append(helper.make_node(kind, names, [_PREFIX + name], _PREFIX + name, **attributes))
        return _PREFIX + name

    said = add("Cast", [queries.classes], "classes", to=TensorProto.FLOAT)
    masks = add("Cast", [queries.masks], "masks", to=TensorProto.FLOAT)
    shares = add("Softmax", [said], "softmax", axis=2)
    shares = add("Slice", [shares, "first", "last", "axis"], "without_no_object")  # [N, Q, C]
    shares = add("Transpose", [shares], "by_class", perm=[0, 2, 1])
    # Not Sigmoid: ONNX Runtime's is exact to 1e-8, and the logarithm sees what is below that.
    odds = add("Add", [add("Exp", [add("Neg", [masks], "minus")], "odds_against"), "one"], "odds")
    places = add("Reshape", [add("Reciprocal", [odds], "sigmoid"), "flat"], "places")  # [N, Q, h * w]
    product = add("MatMul", [shares, places], "sums")
    sides = add("Gather", [add("Shape", [masks], "shape"), "sides"], "size", axis=0)
    shape = add("Concat", ["keep", sides], "map_shape", axis=0)
    product = add("Reshape", [product, shape], "map")
    return whole, add("Log", [add("Max", [product, "least"], "at_least")], "logits")
