"""What a run keeps about itself, altered in every way: one sentence that names file and key, no traceback."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
import torch
from click import ClickException
from click.testing import CliRunner
from folded_graphs import folded
from onnx_segmenters import statistics
from safetensors import safe_open
from safetensors.torch import load, load_file, save, save_file
from serve_graphs import write_graph

from adapt.cli import main
from adapt.commands.measuring import strengths
from adapt.commands.start import resumed_trainer
from adapt.errors import InputError
from adapt.reporting.web_report import write_report
from adapt.run.run import load_run
from export.cli.commands import main as export_main
from export.fold.folded import folded_statistics, graph_info
from export.foreign.convention import Intake
from export.foreign.network import Outlet
from export.sources.source import open_source
from export.sources.statistics_file import Calibrated, read_statistics, write_statistics
from serve.card import Key

OPTIONAL = {("evaluation",), ("evaluated_at",), ("tau",), ("model", "dilated"), ("model", "multi_resolution")}
"""Keys that older runs lack, or that are left out where there is nothing to say."""
ANY_NUMBER = {("versions",), ("classes", "ignore")}
"""Of which there may be one fewer."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cards")
    tiny.make_domains(root, images=3)
    arguments = tiny.train_arguments(
        root, root / "run", "training.iterations=2", "method.statistics_warmup=1"
    )
    result = CliRunner().invoke(main, [*arguments, "--evaluate", str(root / "target_eval")])
    assert result.exit_code == 0, result.output
    return root / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    target = tmp_path / "run"
    shutil.copytree(run, target)
    return target


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every key of nested dicts and lists, except what a `transformers` configuration holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        if (*path, key) != ("model", "encoder"):
            yield from paths(inner, (*path, key))


def changed(card: Any, path: tuple[str | int, ...], change: str) -> Any:
    """A copy with one key removed, null, or of a wrong type."""
    copy = json.loads(json.dumps(card))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    if change == "removed":
        del holder[path[-1]]
    else:
        holder[path[-1]] = {"null": None, "wrong": [["?"]] if not isinstance(old, list) else "?"}[change]
    return copy


def sentence(error: ClickException, *words: str) -> None:
    assert "\n" not in error.message and error.message.endswith("."), error.message
    for word in words:
        assert word in error.message, error.message


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
    (copy / "card.json").write_text('{"format": 2, "new": true}')
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


# ---- the other files -------------------------------------------------------------------------------------


def resume(run: Path) -> None:
    trainer = resumed_trainer(run, ("training.iterations=4",))
    trainer.train()


def report(run: Path) -> None:
    write_report(load_run(run), None, 0.2, run / "page.html")


def refused(work: Callable[[], object], *words: str) -> None:
    with pytest.raises(ClickException) as error:  # adapt's InputError, or that of serve
        work()
    assert error.value.exit_code == 2
    sentence(error.value, *words)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"no array", None, "pickled", "floats", "flat", "negative", "narrow"]
)
def test_class_pixels_that_are_not_those_of_the_run(copy: Path, content: bytes | str | None) -> None:
    file = copy / "class_pixels.npy"
    pixels = np.load(file)
    if content is None:
        file.unlink()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        made = {
            "pickled": np.array([{"a": 1}], dtype=object),
            "floats": pixels.astype(float),
            "flat": pixels.ravel(),
            "negative": -pixels,
            "narrow": pixels[:, :2],
        }
        np.save(file, made[content], allow_pickle=True)
    refused(lambda: resume(copy), str(file))


