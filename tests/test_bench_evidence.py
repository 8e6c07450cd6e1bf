"""`make evidence`: its statistics, the page that it makes, the cut of a label shift, runs that are kept."""

import itertools
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "bench" / "evidence"))

import evidence
import evidence_arms as arms
import evidence_shifts as shifts
from evidence_page import PAGE, baseline_curve, equal_adjustment, made_page
from evidence_premise import SIGNS, Statistics, positive_means, positive_shift, signs
from evidence_results import RESULTS, Result, read_result, read_results, write_result
from evidence_runs import COST, Place, cost_of, trained
from evidence_scoring import adjusted, without_positive
from evidence_summary import after_training, at_equal, between_arms, by_key, over_seeds, worth_of
from evidence_tables import ranged, signed, text

from adapt.balance.correction import ShiftTable, shift_table
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from adapt.config.settings import load_config
from adapt.config.unused import check_used
from adapt.data.classes import load_classes
from adapt.synthetic.sample import make_sample
from adapt.training.trainer import Trainer


def result(shift: str, arm: str, seed: int, iou: float, accuracy: float, **ways: Any) -> Result:
    """A run with hand-made plain scores, and with (mIoU, mAcc) by way and strength."""

    def scores(iou: float, accuracy: float) -> dict[str, float]:
        return {"mean_iou": iou, "mean_accuracy": accuracy, "std_iou": 0.2, "sum_abs_bias": 0.5}

    found = {"plain": {"0": scores(iou, accuracy)}}
    for way, by_strength in ways.items():
        found[way.replace("_", " ")] = {t: scores(*both) for t, both in by_strength.items()}
    return Result(shift, arm, seed, 100, 60.0, 50.0, "abc", "abc", ("training.iterations=100",), found, {})


HAND = by_key(
    [
        result("dusk", "source", 0, 0.30, 0.40),
        result("dusk", "source", 1, 0.34, 0.46),
        result("dusk", "source", 2, 0.32, 0.41),
        result("dusk", "dacs", 0, 0.36, 0.45, posthoc={"0.2": (0.37, 0.48)}),
        result("dusk", "dacs", 1, 0.33, 0.47, posthoc={"0.2": (0.32, 0.50)}),
        result("weeds", "source", 0, 0.50, 0.60),
        result("weeds", "dacs", 0, 0.45, 0.62, posthoc={"0.2": (0.449, 0.65)}),
        result("weeds", "dacs", 2, 0.99, 0.99),  # without its pair
    ]
)
BOTH = ("dusk", "weeds")


def test_a_spread_over_seeds_is_mean_and_range():
    found = over_seeds(HAND, "dusk", "source", "mean_iou")
    assert found is not None
    assert found.values == (0.30, 0.34, 0.32)
    assert (found.mean, found.low, found.high) == pytest.approx((0.32, 0.30, 0.34))
    assert over_seeds(HAND, "dusk", "mic", "mean_iou") is None
    assert ranged(found) == "32.0 (30.0 to 34.0)"
    assert ranged(replace(found, values=(0.305,))) == "30.5"


def test_differences_are_of_the_same_shift_and_seed():
    found = between_arms(HAND, BOTH, "dacs", "source", "mean_iou")
    assert found is not None
    assert found.by_shift["dusk"].values == pytest.approx((0.06, -0.01))
    assert found.by_shift["weeds"].values == pytest.approx((-0.05,))
    # every pair counts once, not every shift
    assert found.all.mean == pytest.approx(0.0)
    assert found.all.low == pytest.approx(-0.05)
    assert between_arms(HAND, BOTH, "mic", "source", "mean_iou") is None


def test_a_correction_is_compared_with_its_own_network():
    found = after_training(HAND, BOTH, "posthoc", "0.2", "mean_iou")
    assert found is not None
    assert found.by_shift["dusk"].values == pytest.approx((0.01, -0.01))
    assert found.all.low == pytest.approx(-0.01)
    assert after_training(HAND, BOTH, "posthoc", "1", "mean_iou") is None


