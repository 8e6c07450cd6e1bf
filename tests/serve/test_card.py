"""The metadata contract: written, read back, and refused where it must be."""

import dataclasses
import json

import pytest
from serve_graphs import TAU, card

from serve.card import (
    MOST_PROFILES,
    SCHEMA,
    Correction,
    GraphInfo,
    Key,
    Profile,
    Upsampling,
    from_metadata,
    key_of,
    of_profile,
    to_metadata,
)
from serve.errors import InputError

CORRECTION = Correction(TAU, True, 8, 24, 0.01, 0.03, "31 dusk frames", ("green",))


@pytest.mark.parametrize(
    "info",
    [
        GraphInfo(card()),
        GraphInfo(card((512, 1024)), CORRECTION),
        GraphInfo(card(), CORRECTION, {"labels_equal": 0.9999, "per_class": {"red": 1.0}}),
        GraphInfo(dataclasses.replace(card(), upsampling=Upsampling("probabilities", "exp"))),
        GraphInfo(dataclasses.replace(card(), upsampling=Upsampling("scores", "sigmoid", "asymmetric"))),
        GraphInfo(
            card(),
            CORRECTION,
            profiles=(Profile("day", CORRECTION), Profile("night", dataclasses.replace(CORRECTION, tau=0.1))),
        ),
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


@pytest.mark.parametrize(
    ("upsampling", "schema"),
    [
        (Upsampling(), 1),
        (Upsampling(uncorrected="sigmoid"), 1),
        (Upsampling("probabilities"), 2),
        (Upsampling(coordinates="align_corners"), 2),
    ],
)
def test_older_readers_refuse_only_what_they_would_upsample_otherwise(
    upsampling: Upsampling, schema: int
) -> None:
    metadata = to_metadata(GraphInfo(dataclasses.replace(card(), upsampling=upsampling)))
    assert metadata[Key.SCHEMA] == str(schema)
    assert (Key.UPSAMPLING in metadata) == (upsampling != Upsampling())


def test_newer_schema() -> None:
    metadata = to_metadata(GraphInfo(card())) | {"blda.schema": str(SCHEMA + 1)}
    with pytest.raises(InputError, match=rf"schema {SCHEMA + 1}, this version reads up to {SCHEMA}; upgrade"):
        from_metadata(metadata, "model.onnx")


FIELDS = json.loads(to_metadata(GraphInfo(card()))["blda.card"])


def _without(key: str) -> str:
    return json.dumps({name: value for name, value in FIELDS.items() if name != key})


@pytest.mark.parametrize(
    "change",
    [
        {"blda.schema": "one"},
        {"blda.card": "{"},
        {"blda.card": "[1, 2]"},
        {"blda.card": _without("classes")},
        {"blda.card": json.dumps(FIELDS | {"palette": [[1, 2, 3]]})},
        {"blda.card": json.dumps(FIELDS | {"unknown": 1})},
        {"blda.card": json.dumps(FIELDS | {"upsampling": {}})},
        {"blda.upsampling": '{"of": "labels"}'},
        {"blda.upsampling": '{"of": ["scores"]}'},
        {"blda.upsampling": '{"coordinates": "tf_crop_and_resize"}'},
        {"blda.upsampling": "[]"},
        {"blda.correction": "{}"},
        {"blda.verification": "nothing"},
    ],
)
def test_altered_metadata(change: dict[str, str]) -> None:
    with pytest.raises(InputError, match="altered"):
        from_metadata(to_metadata(GraphInfo(card())) | change, "model.onnx")


def test_a_profile_has_its_own_under_the_same_keys() -> None:
    night = dataclasses.replace(CORRECTION, tau=0.1)
    info = GraphInfo(card(), CORRECTION, profiles=(Profile("day", CORRECTION), Profile("night", night)))
    metadata = to_metadata(info) | {Key.TABLE: "a", key_of(Key.GATHER, 1): "b", "author": "c"}
    assert of_profile(metadata, 0) == metadata
    seen = of_profile(metadata, 1)
    assert seen[Key.CORRECTION] == metadata["blda.correction.1"] != metadata[Key.CORRECTION]
    assert Key.TABLE not in seen and seen[Key.GATHER] == "b" and seen["author"] == "c"
    assert info.number_of("night", "m") == 1 and info.under(1).correction == night
    assert [each.name for each in info.every] == ["day", "night"]
    assert [each.correction for each in GraphInfo(card(), CORRECTION).every] == [CORRECTION]
    with pytest.raises(InputError, match=r"--profile rain is not in m; choose one of day, night\."):
        info.number_of("rain", "m")
    with pytest.raises(InputError, match="which has no profiles; leave it out"):
        GraphInfo(card(), CORRECTION).number_of("rain", "m")


@pytest.mark.parametrize(
    "names",
    ['["day"]', '["day", "day"]', '["day", ""]', '"day"', "[1, 2]", str(list(range(MOST_PROFILES + 1)))],
)
def test_names_of_profiles_that_were_altered(names: str) -> None:
    metadata = to_metadata(GraphInfo(card(), CORRECTION)) | {Key.PROFILES: names}
    with pytest.raises(InputError, match="altered"):
        from_metadata(metadata, "model.onnx")
