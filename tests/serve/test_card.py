"""The metadata contract: written, read back, and refused where it must be."""

import dataclasses
import json

import pytest
from serve_graphs import TAU, card

from serve.card import SCHEMA, Correction, GraphInfo, from_metadata, to_metadata
from serve.errors import InputError

CORRECTION = Correction(TAU, True, 8, 24, 0.01, 0.03, "31 dusk frames", ("green",))


@pytest.mark.parametrize(
    "info",
    [
        GraphInfo(card()),
        GraphInfo(card((512, 1024)), CORRECTION),
        GraphInfo(card(), CORRECTION, {"labels_equal": 0.9999, "per_class": {"red": 1.0}}),
    ],
)
def test_reads_back_what_it_writes(info: GraphInfo) -> None:
    metadata = to_metadata(info)
    assert all(isinstance(value, str) for value in metadata.values())
    assert from_metadata(metadata, "model.onnx") == info


def test_leaves_foreign_metadata_alone() -> None:
    info = GraphInfo(card())
    assert from_metadata(to_metadata(info) | {"author": "somebody"}, "model.onnx") == info


def test_no_metadata() -> None:
    with pytest.raises(InputError, match=r"model\.onnx has no blda metadata.*blda export onnx"):
        from_metadata({"author": "somebody"}, "model.onnx")


def test_newer_schema() -> None:
    metadata = to_metadata(GraphInfo(card())) | {"blda.schema": str(SCHEMA + 1)}
    with pytest.raises(InputError, match=rf"schema {SCHEMA + 1}, this version reads up to {SCHEMA}; upgrade"):
        from_metadata(metadata, "model.onnx")


def _without(key: str) -> str:
    fields = dataclasses.asdict(card())
    del fields[key]
    return json.dumps(fields)


@pytest.mark.parametrize(
    "change",
    [
        {"blda.schema": "one"},
        {"blda.card": "{"},
        {"blda.card": "[1, 2]"},
        {"blda.card": _without("classes")},
        {"blda.card": json.dumps(dataclasses.asdict(card()) | {"palette": [[1, 2, 3]]})},
        {"blda.card": json.dumps(dataclasses.asdict(card()) | {"unknown": 1})},
        {"blda.correction": "{}"},
        {"blda.verification": "nothing"},
    ],
)
def test_altered_metadata(change: dict[str, str]) -> None:
    with pytest.raises(InputError, match="altered"):
        from_metadata(to_metadata(GraphInfo(card())) | change, "model.onnx")
