"""`adapt eval` and `adapt tau`: baselines and other runs beside a run, what they say of harm, and write."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from agreeing import write_agreeing
from click.testing import CliRunner, Result

from adapt.cli import main
from adapt.commands.measuring import settle
from adapt.data.datasets import LabelledFolder, UnlabelledFolder
from adapt.evaluation.baselines import ShareCount, adjusted, adjustments
from adapt.evaluation.bootstrap import Change, Interval
from adapt.evaluation.prediction import labels_of_logits, picture_logits
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.evaluation.sweep import SWEEP, Sweep
from adapt.model.segmenter import Segmenter
from adapt.run.run import load_run


def adapt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


@pytest.fixture(scope="module")
def trained(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured") / "run"
    result = adapt(*tiny.train_arguments(domains, folder, "method.balance=posthoc", "training.iterations=30"))
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of its own, which may be written to."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def agreeing(domains: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("agreeing") / "labelled"
    shutil.copy(domains / "classes.yaml", out.parent)
    return write_agreeing(load_run(trained), domains / "target_eval", out)


# ---- baselines -------------------------------------------------------------------------------------------


def test_baselines_are_those_of_the_runs_own_target(domains: Path, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    words = ("eval", trained, "--data", domains / "target_eval", "--tau", "0", "--tau", "0.7", "--baselines")
    result = adapt(*words, "--json", file)
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    opened = load_run(trained)
    segmenter = opened.segmenter()
    count = ShareCount(3)
    target = UnlabelledFolder(domains / "target")
    for image in (target[index] for index in range(len(target))):
        count.add(picture_logits(segmenter, image), segmenter.output_stride, image.shape[:2])
    shares = count.shares()
    assert written["shares"] == shares.to_dict() and written["shares"]["pictures"] == 6
    dataset = LabelledFolder(domains / "target_eval", opened.classes)
    samples = [dataset[index] for index in range(len(dataset))]
    offsets = adjustments(shares)
    assert [(each["by"], each["strength"]) for each in written["baselines"]] == [
        tuple(way) for way in offsets
    ]
    for each, (way, offset) in zip(written["baselines"], offsets.items(), strict=True):
        expected = np.zeros((3, 3), np.int64)
        for image, truth in samples:
            logits = adjusted(picture_logits(segmenter, image), offset)
            labels = labels_of_logits(logits, segmenter.output_stride, image.shape[:2], None, 0.0)
            expected += confusion_matrix(truth, labels, 3)
        assert each["confusion"] == expected.tolist()
        (line,) = (line for line in result.output.splitlines() if line.startswith(f"{way.title} "))
        assert f"{100 * Scores.from_confusion(expected).mean_iou:.1f}" in line
    (ours,) = (line for line in result.output.splitlines() if line.startswith("tau 0.7 "))
    assert f"{100 * written['tau']['0.7']['mean_iou']:.1f}" in ours, "in the same table"


def test_the_network_sees_each_picture_once(
    domains: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    plain = Segmenter.logits
    monkeypatch.setattr(Segmenter, "logits", lambda self, images: seen.append(1) or plain(self, images))
    for command in ("eval", "tau"):
        seen.clear()
        result = adapt(command, trained, "--data", domains / "target_eval", "--baselines")
        assert result.exit_code == 0, result.output
        assert len(seen) == 6 + 6, "labelled pictures, and the target's for the shares"


def test_other_footage_gives_other_shares(domains: Path, run: Path, tmp_path: Path) -> None:
    words = ("eval", run, "--data", domains / "target_eval", "--tau", "0", "--baselines", "--json")
    source = ("--target", domains / "source")
    for name, more in (("own", ()), ("other", source)):
        assert adapt(*words, tmp_path / f"{name}.json", *more).exit_code == 0
    own, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("own", "other"))
    assert own["tau"] == other["tau"] and own["shares"] != other["shares"]


def test_a_target_that_has_gone_is_asked_for(domains: Path, run: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(domains / "target"), str(run / "gone")))
    refused = adapt("eval", run, "--data", domains / "target_eval", "--baselines")
    assert refused.exit_code == 2 and "gone, which is not here; name some with --target" in refused.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("eval", "--data", "x", "--target", "y"), "--target is what the shares of --baselines"),
        (("tau", "--baselines"), "give them with --data"),
        (("tau", "--write"), "give them with --data, or a strength with --tau"),
        (("tau", "--tau", "0.3"), "give --write too"),
    ],
)
def test_options_that_need_others(trained: Path, words: tuple[str, ...], said: str) -> None:
    result = adapt(words[0], trained, *words[1:])
    assert result.exit_code == 2 and said in " ".join(result.output.split())


# ---- other runs ------------------------------------------------------------------------------------------


def test_other_runs_stand_first_and_uncorrected(
    domains: Path, run: Path, trained: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(trained, tmp_path / "source-only"))
    file = tmp_path / "scores.json"
    words = ("--data", domains / "target_eval", "--tau", "0", "--tau", "0.7", "--json", file)
    result = adapt("eval", run, "--beside", other, *words)
    assert result.exit_code == 0, result.output
    (head,) = (line for line in result.output.splitlines() if line.startswith("class "))
    assert head.replace("run, tau 0.7", "corrected").split()[1:4] == ["source-only", "run", "corrected"]
    written = json.loads(file.read_text())
    assert written["beside"] == {"source-only": written["tau"]["0"]}, "a copy scores the same"


def test_runs_of_other_classes_are_refused(domains: Path, run: Path, trained: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained, tmp_path / "other"))
    card = other / "card.json"
    card.write_text(card.read_text().replace('"sky"', '"heaven"'))
    refused = adapt("eval", run, "--beside", other, "--data", domains / "target_eval")
    assert refused.exit_code == 2 and "heaven" in refused.output and "have the same ones" in refused.output


# ---- harm ------------------------------------------------------------------------------------------------


def test_eval_and_bias_say_where_the_correction_harms(agreeing: Path, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    words = ("--data", agreeing, "--tau", "0", "--tau", "1", "--json", file)
    result = adapt("eval", trained, *words)
    by_tau = json.loads(file.read_text())["tau"]
    assert by_tau["0"]["mean_iou"] == 1, "or the data would not be what this test is about"
    lost = 100 * (by_tau["1"]["mean_iou"] - 1)
    assert lost < -1
    assert f"the correction lowers scores on these labels (at tau 1 mIoU {lost:+.1f}, mAcc" in result.output
    bias = adapt("bias", trained, "--data", agreeing, "--tau", "1", "-o", tmp_path / "bias")
    assert f"at tau 1 mIoU {lost:+.1f}" in bias.output
    plain = adapt("eval", trained, "--data", agreeing, "--tau", "0")
    assert plain.exit_code == 0 and "lowers" not in plain.output


def test_json_of_bias_is_its_table(domains: Path, trained: Path, tmp_path: Path) -> None:
    file, data = tmp_path / "bias.json", domains / "target_eval"
    words = ("bias", trained, "--data", data, "--tau", "1", "-o", tmp_path / "b", "--json", file)
    result = adapt(*words)
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["classes"] == ["ground", "sky", "box"] and found["tau"] == 1
    titles = ["estimate", "estimate, tau 1", "measured", "measured, tau 1"]
    assert list(found["bias"]) == titles == list(found["sum_abs_bias"])
    (row,) = [line for line in result.output.splitlines() if line.startswith("sky")]
    assert row.split()[1:] == [f"{found['bias'][title]['sky']:+.3f}" for title in titles]
    (sums,) = [line for line in result.output.splitlines() if line.startswith("sum |Bias|")]
    assert sums.split()[2:] == [f"{found['sum_abs_bias'][title]:.3f}" for title in titles]
    again = adapt(*words)
    assert again.exit_code == 2 and "--force" in again.output


def test_the_report_does_not_suggest_what_harms(agreeing: Path, domains: Path, run: Path) -> None:
    for data, harmful in ((agreeing, True), (None, False)):
        words = () if data is None else ("--data", data)
        assert adapt("report", run, *words, "--tau", "1").exit_code == 0
        page = (run / "report" / "report.html").read_text()
        after = page[page.index("What to do next</h2>") :]
        assert ("The correction lowers scores" in after) == harmful
        assert ("--without-correction" in after) == harmful
        assert ("--with-correction --tau 1" in after) == (not harmful)


def test_train_does_not_suggest_what_harmed(
    agreeing: Path, domains: Path, trained: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own evaluation says so; what it says is what its card holds."""
    import adapt.commands.train

    opened = load_run(run)
    for gain, word in ((-0.02, "--without-correction"), (0.02, "--with-correction")):
        score = {"mean_iou": 0.5, "mean_accuracy": 0.6}
        other = {"mean_iou": 0.5 + gain, "mean_accuracy": 0.7}
        card = opened.card.model_copy(update={"evaluation": {"0.0": score, "0.5": other}})
        done = type(opened)(run, card, opened.config, opened.classes)
        monkeypatch.setattr(adapt.commands.train, "resume", lambda path, settings, done=done, **_: done)
        result = CliRunner().invoke(main, ["train", "--resume", str(run)])
        assert result.exit_code == 0, result.output
        assert word in result.output and ("at tau 0.5 mIoU -2.0, mAcc +10.0" in result.output) == (gain < 0)