def test_a_curve_is_read_where_it_gives_most():
    curve = [(0.0, 0.0), (0.02, 0.01), (0.04, 0.005), (0.02, -0.03)]
    assert at_equal(curve, 0.01) == pytest.approx(0.005)
    assert at_equal(curve, 0.03) == pytest.approx(0.0075)  # not the -0.0125 further on
    assert at_equal(curve, 0.05) is None


def test_logit_adjustment_is_read_at_equal_accuracy():
    runs = by_key(
        [
            result(
                *("dusk", "dacs", 0, 0.40, 0.50),
                posthoc={"0.2": (0.43, 0.53)},
                label_shares={"0.1": (0.42, 0.52), "0.2": (0.41, 0.54)},
                mean_softmax={"0.1": (0.41, 0.52), "0.2": (0.405, 0.56)},
            )
        ]
    )
    assert baseline_curve(runs, ["dusk"], "label shares") == [
        (0.0, 0.0),
        pytest.approx((0.02, 0.02)),
        pytest.approx((0.04, 0.01)),
    ]
    assert equal_adjustment(runs, ["dusk"], "posthoc", "0.2") == pytest.approx(0.015)
    assert equal_adjustment(runs, ["dusk"], "posthoc", "1") is None


def test_a_sign_is_worth_what_it_foretells():
    change = {("a", "x", 0): -0.02, ("a", "x", 1): 0.0, ("a", "x", 2): 0.01, ("b", "x", 0): 0.03}
    found = worth_of({key: 10 * value for key, value in change.items()}, change, -0.003)
    assert (found.over_all, found.within, found.told, found.networks) == pytest.approx((1, 1, 1, 4))
    found = worth_of({key: -value for key, value in change.items()}, change, -0.003)
    assert (found.over_all, found.within, found.told) == pytest.approx((-1, -1, 0))
    # lower than one of the three that are not harmed, as high as another
    sign = dict(zip(change, (2.0, 3.0, 1.0, 2.0), strict=True))
    assert worth_of(sign, change, -0.003).told == pytest.approx(0.5)
    unharmed = worth_of(sign, change, -0.03)
    assert np.isnan(unharmed.told)
    assert worth_of({("a", "x", 0): 1.0}, change, -0.003).networks == 1


def two_classes(first: float, second: float) -> ShiftStatistics:
    """Statistics of two classes whose own logits lie around these values, and the others' around 0."""
    means = torch.tensor([[first, 0.0], [0.0, second]]).unsqueeze(-1)
    rows = Mixture(torch.ones(2, 2, 1), means, torch.full((2, 2, 1), 0.25))
    anchors = Mixture(torch.ones(2, 1), torch.tensor([[3.0], [0.0]]), torch.full((2, 1), 0.25))
    return ShiftStatistics(rows, anchors, torch.ones(2, dtype=torch.bool))


def test_signs_say_whether_the_premise_holds():
    # the class with the larger logits is labelled more often, and the correction evens that out
    statistics = two_classes(4.0, 2.0)
    table = shift_table(statistics)
    draws = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * 0.5
    own = torch.tensor([4.0, 2.0]).repeat_interleave(2000)
    first = torch.where(torch.arange(4000) < 2000, own + draws[0], draws[0])
    second = torch.where(torch.arange(4000) < 2000, draws[1], own + draws[1])
    logits = [torch.stack([first, second]).view(1, 2, 40, 100)]
    found = signs(logits, Statistics(statistics, table, (table, table), table))
    assert set(found) == set(SIGNS)
    assert found["premise"] == pytest.approx(1)
    assert found["halves"] == found["target alone"] == pytest.approx(1)
    assert found["positive halves"] == pytest.approx(1)
    assert 0 < found["unchanged"] < 1
    assert positive_means(statistics).tolist() == [4.0, 2.0]
    assert positive_shift(statistics, table).tolist() == pytest.approx([-1, 1], abs=0.05)
    other = shift_table(two_classes(2.0, 4.0))
    opposed = signs(logits, Statistics(statistics, table, (table, other), other))
    assert opposed["halves"] < 1
    assert opposed["positive halves"] == pytest.approx(-1)


