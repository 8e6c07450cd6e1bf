"""An engine and its card stay a pair, whoever else writes one of the same name."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from kill_moments import killed

from export.deploy.engine_files import save, sidecar_of
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


def test_some_that_overwrite_each_other_leave_a_pair(tmp_path: Path) -> None:
    output = tmp_path / "x.engine"

    def write(content: str, together: Barrier) -> None:
        together.wait()
        save(content.encode(), {"of": content}, output, overwrite=True)

    for _ in range(40):
        together = Barrier(3)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(write, ("one", "two", "three"), [together] * 3))
        assert json.loads(sidecar_of(output).read_text()) == {"of": output.read_text()}
        assert names(tmp_path) == ["x.engine", "x.engine.json"]


SAVE = """
from export.deploy.engine_files import save
def work(folder):
    for content in ("first", "second"):
        save(content.encode(), {"of": content}, folder / "x.engine", overwrite=True)
"""


def test_a_kill_leaves_no_engine_without_its_card(tmp_path: Path) -> None:
    folders = killed(SAVE, tmp_path / "kills", range(1, 30))
    engines = [folder / "x.engine" for folder in folders]
    assert len(folders) > 10 and {True, False} == {engine.exists() for engine in engines}
    for engine in engines:
        if engine.exists():
            assert json.loads(sidecar_of(engine).read_text()) == {"of": engine.read_text()}
        save(b"next", {"of": "next"}, engine, overwrite=True)
        assert names(engine.parent) == ["x.engine", "x.engine.json"]