# ---- the strength of a run -------------------------------------------------------------------------------


def test_the_chosen_strength_is_written_and_used(agreeing: Path, run: Path, tmp_path: Path) -> None:
    """Where every strength harms, that is 0; evaluations start from it."""
    file = tmp_path / "tau.json"
    result = adapt("tau", run, "--data", agreeing, "--write", "--json", file)
    assert result.exit_code == 0, result.output
    assert f"wrote tau 0 to {run}; it was 0.5, the default" in result.output
    assert load_run(run).card.tau == 0 and load_run(run).tau == 0
    rows = json.loads(file.read_text())["strengths"]
    assert [row["tau"] for row in rows] == list(SWEEP)
    assert rows[6]["mean_iou_change"][1] < 0 and "mean_iou_change" not in rows[0]
    assert "tau 0, that is no correction," in result.output and "better than noise" in result.output
    again = adapt("tau", run, "--write", "--tau", "0.35")
    assert f"wrote tau 0.35 to {run}; it was 0\n" in again.output
    swept = adapt("tau", run)
    assert "\n0.35 " in swept.output, "the strength in use is looked at"
    scored = adapt("eval", run, "--data", agreeing)
    assert "tau 0.35" in scored.output and "tau 0.5" not in scored.output
    gathered = adapt("statistics", run)
    assert "tau 0.35 was chosen with the former statistics" in gathered.output


