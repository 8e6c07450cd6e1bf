"""The evidence: how shifts are cut, what is trained and scored, and that finished runs are kept."""

import itertools
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import evidence
import evidence_arms as arms
import evidence_shifts as shifts
from evidence_page import made_page
from evidence_results import RESULTS, read_result, read_results
from evidence_runs import COST, Place, cost_of, trained
from evidence_scoring import adjustment, labelled, without_positive
from evidence_summary import by_key

from adapt.balance.correction import ShiftTable
from adapt.config.presets import SOURCE_FREE
from adapt.config.settings import load_config
from adapt.config.unused import check_used
from adapt.data.classes import load_classes
from adapt.synthetic.sample import make_sample
from adapt.training.trainer import Trainer


def test_results_are_whole_and_of_runs_that_are_wanted():
    for path in RESULTS.glob("*/*.json"):
        found = read_result(path)
        assert path.relative_to(RESULTS) == Path(found.shift) / f"{found.arm}-{found.seed}.json"
        assert found.shift in shifts.ORDER
        assert found.arm in arms.ARMS
        shift = shifts.load_shift(found.shift)
        # what was trained is what would be: results of other settings do not mix with them
        assert found.settings == arms.settings_of(found.arm, shift.settings, shift.things, "DATA", found.seed)


def test_a_cut_turns_the_shares_and_keeps_drives_and_stretches_apart():
    names = [f"a_{i:02d}" for i in range(11)] + [f"b_{i:02d}" for i in range(9)]
    classes = load_classes(shifts.SHIFTS / "dusk" / "classes.yaml")
    pixels = np.zeros((20, len(classes)), np.int64)
    tree, building = classes.names.index("tree"), classes.names.index("building")
    pixels[:, tree], pixels[:, building] = np.arange(20), 20 - np.arange(20)
    rule = {"stretch": 3, "more": ["tree"], "less": ["building"], "keep": 3, "evaluate": 1, "seed": 0}
    source, target, evaluation = shifts.cut(names, pixels, classes, rule)
    assert source == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    # the first drive ends with a stretch of two, which the second does not fill up
    assert sorted(target + evaluation) == [11, 12, 13, 14, 15, 16, 17, 18, 19]
    assert [evaluation[0] + i for i in range(3)] == evaluation
    assert (source, target, evaluation) == shifts.cut(names, pixels, classes, rule)
    others = {tuple(shifts.cut(names, pixels, classes, rule | {"seed": seed})[2]) for seed in range(9)}
    assert len(others) == 3


@pytest.mark.parametrize(("name", "arm"), list(itertools.product(shifts.ORDER, arms.ARMS)))
def test_every_run_has_settings_that_are_of_use(name: str, arm: str):
    if not arms.available(arm):
        pytest.skip("this version does not have its balance")
    shift = shifts.load_shift(name)
    settings = arms.settings_of(arm, shift.settings, shift.things, "/data", 2)
    preset, model = (SOURCE_FREE, {"start": "run"}) if arm in arms.BEGUN else (None, {})
    config = load_config(preset, None, settings, {"model": model})
    check_used(config, preset)
    assert config.training.seed == 2
    if config.method.online:
        assert config.method.statistics_warmup == config.training.iterations // 4
    assert (config.method.feature_distance > 0) == (arm.startswith(("daformer", "mic")) and shift.things)
    load_classes(shift.class_file)


def test_arms_that_this_version_lacks_are_passed_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(arms.ARMS, "x", ("method.host=dacs", "method.balance=somehow"))
    assert not arms.available("x")
    assert arms.available("dacs-online")


def test_logit_adjustment_and_the_negative_half():
    found = adjustment(torch.tensor([0.5, 0.0, 0.01], dtype=torch.float64), 0.5)
    assert found.tolist() == pytest.approx([-0.5 * np.log(0.5), 0, -0.5 * np.log(0.01)])
    maps = [torch.tensor([[1.0, 5.0], [2.0, 3.0], [2.5, 0.0]]).view(1, 3, 1, 2)]
    assert labelled(maps, 1).row_pixels.tolist() == [1, 0, 1]
    assert labelled(maps, 2, found).row_pixels.tolist() == [4, 0, 4]
    assert labelled(maps, 1, torch.tensor([0.0, 3.0, 0.0])).row_pixels.tolist() == [0, 2, 0]
    shift = torch.arange(1.0, 19.0).view(3, 3, 2)
    table = ShiftTable(torch.zeros(3, 3), torch.ones(3, 3), shift)
    half = without_positive(table).shift
    assert torch.equal(half == 0, torch.eye(3, dtype=torch.bool).unsqueeze(-1).expand(3, 3, 2))
    assert torch.equal(half[0, 1], shift[0, 1])
    assert bool((table.shift > 0).all())


