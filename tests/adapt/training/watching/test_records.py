"""watch.jsonl: read back, cut where a run goes on, refused where it is not what was written."""

import json
from pathlib import Path

import pytest

from adapt.data.classes import ClassList, load_classes
from adapt.errors import InputError
from adapt.training.journal import WATCH, Journal, read_lines, rewind
from adapt.training.watching.watch import Seen

GOOD = {"iteration": 10, "agreement": 0.5, "bias": 0.1, "turned": False, "faded": [], "shares": [0.5, 0.5]}


@pytest.fixture
def classes(tmp_path: Path) -> ClassList:
    file = tmp_path / "classes.yaml"
    file.write_text(
        "classes:\n- {id: 0, name: road, color: [9, 9, 9]}\n- {id: 1, name: sky, color: [0, 0, 9]}\n"
    )
    return load_classes(file)


def test_what_is_seen_is_written_and_its_news_are_said(
    tmp_path: Path, classes: ClassList, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(tmp_path, classes, 20, 10, 0, writes=True) as journal:
        journal.watched(10, Seen(0.5, 0.1, (0.5, 0.5), False, (), ()))
        journal.watched(20, Seen(0.4, 0.2, (0.99, 0.01), True, (1,), ("warning: less than before.", "sky.")))
    records = read_lines(tmp_path / WATCH)
    assert records[0] == GOOD
    assert records[1]["faded"] == ["sky"] and records[1]["turned"] is True
    said = capsys.readouterr().err
    assert "iteration 20: warning: less than before." in said and "iteration 20: sky." in said
    assert "iteration 10" not in said
    rewind(tmp_path, 10)
    assert read_lines(tmp_path / WATCH) == records[:1]


def test_other_ranks_write_and_say_nothing(
    tmp_path: Path, classes: ClassList, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(tmp_path, classes, 20, 10, 0, writes=False) as journal:
        journal.watched(10, Seen(0.5, 0.1, (0.5, 0.5), False, (), ("warning.",)))
    assert not (tmp_path / WATCH).exists() and "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [{"agreement": "high"}, {"bias": None}, {"shares": 0.5}, {"shares": ["half"]}, {"iteration": 1.5}],
)
def test_records_that_were_altered_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / WATCH
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | change) + "\n")
    with pytest.raises(InputError, match="line 2"):
        read_lines(path)
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD)[:30])  # a kill cut it off
    assert read_lines(path) == [GOOD]