def sweep(iou: Interval, mean: float) -> Sweep:
    def scores(hits: int) -> Scores:
        return Scores.from_confusion(np.array([[hits, 100 - hits], [10, 90]]))

    change = Change(iou, Interval(-0.1, 0.1))
    measured = [scores(60), scores(60 + int(100 * mean))]
    return Sweep((0.0, 0.3), np.zeros((2, 2)), measured, {0.3: change}, pictures=9)


def test_what_is_not_better_than_noise_is_not_written(run: Path) -> None:
    noise, better = sweep(Interval(-0.01, 0.05), 0.02), sweep(Interval(0.01, 0.05), 0.02)
    said = settle(load_run(run), noise, "mIoU")
    assert "nothing was written" in said and "keeps tau 0.5" in said and load_run(run).card.tau is None
    assert "not better than noise" in noise.advice(0.2)
    assert "wrote tau 0.3" in settle(load_run(run), better, "mIoU") and load_run(run).tau == 0.3
    assert "nothing to write" in settle(load_run(run), better, "mIoU")
    few = Sweep(better.taus, better.estimated, better.measured, pictures=3)
    assert "3 labelled pictures are too few" in few.advice(0.2) and not few.choose("mIoU", 0.2).proven


def test_the_strength_to_leave_is_judged_against_the_one_in_use() -> None:
    """Tau 0 is best: what counts is whether the strength in use is worse than that by more than noise."""
    harmful, noise = sweep(Interval(-0.06, -0.01), -0.03), sweep(Interval(-0.06, 0.02), -0.03)
    choice = harmful.choose("mIoU", 0.3)
    assert (choice.tau, choice.instead_of, choice.proven) == (0.0, 0.3, True)
    assert choice.interval == (0.01, 0.06) and choice.gain > 0
    assert not noise.choose("mIoU", 0.3).proven
    assert "lowers scores" in harmful.advice(0.3)
