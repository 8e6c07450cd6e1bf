"""Data that has changed or moved between the start of a run and its resumption."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from refusals import expect_refusal
from safetensors.torch import load_file

from adapt.cli import main
from adapt.run.run import load_run
from adapt.training import trainer


def adapt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a run of one iteration that may be trained on."""
    root = tiny.make_domains(tmp_path_factory.mktemp("prepared"), images=3)
    result = adapt(*tiny.train_arguments(root, root / "run", "training.iterations=1"))
    assert result.exit_code == 0, result.output
    return root


def copied(made: Path, root: Path) -> Path:
    """A copy of data and run, which a test may change; the run knows it by its new place."""
    shutil.copytree(made, root)
    for name in ("config.yaml", "data.json"):
        path = root / "run" / name
        path.write_text(path.read_text().replace(str(made), str(root)))
    return root


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    return copied(prepared, tmp_path / "work")


def resume(root: Path, *words: object) -> Result:
    return adapt("train", "--resume", root / "run", "--set", "training.iterations=2", *words)


ACCEPT = ("--set", "data.changed=accept")


def test_the_run_knows_names_and_sizes(root: Path) -> None:
    content = json.loads((root / "run" / "data.json").read_text())
    ((source,), (target,)) = content["source"], content["target"]
    size = (root / "source" / "labels" / "1.png").stat().st_size
    assert source["path"] == str(root / "source") and source["files"]["labels/1.png"] == size
    assert sorted(target["files"]) == ["images/0.png", "images/1.png", "images/2.png"]
    assert resume(root).exit_code == 0  # all is as it was


def test_a_target_picture_deleted_is_a_sentence_and_may_be_accepted(root: Path) -> None:
    (root / "target" / "images" / "1.png").unlink()
    expect_refusal(resume(root), "target", "1 gone (images/1.png)", "data.changed=accept")
    assert load_run(root / "run").card.iterations == 1
    result = resume(root, *ACCEPT)
    assert result.exit_code == 0 and "accepted: target" in result.output, result.output
    # that time, and no further one
    assert load_run(root / "run").config.data.changed == "refuse"
    (root / "target" / "images" / "2.png").write_bytes(b"other")
    expect_refusal(
        adapt("train", "--resume", root / "run", "--set", "training.iterations=3"), "of another size"
    )


def test_a_source_with_new_pictures_is_counted_anew(root: Path) -> None:
    for folder in ("images", "labels"):
        shutil.copy(root / "source" / folder / "0.png", root / "source" / folder / "7.png")
    expect_refusal(resume(root), "source", "2 new (images/7.png, labels/7.png)")
    assert resume(root, *ACCEPT).exit_code == 0
    pixels = np.load(root / "run" / "class_pixels.npy")
    assert len(pixels) == 4 and (pixels[3] == pixels[0]).all()


