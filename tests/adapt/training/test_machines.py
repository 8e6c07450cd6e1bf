"""Machines of all sizes: accumulated gradients, recomputed activations, full memory, changes on resuming."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from encoders import MIT

from adapt.cli import main
from adapt.run.run import load_run, part
from adapt.training import step as selftrain
from adapt.training.trainer import Trainer


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


def train(domains: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(main, tiny.train_arguments(domains, out, *more))


def resume(run: Path, *assignments: str) -> Result:
    sets = [word for assignment in assignments for word in ("--set", assignment)]
    return CliRunner().invoke(main, ["train", "--resume", str(run), *sets])


def trace(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_accumulated_gradients_are_those_of_the_larger_batch(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly so where batch norm does not look at the batch."""

    def without_batch_statistics(step: selftrain.Step) -> dict[str, torch.Tensor]:
        step.network.eval()  # type: ignore[attr-defined]
        return selftrain.source_term(step)

    monkeypatch.setattr("adapt.training.trainer.terms_of", lambda *_: (without_batch_statistics,))
    more = ("method.host=source", "method.balance=off", "training.iterations=3")
    for accumulate in (1, 2):
        split = (f"training.batch={4 // accumulate}", f"training.accumulate={accumulate}")
        result = train(domains, tmp_path / f"{accumulate}", *more, *split)
        assert result.exit_code == 0, result.output
    first, second = (load_run(tmp_path / name).tensors for name in ("1", "2"))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-3, atol=1e-5)
    for one, two in zip(trace(tmp_path / "1"), trace(tmp_path / "2"), strict=True):
        assert one["source"] == pytest.approx(two["source"], rel=1e-4)


def test_every_micro_batch_counts_once(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures of an iteration are the same, however they are split."""
    seen: dict[int, list[int]] = {}
    for accumulate in (1, 2, 4):
        sums: list[int] = []

        def look(step: selftrain.Step, sums: list[int] = sums) -> dict[str, torch.Tensor]:
            sums.extend(int(image.sum()) for image in step.pair.source_image)
            return selftrain.source_term(step)

        monkeypatch.setattr("adapt.training.trainer.terms_of", lambda *_, look=look: (look,))
        split = (f"training.batch={4 // accumulate}", f"training.accumulate={accumulate}")
        result = train(
            domains,
            tmp_path / f"{accumulate}",
            "method.host=source",
            "method.balance=off",
            "data.crop=[64, 64]",
            *split,
        )
        assert result.exit_code == 0, result.output
        seen[accumulate] = sums
    assert len(seen[1]) == 6 * 4
    assert seen[1] == seen[2] == seen[4]


def test_recomputed_activations_give_the_same_run(domains: Path, tmp_path: Path) -> None:
    encoder = "model.encoder={config: " + json.dumps(MIT) + "}"
    for name in ("false", "true"):
        result = train(domains, tmp_path / name, encoder, f"training.recompute_activations={name}")
        assert result.exit_code == 0, result.output
    first, second = (part(load_run(tmp_path / name).tensors, "student") for name in ("false", "true"))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-5)


def test_an_encoder_that_cannot_recompute_is_refused(domains: Path, tmp_path: Path) -> None:
    result = train(domains, tmp_path / "run", "training.recompute_activations=true")
    assert result.exit_code == 2
    assert "raise training.accumulate" in result.output


@pytest.mark.slow
def test_a_compiled_network_trains_and_loads(domains: Path, tmp_path: Path) -> None:
    result = train(domains, tmp_path / "run", "training.compile=true")
    assert result.exit_code == 0, result.output
    assert load_run(tmp_path / "run").segmenter().num_classes == 3


LARGE = ("data.crop=[64, 64]",)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (("training.batch=4",), "training.batch=2 with training.accumulate=2 takes about 50% of it"),
        (("training.batch=3", *LARGE), "training.batch=1 with training.accumulate=3 takes about 33% of it"),
        (("training.batch=1", *LARGE), "in a new run, since a run keeps its crop, data.crop=[32, 64] takes"),
    ],
)
def test_out_of_memory_says_what_to_lower(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], advice: str
) -> None:
    def full(self: Trainer, pairs: object) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Trainer, "_step", full)
    result = train(domains, tmp_path / "run", *settings)
    assert result.exit_code == 1
    assert "out of memory at iteration 1" in result.output and advice in result.output
    assert "precision=bf16" in result.output
    monkeypatch.undo()
    if "training.batch=4" in settings:
        again = resume(tmp_path / "run", "training.batch=2", "training.accumulate=2")
        assert again.exit_code == 0, again.output


def test_broken_logits_name_the_class(domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer._step

    def broken(self: Trainer, pairs: list[selftrain.Pair]) -> dict[str, float]:
        if self.iteration == 2:
            with torch.no_grad():
                self.student.segmenter.classify.bias[1] = float("nan")  # type: ignore[index]
        return step(self, pairs)

    monkeypatch.setattr(Trainer, "_step", broken)
    result = train(domains, tmp_path / "run")
    assert result.exit_code == 1
    assert "not finite at iteration 3 (the logits of sky are not finite either)" in result.output


# ---- resuming with other settings ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    assert train(domains, run).exit_code == 0
    return run


def test_a_finished_run_can_be_trained_on(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    result = resume(run, "training.iterations=8", "training.log_every=2")
    assert result.exit_code == 0, result.output
    assert "from iteration 6 on: training.iterations 6 -> 8" in result.output
    assert "training.log_every 1 -> 2" in result.output
    opened = load_run(run)
    assert opened.card.iterations == 8 and opened.card.finished
    assert opened.config.training.iterations == 8
    assert [line["iteration"] for line in trace(run)] == [1, 2, 3, 4, 5, 6, 8]


def test_changes_that_make_another_run_are_listed_and_refused(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = (run / "config.yaml").read_text()
    result = resume(run, "method.tau=0.7", "training.batch=4", "training.iterations=8")
    assert result.exit_code == 2
    assert "method.tau 0.5 -> 0.7, training.batch 2 -> 4" in result.output
    assert "training.iterations" not in result.output
    assert (run / "config.yaml").read_text() == before
    assert resume(run).exit_code == 2  # finished, and nothing asks for more


def test_resume_takes_no_other_option(finished: Path) -> None:
    result = CliRunner().invoke(main, ["train", "--resume", str(finished), "--preset", "demo"])
    assert result.exit_code == 2 and "only --set may go with it" in result.output