def test_differences_and_lines():
    assert [signed(x) for x in (0.0123, -0.0004, 0.0004, -0.01)] == ["+1.2", "0.0", "0.0", "-1.0"]
    assert all(len(line) <= 120 for line in text("word " * 100).splitlines())


def test_the_page_says_what_is_missing_and_shows_the_worst():
    page = made_page(HAND)
    lines = page.splitlines()
    assert f"8 of {len(arms.ARMS) * 4 * 3} runs are finished" in page
    assert "| source only | **missing** | 0, 1, 2 | 0, others **missing** | **missing** |" in lines
    assert "| MIC | **missing** | **missing** | **missing** | **missing** |" in lines
    assert "| source only | 32.0 (30.0 to 34.0) | 42.3 (40.0 to 46.0) | 20.0 (20.0 to 20.0) |" in page
    changed = next(line for line in lines if line.startswith("| DACS less source only"))
    assert changed.endswith("| +2.5 / +3.0 | -5.0 / +2.0 | **0.0 / +2.7** | -5.0 | 3 |")
    corrected = next(line for line in lines if line.startswith("| ours, anchors of the source | 0.2"))
    # of the four networks one was not scored; a loss of exactly one point is harm
    assert corrected.endswith("| 0.0 / +3.0 | -0.1 / +3.0 | **0.0 / +3.0** | -1.0 | 1 of 3 | - |")
    assert "| ours, anchors of the source | 0.5 | **missing** | **missing** |" in page


def test_the_page_is_what_the_results_make():
    assert PAGE.read_text() == made_page(by_key(read_results())), (
        "run make evidence, or evidence.py --page-only"
    )


def test_results_are_whole_and_of_runs_that_are_wanted():
    for path in RESULTS.glob("*/*.json"):
        found = read_result(path)
        assert path.relative_to(RESULTS) == Path(found.shift) / f"{found.arm}-{found.seed}.json"
        assert found.shift in shifts.ORDER
        assert found.arm in arms.ARMS
        shift = shifts.load_shift(found.shift)
        # what was trained is what would be: results of other settings do not mix with them
        assert found.settings == arms.settings_of(found.arm, shift.settings, shift.things, "DATA", found.seed)


def test_results_come_back_and_other_formats_do_not(tmp_path: Path):
    one = next(iter(HAND.values()))
    path = write_result(one, tmp_path)
    assert read_results(tmp_path) == [one]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match="format 1"):
        read_results(tmp_path)


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
    config = load_config(None, None, settings)
    check_used(config, None)
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
    logits = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    found = adjusted(logits, torch.tensor([0.5, 0.0, 0.01], dtype=torch.float64), 0.5).flatten().tolist()
    expected = [1 - 0.5 * np.log(0.5), 2, 3 - 0.5 * np.log(0.01)]
    assert found == pytest.approx(expected)
    shift = torch.arange(1.0, 19.0).view(3, 3, 2)
    table = ShiftTable(torch.zeros(3, 3), torch.ones(3, 3), shift)
    half = without_positive(table).shift
    assert torch.equal(half == 0, torch.eye(3, dtype=torch.bool).unsqueeze(-1).expand(3, 3, 2))
    assert torch.equal(half[0, 1], shift[0, 1])
    assert bool((table.shift > 0).all())


TINY = (
    *("data.crop=[64, 64]", "data.workers=0", "model.decoder=segformer", "model.width=8", "training.batch=2"),
    "model.encoder={config: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 8, 8, 8], "
    "depths: [1, 1, 1, 1], layer_type: basic}}",
    "training.iterations=4",
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
