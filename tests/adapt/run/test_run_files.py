"""A run's other files, altered in every way: one sentence that names the file, no traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from altered import alter, refused
from safetensors.torch import load_file, save_file

from adapt.commands.measuring import strengths
from adapt.commands.resuming import resumed_trainer
from adapt.reporting.web_report import write_report
from adapt.run.run import load_run
from export.sources.source import open_source


def resume(run: Path) -> None:
    trainer = resumed_trainer(run, ("training.iterations=4",))
    trainer.train()


def report(run: Path) -> None:
    write_report(load_run(run), None, 0.2, run / "page.html")


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
