"""The training loop: devices, precision, schedule, checkpoints, logging, evaluation."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from adapt.build import Built
from adapt.checkpoint import load_checkpoint, restore, save_checkpoint
from adapt.config import Config, Training
from adapt.correction import shift_table
from adapt.datasets import LabelledFolder, UnlabelledImages
from adapt.evaluate import evaluate
from adapt.labels import ClassList
from adapt.logit_statistics import LogitStatistics, ShiftStatistics
from adapt.pairs import Pair, TrainingPairs
from adapt.posthoc import gather_statistics
from adapt.run import Card, library_versions, new_statistics, prefixed, write_tensors, write_text
from adapt.segmenter import Segmenter, StudentNetwork
from adapt.selftrain import Balance, source_step, target_step
from adapt.teacher import follow, teacher_momentum

EVALUATION_TAUS = (0.0, 0.2, 1.0)


class Diverged(click.ClickException):
    """The loss is not finite; the weights are those before the step."""


@dataclass(frozen=True)
class Domains:
    """The data of a run, opened and checked."""

    source: LabelledFolder
    target: UnlabelledImages | None
    """None only in source-only training without statistics."""
    evaluation: LabelledFolder | None
    pairs: TrainingPairs


def learning_rate_factor(iteration: int, training: Training) -> float:
    """Linear warm-up to 1, then linear decay to 0 at the last iteration."""
    if iteration < training.warmup:
        return (iteration + 1) / training.warmup
    return 1 - (iteration - training.warmup) / max(1, training.iterations - training.warmup)


class Trainer:
    """Trains one run folder, which exists already with config.yaml and card.json."""

    def __init__(
        self, folder: Path, config: Config, built: Built, classes: ClassList, domains: Domains
    ) -> None:
        self.folder = folder
        self.config = config
        self.built = built
        self.classes = classes
        self.domains = domains
        precision = config.training.precision
        self.accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
        device = self.accelerator.device
        self.student = StudentNetwork(built.segmenter).to(device)
        self.optimizer = _optimizer(self.student, config.training)
        self.modules: dict[str, nn.Module] = {"student": self.student}
        self.teacher: Segmenter | None = None
        if config.method.host == "dacs":
            self.teacher = _teacher(built.segmenter)
            self.modules["teacher"] = self.teacher
        self.statistics: LogitStatistics | None = None
        if config.method.balance == "online":
            self.statistics = new_statistics(config, len(classes)).to(device)
            self.modules["statistics"] = self.statistics
        self.network, self.optimizer = self.accelerator.prepare(self.student, self.optimizer)
        self.iteration = 0
        self.posthoc: ShiftStatistics | None = None
        self.evaluation: dict[str, Any] = {}

    def resume(self) -> None:
        """Continue from the newest checkpoint."""
        checkpoint = load_checkpoint(self.folder / "last")
        restore(checkpoint, self.modules, self.optimizer)
        if checkpoint.scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(checkpoint.scaler)
        self.iteration = checkpoint.iteration
        _cut_log(self.folder / "metrics.jsonl", self.iteration)

    def train(self) -> bool:
        """Train to the last iteration; False when interrupted, in which case everything is saved.

        Raises:
            Diverged: a loss is not finite. Nothing of that step is kept.
        """
        training = self.config.training
        self.student.train()
        started, first = time.monotonic(), self.iteration
        with _interruption() as interrupted, self._log() as log:
            bar = tqdm(total=training.iterations, initial=first, desc="train", unit="it")
            for pair in self._batches():
                losses = self._step(pair)
                self.iteration += 1
                bar.update()
                if self.iteration % training.log_every == 0 or self.iteration == training.iterations:
                    rate = (self.iteration - first) / (time.monotonic() - started)
                    log(losses, rate)
                    bar.set_postfix({name: f"{value:.3g}" for name, value in losses.items()})
                done = self.iteration == training.iterations
                if self.iteration % training.save_every == 0 and not done:
                    self.save()
                if self.iteration % training.evaluate_every == 0 and not done:
                    self._evaluate(None)
                if interrupted():
                    break
            bar.close()
        if self.iteration < training.iterations:
            self.save()
            return False
        self._finish()
        return True

    def save(self, finished: bool = False) -> None:
        """Write a checkpoint and the loadable run, each file atomically."""
        scaler = self.accelerator.scaler
        state = scaler.state_dict() if scaler is not None else {}
        save_checkpoint(self.folder / "last", self.iteration, self.modules, self.optimizer, state)
        tensors = prefixed("student", self.student.segmenter.state_dict())
        if self.teacher is not None:
            tensors |= prefixed("teacher", self.teacher.state_dict())
        if self.statistics is not None:
            tensors |= prefixed("statistics", self.statistics.state_dict())
        if self.posthoc is not None:
            tensors |= prefixed("posthoc", self.posthoc.state())
        write_tensors(self.folder / "model.safetensors", tensors)
        card = Card(
            classes=self.classes.to_dict(),
            model=self.built.recipe,
            license_note=self.built.license_note,
            iterations=self.iteration,
            finished=finished,
            seed=self.config.training.seed,
            versions=library_versions(),
            evaluation=self.evaluation,
        )
        write_text(self.folder / "card.json", json.dumps(asdict(card), indent=2) + "\n")

    def _batches(self) -> Iterator[Pair]:
        """The remaining batches, on the device."""
        training, data = self.config.training, self.config.data
        indices = [
            range(i * training.batch, (i + 1) * training.batch)
            for i in range(self.iteration, training.iterations)
        ]
        loader: DataLoader[Pair] = DataLoader(
            self.domains.pairs,
            batch_sampler=indices,  # type: ignore[arg-type]
            num_workers=data.workers,
            worker_init_fn=_ignore_interrupts,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        for pair in loader:
            yield Pair(*(tensor.to(self.accelerator.device, non_blocking=True) for tensor in pair))

    def _step(self, pair: Pair) -> dict[str, float]:
        """One optimiser step. The losses are read back once, before the weights are touched."""
        method, training = self.config.method, self.config.training
        # All randomness of an iteration follows from its number, so a resumed run repeats it exactly.
        torch.manual_seed(training.seed * 1_000_003 + self.iteration)
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + self.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * learning_rate_factor(self.iteration, training)
        balance = None
        if self.statistics is not None:
            balance = Balance(self.statistics, lambda t: self.accelerator.reduce(t, "sum"))
        backward = self.accelerator.backward
        self.optimizer.zero_grad()
        with self.accelerator.autocast():
            losses = source_step(self.network, pair, method, balance, backward)
            if self.teacher is not None:
                losses |= target_step(self.network, self.teacher, pair, method, balance, generator, backward)
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        _check_finite(values, self.iteration)
        if training.clip_gradient is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), training.clip_gradient)
        self.optimizer.step()
        if self.teacher is not None:
            momentum = teacher_momentum(self.iteration, method.teacher_momentum)
            follow(self.teacher, self.student.segmenter, momentum)
        return values

    def _finish(self) -> None:
        """Statistics of the final weights, final evaluation, final save."""
        self.student.eval()
        if self.config.method.balance != "off":
            assert self.domains.target is not None
            self.posthoc = gather_statistics(
                self.student.segmenter,
                self.domains.source,
                self.domains.target,
                self.config.method,
                self.accelerator.device,
            )
        self._evaluate(self.posthoc)
        self.save(finished=True)

    def _evaluate(self, statistics: ShiftStatistics | None) -> None:
        """Score the student on the labelled target set, where there is one."""
        if self.domains.evaluation is None:
            return
        table = None if statistics is None else shift_table(statistics)
        taus = (0.0,) if table is None else EVALUATION_TAUS
        segmenter, device = self.student.segmenter, self.accelerator.device
        scores = evaluate(segmenter, self.domains.evaluation, len(self.classes), table, taus, device)
        self.student.train()
        self.evaluation = {str(tau): score.to_dict() for tau, score in scores.items()}
        best = scores[0.0]
        tqdm.write(
            f"iteration {self.iteration}: mIoU {best.mean_iou:.1%}, mAcc {best.mean_accuracy:.1%}, "
            f"sum of |Bias| {best.sum_abs_bias:.3f} (uncorrected)",
            file=sys.stderr,
        )

    @contextmanager
    def _log(self) -> Iterator[Any]:
        """Gives a function that appends to metrics.jsonl and TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.iteration + 1)
        with (self.folder / "metrics.jsonl").open("a") as lines:

            def log(losses: dict[str, float], rate: float) -> None:
                record = {"iteration": self.iteration, "iterations_per_second": round(rate, 4), **losses}
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                for name, value in losses.items():
                    board.add_scalar(f"train/{name}", value, self.iteration)

            yield log
        board.close()


