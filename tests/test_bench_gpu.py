"""`make gpu` on a machine without a GPU: what its numbers mean, and that nothing it found is lost."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "bench"))
sys.path.insert(0, str(Path(__file__).parent / "bench" / "gpu"))

import gpu
import gpu_labels
import gpu_training
from gpu_report import FAILED, MISSED, REACHED, SKIPPED, Report, Row, read_rows
from gpu_sizes import FULL, TINY, run

CPU = torch.device("cpu")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield


def by_name(report: Report) -> dict[str, Row]:
    return {row.name: row for row in report.rows}


def test_without_a_gpu_it_says_so_and_ends_with_3(
    no_gpu: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 3
    assert capsys.readouterr().err == f"{gpu.NO_GPU}\n"
    assert not (tmp_path / "gpu.json").exists()


def test_verdicts() -> None:
    report = Report("part")
    report.number("just", 1.05, at_most=1.05)
    report.number("over", 1.06, at_most=1.05)
    report.number("under", 0.9, at_least=0.999)
    report.number("told", 3.0, "ms")
    report.number("none", float("nan"))
    report.check("so", True)
    report.skipped("not here", "it is\nnot installed")
    assert [row.verdict for row in report.rows] == [REACHED, MISSED, MISSED, "", FAILED, REACHED, SKIPPED]
    assert [row.bad for row in report.rows] == [False, True, True, False, True, False, False]
    assert report.rows[-1].note == "it is not installed"


def test_rows_survive_a_part_that_dies_while_it_writes(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    report = Report("part", file)
    report.number("a", 1.0, "ms")
    report.failed("b", ValueError("two\nlines"))
    file.write_text(file.read_text() + '{"part": "part", "na')
    assert read_rows(file) == report.rows
    assert report.rows[1].note == "ValueError: two lines"


def test_ratios_are_of_neighbours() -> None:
    assert gpu_training.ratio_of([1.0, 2.0, 10.0], [2.0, 2.0, 11.0]) == pytest.approx(1.1)


def test_what_the_fold_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def works(seconds: float) -> Any:
        return lambda: clock.__setitem__(0, clock[0] + seconds)

    monkeypatch.setattr(gpu_labels.time, "perf_counter", lambda: clock[0])
    assert gpu_labels.fold_ratio(works(2.0), works(2.5), 4) == pytest.approx([2.0, 2.5, 1.25])


def test_steps_of_each_kind_are_timed_and_set_against_each_other() -> None:
    report = Report("step")
    gpu_training.measure_steps(report, CPU, replace(TINY, repetitions=1, precisions=("fp32", "fp16")))
    rows = by_name(report)
    plain, balanced = rows["tiny, fp32: plain step"].value, rows["tiny, fp32: balanced step"].value
    ratio = rows["tiny, fp32: time, balanced / plain"]
    assert plain and balanced and ratio.value == pytest.approx(balanced / plain)
    assert ratio.wanted == "<= 1.05" and ratio.verdict in (REACHED, MISSED)
    assert rows["tiny, fp32: peak memory"].verdict == SKIPPED
    assert rows["tiny, fp16"].verdict == SKIPPED and "needs a GPU" in rows["tiny, fp16"].note


def test_a_kind_of_step_that_breaks_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu_training, "_measure_step", broken)
    report = Report("step")
    gpu_training.measure_steps(report, CPU, TINY)
    assert [row.verdict for row in report.rows] == [FAILED, FAILED]
    assert "CUDA out of memory" in report.rows[0].note


def test_balancing_changes_no_more_than_the_balanced_steps() -> None:
    training = gpu_training.Training(CPU, next(iter(TINY.encoders.values())), "fp32", TINY)
    training.step("off")
    assert training.balance is None
    training.step("online")
    assert training.balance is not None and int(training.balance.statistics.iteration) == 1


def test_statistics_of_a_device() -> None:
    report = Report("statistics")
    gpu_labels.measure_statistics(report, CPU, TINY)
    assert {row.verdict for row in report.rows} == {REACHED}
    assert len(report.rows) == 7
    assert "12 of them beyond the range" in report.rows[0].note


def test_a_single_count_too_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    count, calls = gpu_labels.logit_histogram, []

    def miscounts(logits: torch.Tensor, labels: torch.Tensor) -> Any:
        histogram = count(logits, labels)
        calls.append(histogram)
        histogram.counts[0, 0, 0] += len(calls) == 2
        return histogram

    monkeypatch.setattr(gpu_labels, "logit_histogram", miscounts)
    report = Report("statistics")
    gpu_labels.measure_statistics(report, CPU, TINY)
    assert [row.verdict for row in report.rows[:3]] == [MISSED, REACHED, REACHED]


def test_share_of_equal_labels() -> None:
    assert gpu_labels.share_equal(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 2], [3, 0]])) == 0.75


def test_what_is_not_there_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report("onnx")
    gpu_labels.measure_onnx(report, tmp_path, TINY, "rocm")
    gpu_labels.measure_tensorrt(report, tmp_path, CPU, TINY)
    monkeypatch.setattr(gpu_labels.importlib.util, "find_spec", lambda name: None)
    gpu_labels.measure_tensorrt(report, tmp_path, torch.device("cuda"), TINY)
    gpu_labels.measure_onnx(report, tmp_path, TINY)
    assert [row.verdict for row in report.rows] == [SKIPPED] * 4
    assert "CPUExecutionProvider" in report.rows[0].note
    assert "tensorrt or tensorrt_rtx is not installed" in report.rows[2].note


def test_the_table_is_written_after_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, found = tmp_path / "gpu.json", []

    def part(name: str, work: Path, tiny: bool, seconds: float) -> list[Row]:
        found.append(len(json.loads(path.read_text())["rows"]) if path.exists() else None)
        assert seconds <= gpu.LIMITS[name]
        report = Report(name)
        report.check("it went", name != "step")
        return report.rows

    monkeypatch.setattr(gpu, "measure_apart", part)
    only = ["--tiny", "--json", str(path), "--work", str(tmp_path / "work"), "--only"]
    assert gpu.main([*only, "labels", "step", "ranks"]) == 1  # a target was missed
    assert found == [None, 1, 2]
    written = json.loads(path.read_text())
    assert written.keys() == {"machine", "seconds", "rows"}
    assert {"gpu", "python", "packages"} <= written["machine"].keys()
    assert [row["part"] for row in written["rows"]] == ["step", "labels", "ranks"]
    assert written["rows"][0].keys() == {"part", "name", "value", "unit", "wanted", "verdict", "note"}
    assert gpu.main([*only, "labels"]) == 0


def test_a_part_that_hangs_is_stopped(tmp_path: Path) -> None:
    rows = gpu.measure_apart("step", tmp_path, True, 0.1)
    assert [row.verdict for row in rows] == [FAILED] and "longer than" in rows[0].note


def test_a_part_that_raises_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(gpu, "_measure", broken)
    report = Report("labels")
    gpu.measure("labels", report, tmp_path, FULL)
    assert [row.note for row in report.rows] == ["RuntimeError: no kernel image"]


def test_a_command_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit code 2; it said: .*there is no preset 'x'"):
        run(["-m", "adapt", "presets", "x"], tmp_path / "log", 60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_labels_ranks_and_graphs(tmp_path: Path) -> None:
    """The parts that start commands, as they are on a GPU but for the device."""
    report = Report("all")
    sizes = replace(TINY, precisions=("fp32",))
    gpu_training.measure_runs(report, tmp_path, CPU, sizes)
    gpu_labels.measure_labels(report, tmp_path, CPU, sizes)
    gpu_training.measure_ranks(report, tmp_path, CPU, sizes)
    assert all(row.verdict in (REACHED, "") for row in report.rows)
    assert len(report.rows) == 2 + 2 + 4
    rows = by_name(report)
    assert rows["corrected labels in strict fp32: the CPU's"].value == 1.0
    graphs = Report("onnx")
    gpu_labels.measure_onnx(graphs, tmp_path, sizes, "cpu")
    shown = by_name(graphs)
    assert shown["ONNX Runtime, cpu: labels equal to the CPU provider's"].value == 1.0
    assert shown["ONNX Runtime, cpu: corrected / plain"].wanted == "<= 1.03"