def alter(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    change(tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file, metadata)


POSTHOC = (
    *("posthoc.seen", "posthoc.eps"),
    *(f"posthoc.{part}.{name}" for part in ("rows", "anchors") for name in ("weights", "means", "variances")),
)


@pytest.mark.parametrize("name", POSTHOC)
def test_statistics_that_are_not_whole(copy: Path, name: str) -> None:
    file, key = copy / "model.safetensors", name.removeprefix("posthoc.")
    whole = load_file(file)
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
        "missing": lambda t: None,
        "shape": lambda t: torch.zeros(*t.shape, 2),
        "classes": lambda t: torch.cat([t, t]) if t.ndim else torch.tensor([0.1, 0.1]),
        "gaussians": lambda t: t[..., :-1] if t.ndim > 1 else t.reshape(-1, 1),
        "nan": lambda t: torch.full(t.shape, float("nan")),
    }
    if name.endswith("variances"):
        changes["flat"] = torch.zeros_like
    if name.endswith("eps"):
        changes["large"] = lambda t: torch.tensor(0.7)
    for change in changes.values():
        value = change(whole[name])
        save_file({k: v.contiguous() for k, v in {**whole, name: value}.items() if v is not None}, file)
        refused(lambda: strengths(load_run(copy), None), str(file), key.split(".")[0])


def test_running_statistics_that_are_not_whole(copy: Path) -> None:
    file = copy / "model.safetensors"

    def running_only(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("posthoc.")]:
            del tensors[name]
        del tensors["statistics.target.means"]

    alter(file, running_only)
    refused(lambda: strengths(load_run(copy), None), str(file), "target.means")


@pytest.mark.parametrize("which", ["student", "teacher", "optimizer", "statistics"])
@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_checkpoint_of_another_network(copy: Path, which: str, change: str) -> None:
    newest = copy / "last" / "0000002.safetensors"

    def altered(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if name.startswith(f"{which}.") and tensors[name].ndim)
        value = tensors.pop(name)
        if change == "shape":
            tensors[name] = torch.zeros(*value.shape, 2)

    alter(newest, altered)
    refused(lambda: resume(copy), "checkpoint")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"iteration": "x", "scaler": "{}"},
        {"iteration": "-1", "scaler": "{}"},
        {"iteration": "2", "scaler": "[]"},
        {"iteration": "2"},
    ],
)
def test_a_checkpoint_that_does_not_say_what_it_is(copy: Path, metadata: dict[str, str] | None) -> None:
    newest = copy / "last" / "0000002.safetensors"
    save_file(load_file(newest), newest, metadata)
    refused(lambda: resume(copy), str(newest), "delete it to use the one before")


def test_a_checkpoint_that_was_cut_off(copy: Path) -> None:
    newest = copy / "last" / "0000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    refused(lambda: resume(copy), str(newest), "delete it to use the one before")


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl"])
@pytest.mark.parametrize(
    "line",
    [
        "7",
        "{}",
        '{"iteration": null}',
        '{"iteration": 1, "tau": {"0": {}}}',
        '{"iteration": 1, "tau": []}',
        '{"iteration": 1, "source": "?"}',
    ],
)
def test_lines_that_were_not_written_here(copy: Path, name: str, line: str) -> None:
    file = copy / name
    file.write_text(line + "\n" + file.read_text())
    refused(lambda: report(copy), str(file), "line 1")
    refused(lambda: resume(copy), str(file), "line 1")


def test_a_line_that_a_kill_cut_off_is_left_out(copy: Path) -> None:
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        with (copy / name).open("ab") as file:
            file.write(b'{"iteration": 3, "x\xff')
    report(copy)
    resume(copy)
    assert json.loads((copy / "evaluations.jsonl").read_text().splitlines()[-1])["iteration"] == 4


@pytest.mark.parametrize("change", ["missing", "shape", "cut"])
def test_a_page_of_the_album_that_is_not_whole(copy: Path, change: str) -> None:
    page = sorted((copy / "report" / "album").glob("*.safetensors"))[0]
    if change == "cut":
        page.write_bytes(page.read_bytes()[:50])
    elif change == "missing":
        alter(page, lambda tensors: tensors.pop("anchor.seen"))
    else:
        alter(page, lambda tensors: tensors.update({"source.means": torch.zeros(2)}))
    refused(lambda: report(copy), str(page))