def test_a_few_labelled_pictures_are_set_apart_and_stay_so(tmp_path: Path):
    make_sample(tmp_path / "streets-3", 3, source=1, target=1, target_eval=7, seconds=0.2)
    first = shifts.place_of(shifts.load_shift("streets"), Path("/nowhere"), tmp_path, 3)
    names = {
        part: {path.stem for path in (part / "images").iterdir()} for part in (first.few, first.evaluate)
    }
    assert [len(found) for found in names.values()] == [3, 4]
    assert not names[first.few] & names[first.evaluate]
    assert {path.stem for path in (first.few / "labels").iterdir()} == names[first.few]
    assert shifts.place_of(shifts.load_shift("streets"), Path("/nowhere"), tmp_path, 3) == first
    assert set(arms.WITH_LABELS) <= set(arms.ARMS)


TINY = (
    *("data.crop=[64, 64]", "data.workers=0", "model.decoder=segformer", "model.width=8", "training.batch=2"),
    "model.encoder={config: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 8, 8, 8], "
    "depths: [1, 1, 1, 1], layer_type: basic}}",
    "training.iterations=4",
    "training.encoder_lr=1.0e-3",
)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Options of a run of the suite that takes seconds."""
    monkeypatch.setattr(arms, "COMMON", ())
    monkeypatch.setitem(arms.SETTINGS, "small", TINY)
    make_sample(tmp_path / "out" / "data" / "streets-0", 0, source=4, target=3, target_eval=2, seconds=0.2)
    return SimpleNamespace(
        data=tmp_path,
        out=tmp_path / "out",
        results=tmp_path / "results",
        shifts=["streets"],
        arms=["source", "dacs-online"],
        seeds=[0],
        at_most=-1,
        minutes=float("inf"),
        score_again=False,
        train_only=False,
    )


def test_finished_runs_are_kept_and_scored_again_when_asked(
    small: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = tmp_path / "page.md"
    monkeypatch.setattr(
        evidence, "write_page", lambda folder: page.write_text(made_page(by_key(read_results(folder))))
    )
    place = Place(small.data, small.out)
    small.at_most, small.train_only = 1, True
    assert evidence.work(small, place) == 0
    assert evidence.finished(place.run("streets", "source", 0)) is not None
    assert read_results(small.results) == []
    small.train_only = False
    assert evidence.work(small, place) == 0
    assert [r.arm for r in read_results(small.results)] == ["source"]
    small.at_most = -1
    assert evidence.work(small, place) == 0
    found = by_key(read_results(small.results))
    assert [key[1] for key in found] == ["dacs-online", "source"]
    one = found["streets", "source", 0]
    assert one.iterations == 4
    assert one.processor_seconds > 0
    assert set(one.scores) >= {"plain", "posthoc", "source-free", "label shares", "mean softmax"}
    assert set(one.scores["posthoc"]) == {"0.1", "0.2", "0.5", "1"}
    assert set(one.few) == {"0", "0.1", "0.2", "0.5", "1"}
    assert one.watch == {}
    self_trained = found["streets", "dacs-online", 0].watch
    assert 0 <= self_trained["agreement"] <= self_trained["highest"] <= 1
    assert self_trained["best_at"] is None
    assert "2 of " in page.read_text()

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("evidence_runs.train", forbidden)
    monkeypatch.setattr("evidence_runs.resume", forbidden)
    (small.results / "streets" / "source-0.json").unlink()
    assert evidence.work(small, place) == 0  # its run is there: scored, not trained
    assert by_key(read_results(small.results))["streets", "source", 0].scores == one.scores
    small.score_again = True
    small.arms, small.seeds = ["source", "dacs"], [0, 1]
    (small.results / "streets" / "source-0.json").unlink()
    assert evidence.work(small, place) == 0
    assert len(read_results(small.results)) == 2


def test_an_interrupted_run_goes_on(small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    place, step = Place(small.data, small.out), Trainer._step

    def stopped(self: Trainer, pairs: Any) -> dict[str, float]:
        """As Ctrl-C in the first step."""
        signal.raise_signal(signal.SIGINT)
        return step(self, pairs)

    with monkeypatch.context() as inner:
        inner.setattr(Trainer, "_step", stopped)
        assert trained(place, "streets", "source", 0) is None
    folder = place.run("streets", "source", 0)
    first = cost_of(folder)
    assert (folder / COST).exists()
    run = trained(place, "streets", "source", 0)
    assert run is not None
    assert run.card.iterations == 4
    assert cost_of(folder)["seconds"] > first["seconds"] > 0


def test_a_folder_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["evidence.py", "--data", "/nowhere"])
    assert evidence.main() == 2
    assert "There is no folder /nowhere" in capsys.readouterr().err


def test_a_source_free_arm_goes_on_from_the_source_only_run(
    small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    longer = tuple(line.replace("iterations=4", "iterations=8") for line in TINY)
    monkeypatch.setitem(arms.SETTINGS, "small", longer)
    place = Place(small.data, small.out)
    small.arms, small.train_only = ["source-free"], True
    assert evidence.work(small, place) == 0
    first, run = (evidence.finished(place.run("streets", arm, 0)) for arm in ("source", "source-free"))
    assert first is not None and run is not None
    assert run.config.source_free and run.config.model.start == str(first.path.absolute())
    assert run.classes == first.classes
    assert (first.card.iterations, run.card.iterations) == (8, 2)
    assert run.config.training.encoder_lr == pytest.approx(first.config.training.encoder_lr / 40)
    assert cost_of(run.path)["processor_seconds"] > 0
