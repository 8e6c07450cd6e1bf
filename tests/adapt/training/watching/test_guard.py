"""What ends a training without a source: when, with which weights, and the same after a kill."""

import json
from pathlib import Path

import pytest
import tiny
import torch
import watch_oracle
from refusals import expect_refusal
from training_runs import adapt
from training_step import small_segmenter

from adapt.run.cards import ADAPTED_TAU
from adapt.run.run import load_run
from adapt.training.watching import guard as guarding
from adapt.training.watching.guard import FALL, MOST_BIAS, Guard, halved_labels, reason


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


@pytest.fixture(scope="module")
def begun(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source-only run."""
    run = tmp_path_factory.mktemp("begun") / "run"
    result = adapt(*tiny.train_arguments(domains, run, "method.host=source", "method.balance=off"))
    assert result.exit_code == 0, result.output
    return run


def go_on(begun: Path, domains: Path, out: Path, *more: str) -> list[str]:
    sets = [s for s in tiny.SETTINGS if not s.startswith(("model.", "method.rare_class"))]
    sets += ["method.start_norms=0", "method.start_adjustment=0"]  # it begins with just that model
    words = ["train", "--from", str(begun), "--target", str(domains / "target"), "-o", str(out)]
    words += ["--evaluate", str(domains / "target_eval")]
    return [*words, *(word for each in (*sets, *more) for word in ("--set", each))]


def test_either_measure_ends_it_and_only_beyond_its_bound() -> None:
    assert reason(MOST_BIAS, 0.9, 0.9) is None
    assert "bias" in str(reason(MOST_BIAS + 0.01, 0.9, 0.9))
    assert reason(0.1, 0.9 - FALL + 0.01, 0.9) is None
    assert "65.0%" in str(reason(0.1, 0.9 - FALL, 0.9))
    assert reason(0.1, 0.1, 0.3) is None  # a model that never agreed with itself has not fallen


def test_halves_are_seen_alone() -> None:
    segmenter = small_segmenter().eval()
    image = torch.randint(0, 256, (1, 24, 56, 3), dtype=torch.uint8)
    halves = (image[:, :, :24], image[:, :, 24:])  # a multiple of the stride, 8
    wanted = torch.cat([segmenter.logits(half).argmax(1)[0] for half in halves], 1)
    assert torch.equal(halved_labels(segmenter, image), wanted)
    narrow = image[:, :, :8]
    assert torch.equal(halved_labels(segmenter, narrow), segmenter.logits(narrow).argmax(1)[0])


def test_the_measures_are_those_of_the_oracle(tmp_path: Path) -> None:
    class Pictures(list):  # type: ignore[type-arg]
        """As an `UnlabelledImages` is indexed."""

    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (1, 16, 32, 3), generator=generator, dtype=torch.uint8) for _ in range(3)]
    guard = Guard(tmp_path, Pictures(image[0].numpy() for image in images))  # type: ignore[arg-type]
    first, student = small_segmenter(seed=0), small_segmenter(seed=1)
    noted: list[tuple[int, float, float, str | None]] = []
    guard.begin(first.eval())
    student.train()
    guard.look(student, 7, lambda *values: noted.append(values))
    guard.look(student, 7, lambda *values: noted.append(values))  # once an iteration
    assert student.training and len(noted) == 1
    student.eval()

    def labels(segmenter, halved=False) -> list[int]:  # type: ignore[no-untyped-def]
        with torch.no_grad():
            see = halved_labels if halved else lambda net, image: net.logits(image).argmax(1)[0]
            return torch.cat([see(segmenter, image).flatten() for image in images]).tolist()

    counts = watch_oracle.running_counts([(labels(first), labels(student))], 3, 1)
    assert noted[0][1] == pytest.approx(watch_oracle.sum_abs_bias(counts), abs=1e-9)
    halves = watch_oracle.running_counts([(labels(student), labels(student, True))], 3, 1)
    assert noted[0][2] == pytest.approx(watch_oracle.agreement(halves), abs=1e-9)
    own = watch_oracle.running_counts([(labels(first), labels(first, True))], 3, 1)
    assert float(guard.begun) == pytest.approx(watch_oracle.agreement(own), abs=1e-6)


def test_a_training_that_drifts_keeps_what_it_began_with(
    begun: Path, domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "MOST_BIAS", -1.0)
    run = tmp_path / "run"
    result = adapt(*go_on(begun, domains, run))
    assert result.exit_code == 0, result.output
    assert "iteration 2: self-training drifts, so it ends here" in result.output
    stopped = load_run(run)
    card = stopped.card
    assert (card.finished, card.iterations, card.stopped_at, card.evaluated_at) == (True, 0, 2, 0)
    assert not (run / "best").exists()
    start, kept = begun_weights(begun), stopped.tensors
    assert all(torch.equal(kept[key], value) for key, value in start.items())
    assert stopped.shift_statistics().seen.any() and str(ADAPTED_TAU) in card.evaluation
    lines = [json.loads(line) for line in (run / "guard.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2]
    expect_refusal(adapt("train", "--resume", str(run)), "ended by its guard at iteration 2", "method.guard")
    assert adapt("report", str(run)).exit_code == 0


def begun_weights(begun: Path) -> dict[str, torch.Tensor]:
    return {key: value for key, value in load_run(begun).tensors.items() if key.startswith("student.")}


def test_a_kill_while_it_ends_changes_nothing(
    begun: Path, domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "MOST_BIAS", -1.0)
    run = tmp_path / "run"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(guarding, "write_card", killed)
        adapt(*go_on(begun, domains, run))
    assert not load_run(run).card.finished and (run / "best").exists()
    monkeypatch.setattr(guarding, "MOST_BIAS", 2.0)  # it had been judged: nothing is trained on
    result = adapt("train", "--resume", str(run))
    assert result.exit_code == 0, result.output
    assert load_run(run).card.stopped_at == 2
    kept = load_run(run).tensors
    assert all(torch.equal(kept[key], value) for key, value in begun_weights(begun).items())


def test_without_the_guard_it_goes_on(
    begun: Path, domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "MOST_BIAS", -1.0)
    run = tmp_path / "run"
    result = adapt(*go_on(begun, domains, run, "method.guard=false"))
    assert result.exit_code == 0, result.output
    assert load_run(run).card.iterations == 6 and load_run(run).card.stopped_at is None
    assert not (run / "guard.jsonl").exists()