@pytest.mark.parametrize("content", ["- 1", "{", "\x00", "data: {crop: x}"])
def test_settings_that_are_none(copy: Path, content: str) -> None:
    (copy / "config.yaml").write_text(content)
    refused(lambda: load_run(copy), str(copy / "config.yaml"))


def test_a_run_opens_for_the_export_too(copy: Path) -> None:
    assert open_source(copy).card.license_note == load_run(copy).card.license_note


# ---- what export reads -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of statistics, as `export calibrate` writes it."""
    path = tmp_path_factory.mktemp("calibrated") / "stats.safetensors"
    intake = Intake("NCHW", "RGB", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), None, None, ("told",))
    record = Calibrated(
        "model.onnx",
        "two pictures",
        ("a", "b", "c"),
        ((0, 0, 0), (1, 1, 1), (2, 2, 2)),
        (5, 6, 7),
        intake,
        Outlet("logits", "NCHW", 3, 4, 4),
    )
    write_statistics(path, statistics(3), record)
    read_statistics(path)
    return path


@pytest.mark.parametrize("change", ["removed", "null", "wrong"])
def test_every_key_of_a_file_of_statistics(calibrated: Path, tmp_path: Path, change: str) -> None:
    with safe_open(calibrated, "pt") as opened:
        record = json.loads(opened.metadata()["blda.calibration"])
    file, tensors, tried = tmp_path / "stats.safetensors", load_file(calibrated), 0
    for path in paths(record):
        if change != "wrong" and path[-1] in ("size", "batch", "network"):
            continue  # None where any will do
        if change == "removed" and (path[:-1] == ("intake", "found") or path[-1] == "network"):
            continue
        save_file(tensors, file, {"blda.calibration": json.dumps(changed(record, path, change))})
        refused(lambda: read_statistics(file), str(file), "blda export calibrate")
        tried += 1
    assert tried > 25


@pytest.mark.parametrize("key", ["seen", "eps", "rows.means", "anchors.variances"])
def test_tensors_of_a_file_of_statistics(calibrated: Path, tmp_path: Path, key: str) -> None:
    file = tmp_path / "stats.safetensors"
    for change in (lambda t: t.pop(key), lambda t: t.update({key: torch.zeros(2, 3, 1)})):
        shutil.copy(calibrated, file)
        alter(file, change)
        refused(lambda: read_statistics(file), str(file), key)


def test_statistics_inside_a_graph(tmp_path: Path) -> None:
    model = folded()
    assert folded_statistics(model) is not None
    entry = next(entry for entry in model.metadata_props if entry.key == Key.STATISTICS)
    tensors = load(base64.b64decode(entry.value))
    for change in (lambda t: t.pop("seen"), lambda t: t.update({"seen": torch.ones(9)})):
        other = dict(tensors)
        change(other)
        entry.value = base64.b64encode(save(other)).decode()
        refused(lambda: folded_statistics(model), "statistics inside the graph", "seen")


@pytest.mark.parametrize("part", ["card", "correction"])
@pytest.mark.parametrize("change", ["removed", "null", "wrong"])
def test_every_key_of_a_graphs_card(tmp_path: Path, part: str, change: str) -> None:
    """Those that are left out have a meaning of their own."""
    model = onnx.load(write_graph(tmp_path / "graph.onnx"))
    entry = next(entry for entry in model.metadata_props if entry.key == f"blda.{part}")
    record = json.loads(entry.value)
    defaults = {("size",), ("minimum_size",), ("model",), ("license_note",), ("uncorrected",)}
    for path in paths(record):
        if (change == "removed" and path in defaults) or (path == ("size",) and change == "null"):
            continue
        if change == "removed" and path[0] == "uncorrected":
            continue
        entry.value = json.dumps(changed(record, path, change))
        refused(lambda: graph_info(model, "graph.onnx"), "graph.onnx", "export it again")
