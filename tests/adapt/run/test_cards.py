"""A run's card, altered in every way: one sentence that names file and key, no traceback."""

import json
from pathlib import Path

import pytest
from altered import changed, paths, sentence
from click.testing import CliRunner
from serve_graphs import write_graph

from adapt.cli import main
from adapt.errors import InputError
from adapt.run.run import load_run
from export.cli.commands import main as export_main

OPTIONAL = {("evaluation",), ("evaluated_at",), ("tau",), ("model", "dilated"), ("model", "multi_resolution")}
"""Keys that older runs lack, or that are left out where there is nothing to say."""

ANY_NUMBER = {("versions",), ("classes", "ignore")}
"""Of which there may be one fewer."""


@pytest.mark.parametrize("change", ["removed", "null", "wrong"])
def test_every_key_of_a_card_is_needed_and_of_its_type(copy: Path, change: str) -> None:
    card = json.loads((copy / "card.json").read_text())
    assert card["evaluated_at"] == 2
    tried = 0
    for path in paths(card):
        if change == "removed" and path in OPTIONAL:
            continue
        if path == ("evaluated_at",) and change == "null":
            continue  # never evaluated
        if path[0] == "evaluation" and len(path) > 2 and change == "null":
            continue  # a class that is absent has no score
        if change == "removed" and (path[:-1] in ANY_NUMBER or path[0] == "evaluation"):
            continue
        (copy / "card.json").write_text(json.dumps(changed(card, path, change)))
        with pytest.raises(InputError) as refused:
            load_run(copy)
        named = [str(key) for key in path if isinstance(key, str)]
        sentence(refused.value, str(copy / "card.json"), named[0])
        tried += 1
    assert tried > 40


@pytest.mark.parametrize("change", ["removed", "null", "wrong"])
def test_an_encoder_altered_in_the_card_is_refused_or_does_not_matter(copy: Path, change: str) -> None:
    card = json.loads((copy / "card.json").read_text())
    refusals = 0
    for key in card["model"]["encoder"]:
        (copy / "card.json").write_text(json.dumps(changed(card, ("model", "encoder", key), change)))
        try:
            load_run(copy).segmenter()
        except InputError as error:
            sentence(error, "card.json" if "card.json" in error.message else "encoder.config")
            refusals += 1
    assert refusals >= 3


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '{"format": "1"}', '{"format": 1}', "\xff"])
def test_a_card_that_is_none(copy: Path, content: str) -> None:
    (copy / "card.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as refused:
        load_run(copy)
    sentence(refused.value, "card.json", "train the run again")


def test_a_card_whose_parts_disagree(copy: Path) -> None:
    card = json.loads((copy / "card.json").read_text())
    card["model"]["num_classes"] = 7
    (copy / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="num_classes is 7, but classes lists 3"):
        load_run(copy)


def test_a_card_of_a_newer_format_may_be_anything_else(copy: Path) -> None:
    (copy / "card.json").write_text('{"format": 3, "new": true}')
    with pytest.raises(InputError, match="upgrade blda"):
        load_run(copy)


COMMANDS = {
    "eval": (main, "eval RUN --data DATA"),
    "bias": (main, "bias RUN"),
    "tau": (main, "tau RUN"),
    "report": (main, "report RUN"),
    "statistics": (main, "statistics RUN"),
    "train": (main, "train --resume RUN --set training.iterations=4"),
    "onnx": (export_main, "onnx RUN -o OUT"),
    "verify": (export_main, "verify GRAPH --against RUN"),
}
"""Every command that reads a run."""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("key", ["iterations", "license_note"])
def test_every_command_refuses_a_card_without_a_key(
    copy: Path, tmp_path: Path, command: str, key: str
) -> None:
    write_graph(tmp_path / "graph.onnx")
    words = {"RUN": copy, "DATA": tmp_path, "OUT": tmp_path / "m.onnx", "GRAPH": tmp_path / "graph.onnx"}
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(changed(card, (key,), "removed")))
    group, line = COMMANDS[command]
    result = CliRunner().invoke(group, [str(words.get(word, word)) for word in line.split()])
    assert result.exit_code == 2, result.output
    assert f"Error: {copy / 'card.json'} was altered or cut off ({key} is missing)" in result.output
    assert "Traceback" not in result.output
