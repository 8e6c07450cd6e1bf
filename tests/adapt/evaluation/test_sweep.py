"""The sweep over strengths: estimate, measurement, and what the one is worth against the other."""

from pathlib import Path

import cv2
import numpy as np
import oracle
import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from adapt.balance.bias import bias_without_labels_corrected
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from adapt.cli import main
from adapt.evaluation.scores import Scores
from adapt.evaluation.sweep import SWEEP, Sweep, estimate, rank_correlation
from adapt.reporting.pictures import draw_sweep


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def statistics() -> ShiftStatistics:
    rows, anchors, seen = oracle.random_statistics(np.random.default_rng(0), 3)
    tensors = [Mixture(*(torch.from_numpy(part).float() for part in m)) for m in (rows, anchors)]
    return ShiftStatistics(tensors[0], tensors[1], torch.from_numpy(seen))


def scores(diagonal: int) -> Scores:
    """Three classes, the last one absent; the higher `diagonal`, the better."""
    return Scores.from_confusion(np.array([[diagonal, 5, 0], [10, diagonal, 0], [0, 0, 0]]))


@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(-1, 1)), min_size=2, max_size=20))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, float]]) -> None:
    first, second = (np.array(values, float) for values in zip(*pairs, strict=True))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert np.isnan(rank_correlation(first, second))
    else:
        assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second)[0], abs=1e-12)


def test_the_estimate_is_that_of_every_strength(statistics: ShiftStatistics) -> None:
    sweep = estimate(statistics)
    for index in (0, 4, 8):
        expected = bias_without_labels_corrected(statistics, SWEEP[index])
        assert sweep.estimated[index].tolist() == expected.tolist()
    lines = sweep.table().splitlines()
    assert [line.split()[0] for line in lines[1:]] == [f"{tau:g}" for tau in SWEEP]
    assert len({len(line) for line in lines}) == 1
    assert float(lines[5].split()[1]) == pytest.approx(np.abs(sweep.estimated[4]).sum(), abs=5e-4)
    assert "measured bias is several times as large" in sweep.advice()


def test_with_labels_the_advice_is_what_was_measured() -> None:
    measured = [scores(20), scores(90), scores(60)]
    estimated = np.array([[0.1, -0.1, 0.2], [0.02, -0.02, 0], [0.05, -0.05, 0]])
    sweep = Sweep((0.0, 0.5, 1.0), estimated, measured)
    for wish in ("mIoU", "mAcc"):
        assert f"best for {wish} here: tau 0.5 (" in sweep.advice()
    trust = sweep.trust()
    assert trust.size == pytest.approx(0.4 / measured[0].sum_abs_bias)
    assert trust.over_classes == pytest.approx(1), (
        "class 0 is over-predicted by both; the absent one is left out"
    )
    assert trust.over_strengths == pytest.approx(1)
    assert f"{100 * measured[1].mean_iou:.1f}" in sweep.table().splitlines()[2]


def test_strengths_beyond_one_do_not_count_for_trust() -> None:
    estimated = np.array([[0.3, -0.3, 0], [0.1, -0.1, 0], [0.9, -0.9, 0]])
    sweep = Sweep((0.0, 1.0, 2.0), estimated, [scores(20), scores(60), scores(90)])
    assert sweep.trust().over_strengths == pytest.approx(1)


@pytest.mark.parametrize("labelled", [False, True])
def test_picture(tmp_path: Path, labelled: bool) -> None:
    measured = [scores(20), scores(90), scores(60)] if labelled else None
    draw_sweep(Sweep((0.0, 0.5, 1.0), np.full((3, 3), 0.1), measured), tmp_path / "tau.png")
    height, width, _ = cv2.imread(str(tmp_path / "tau.png")).shape
    assert width == pytest.approx(height * (8.4 if labelled else 4.2) / 3.2, rel=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["tau.png"]


def test_the_command_writes_table_and_picture(tmp_path: Path) -> None:
    domains = tiny.make_domains(tmp_path)
    run, data = tmp_path / "run", str(domains / "target_eval")
    assert adapt(*tiny.train_arguments(domains, run, "method.balance=posthoc")).exit_code == 0
    result = adapt("tau", str(run), "--data", data)
    assert result.exit_code == 0, result.output
    assert (run / "report" / "tau.png").is_file() and "rank correlation" in result.output
    again = adapt("tau", str(run))
    assert again.exit_code == 0, "the run's own picture is replaced"
    (tmp_path / "mine.png").write_text("mine")
    refused = adapt("tau", str(run), "-o", str(tmp_path / "mine.png"))
    assert refused.exit_code == 2 and (tmp_path / "mine.png").read_text() == "mine"
