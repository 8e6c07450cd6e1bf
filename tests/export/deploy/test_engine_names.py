"""An engine and its card stay a pair, whoever else writes one of the same name."""

import json
from pathlib import Path

import pytest

from export.deploy.tensorrt import save, sidecar_of
from serve.media.whole import NameTakenError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_engine_made_meanwhile_keeps_its_card(tmp_path: Path) -> None:
    output = tmp_path / "x.engine"
    save(b"theirs", {"of": "theirs"}, output, overwrite=False)
    with pytest.raises(NameTakenError) as caught:
        save(b"ours", {"of": "ours"}, output, overwrite=False)
    assert str(tmp_path / "x-2.engine") in caught.value.message
    for engine, content in ((output, "theirs"), (tmp_path / "x-2.engine", "ours")):
        assert engine.read_text() == content and json.loads(sidecar_of(engine).read_text()) == {"of": content}
    assert names(tmp_path) == ["x-2.engine", "x-2.engine.json", "x.engine", "x.engine.json"]


def test_overwriting_replaces_both(tmp_path: Path) -> None:
    output = tmp_path / "x.engine"
    for content in ("first", "second"):
        save(content.encode(), {"of": content}, output, overwrite=True)
    assert output.read_text() == "second" and json.loads(sidecar_of(output).read_text()) == {"of": "second"}
    assert names(tmp_path) == ["x.engine", "x.engine.json"]