def test_data_that_has_moved_goes_on_as_if_it_had_not(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    for name in ("config.yaml", "data.json"):
        path = other / "run" / name
        path.write_text(path.read_text().replace(str(root), str(other)))
    assert resume(other).exit_code == 0
    new = tmp_path / "disk"
    new.mkdir()
    for name in ("source", "target"):
        (root / name).rename(new / name)
    expect_refusal(resume(root), str(root / "source"), "--source")
    expect_refusal(resume(root, "--source", new / "source", "--target", tmp_path), "target", "gone")
    expect_refusal(resume(root, "--source", new / "source", "--source", new), "1 sources", "2 new places")
    result = resume(root, "--source", new / "source", "--target", new / "target")
    assert result.exit_code == 0, result.output
    data = load_run(root / "run").config.data
    assert (data.source, data.target) == ((new / "source",), (new / "target",))
    one, two = (load_file(folder / "run" / "model.safetensors") for folder in (root, other))
    assert one.keys() == two.keys() and all(bool((one[key] == two[key]).all()) for key in one)


# --- labelled pictures of the target, and pictures to evaluate on


@pytest.fixture(scope="module")
def with_more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with labelled pictures of the target and others to evaluate on."""
    root = tiny.make_domains(tmp_path_factory.mktemp("more"), images=3)
    shutil.copytree(root / "target_eval", root / "few")
    words = ("--target-labels", root / "few", "--evaluate", root / "target_eval")
    result = adapt(*tiny.train_arguments(root, root / "run", "training.iterations=1"), *words)
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def more(with_more: Path, tmp_path: Path) -> Path:
    return copied(with_more, tmp_path / "work")


def test_a_run_knows_all_its_data(more: Path) -> None:
    content = json.loads((more / "run" / "data.json").read_text())
    for domain, folder in (("labelled_target", "few"), ("evaluation", "target_eval")):
        (part,) = content[domain]
        size = (more / folder / "labels" / "1.png").stat().st_size
        assert part["path"] == str(more / folder) and part["files"]["labels/1.png"] == size
    assert resume(more).exit_code == 0  # all is as it was


def test_a_labelled_target_that_has_changed_is_counted_anew_where_it_is_accepted(more: Path) -> None:
    for folder in ("images", "labels"):
        shutil.copy(more / "few" / folder / "0.png", more / "few" / folder / "7.png")
    expect_refusal(resume(more), "labelled target", "2 new (images/7.png, labels/7.png)", "accept")
    result = resume(more, *ACCEPT)
    assert result.exit_code == 0 and "accepted: labelled target" in result.output, result.output
    pixels = np.load(more / "run" / "target_class_pixels.npy")
    assert len(pixels) == 4 and (pixels[3] == pixels[0]).all()


def test_pictures_to_evaluate_on_that_have_changed_are_a_sentence(more: Path) -> None:
    (more / "target_eval" / "labels" / "2.png").write_bytes(b"no labels")
    expect_refusal(resume(more), "evaluation", "1 of another size (labels/2.png)", "accept")
    expect_refusal(resume(more, *ACCEPT), "2.png")  # accepted, but they are read first
    # others to evaluate on are free to take
    result = resume(more, "--set", f"data.evaluate={more / 'few'}")
    assert result.exit_code == 0, result.output
    (part,) = json.loads((more / "run" / "data.json").read_text())["evaluation"]
    assert part["path"] == str(more / "few")


def test_all_data_may_move(more: Path, tmp_path: Path) -> None:
    new = tmp_path / "disk"
    new.mkdir()
    for name in ("few", "target_eval"):
        (more / name).rename(new / name)
    expect_refusal(resume(more), "labelled target", "--target-labels")
    words = ("--target-labels", new / "few", "--evaluate")
    expect_refusal(resume(more, *words, new / "none"), "evaluate on", "--evaluate")
    expect_refusal(resume(more, *words, more / "source"), "evaluation", "of another size")
    result = resume(more, *words, new / "target_eval")
    assert result.exit_code == 0, result.output
    data = load_run(more / "run").config.data
    assert (data.target_labels, data.evaluate) == (new / "few", new / "target_eval")


def test_what_a_run_has_not_cannot_move(root: Path) -> None:
    expect_refusal(resume(root, "--evaluate", root / "target_eval"), "no data to evaluate on", "--set data.")
    expect_refusal(resume(root, "--target-labels", root / "target_eval"), "no labelled target")


def test_a_run_that_notes_less_goes_on_and_notes_the_rest(more: Path) -> None:
    """As those of a version that noted source and target alone."""
    path = more / "run" / "data.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: content[key] for key in ("source", "target")}))
    expect_refusal(resume(more, "--evaluate", more / "target_eval"), "did not note its data")
    assert resume(more).exit_code == 0
    assert json.loads(path.read_text()) == content


def test_a_run_of_an_older_version_notes_its_data_when_it_goes_on(root: Path) -> None:
    (root / "run" / "data.json").unlink()
    expect_refusal(resume(root, "--source", root / "source"), "did not note its data")
    assert resume(root).exit_code == 0
    assert (root / "run" / "data.json").is_file()


def test_accepting_is_for_resuming(root: Path) -> None:
    words = tiny.train_arguments(root, root / "new", "data.changed=accept")
    expect_refusal(adapt(*words), "data.changed=accept", "--resume")


def test_a_file_that_lists_no_data_is_refused(root: Path) -> None:
    (root / "run" / "data.json").write_text('{"source": 3}')
    expect_refusal(resume(root), "data.json")


def test_weights_resume_exactly(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources and targets with weights: interrupted or not, the same weights of the network."""
    shutil.copytree(root / "target_eval", root / "more")
    given = ("--source", f"{root / 'more'}=0.3", "--target", f"{root / 'more' / 'images'}=0.8")

    def start(name: str) -> Result:
        words = tiny.train_arguments(root, root / name, "training.iterations=3")
        return adapt(*words, *given)

    assert start("whole").exit_code == 0

    @contextmanager
    def at_once() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "interruption", at_once)
        assert start("parted").exit_code == 130
    assert adapt("train", "--resume", root / "parted").exit_code == 0
    one, two = (load_file(root / name / "model.safetensors") for name in ("whole", "parted"))
    assert one.keys() == two.keys() and all(bool((one[key] == two[key]).all()) for key in one)
    assert load_run(root / "whole").config.data.source_weights == (None, 0.3)