def _optimizer(student: StudentNetwork, training: Training) -> torch.optim.Optimizer:
    """AdamW; the encoder learns more slowly, norms, biases and position blocks do not decay."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in student.named_parameters():
        rate = training.encoder_lr if name.startswith("segmenter.encoder.") else training.decoder_lr
        decay = 0.0 if parameter.ndim <= 1 or "position" in name else training.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    )


def _teacher(segmenter: Segmenter) -> Segmenter:
    """A copy in evaluation mode that no gradient reaches."""
    import copy

    return copy.deepcopy(segmenter).eval().requires_grad_(False)


def _check_finite(losses: dict[str, float], iteration: int) -> None:
    wrong = [name for name, value in losses.items() if value != value or abs(value) == float("inf")]
    if wrong:
        raise Diverged(
            f"the {', '.join(wrong)} loss is not finite at iteration {iteration + 1}; the weights were not "
            "touched, and the last checkpoint is whole. Lower training.encoder_lr and training.decoder_lr, "
            "set training.clip_gradient, or use precision bf16 instead of fp16."
        )


def _cut_log(path: Path, iteration: int) -> None:
    """Drop lines that were logged after the checkpoint, and a last line that a kill cut off."""
    kept = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            if json.loads(line)["iteration"] <= iteration:
                kept.append(line + "\n")
        except ValueError:
            break
    write_text(path, "".join(kept))


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches the whole process group; the loop decides when readers stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interruption() -> Iterator[Any]:
    """Turns the first Ctrl-C into a flag, so that a step is finished and saved; the second one interrupts."""
    caught: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        tqdm.write(
            "interrupted: finishing this step and saving (Ctrl-C again to stop at once)", file=sys.stderr
        )

    former = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(caught)
    finally:
        signal.signal(signal.SIGINT, former)
