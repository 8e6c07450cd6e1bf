"""The training loop: devices, precision, schedule, checkpoints, logging, evaluation."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from adapt.augmentation.pairs import Domains, Pair, new_loader
from adapt.balance.class_priors import new_priors
from adapt.balance.correction import shift_table
from adapt.balance.logit_statistics import LogitStatistics, ShiftStatistics
from adapt.balance.online import Balance
from adapt.balance.posthoc import gather_statistics
from adapt.config.settings import Config
from adapt.data.classes import ClassList
from adapt.evaluation.prediction import evaluate
from adapt.interruption import interruption
from adapt.model.build import Built
from adapt.model.encoders import save_memory
from adapt.model.segmenter import Segmenter, StudentNetwork
from adapt.run.cards import DEFAULT_TAU, Card
from adapt.run.checkpoint import load_checkpoint, restore, resumed_modules, save_checkpoint
from adapt.run.run import (
    PRETRAINED,
    new_card,
    new_statistics,
    prefixed,
    read_tensors,
    write_card,
    write_tensors,
)
from adapt.training.alone import alone
from adapt.training.failures import check_finite, within_memory
from adapt.training.feature_distance import FeatureDistance, thing_ids
from adapt.training.journal import Evaluated, Journal, say_cost, shown
from adapt.training.optimisation import learning_rate_factor, new_optimizer
from adapt.training.ranks import check_ranks, greatest_of, new_accelerator, on_any
from adapt.training.step import Step, terms_of
from adapt.training.teacher import follow, new_teacher, teacher_momentum
from adapt.training.watching.best import finish_best, keep_best, rewind_best
from adapt.training.watching.trackers import BOARD, open_trackers
from adapt.training.watching.watch import Watch

EVALUATION_TAUS = (0.0, DEFAULT_TAU, 1.0)


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
        self.accelerator = new_accelerator(config, folder)
        device = self.accelerator.device
        if config.training.recompute_activations:
            save_memory(built.segmenter.encoder)
        torch.manual_seed(config.training.seed)  # of the density head
        self.student = StudentNetwork(built.segmenter).to(device)
        self.optimizer = new_optimizer(self.student, config.training)
        self.modules: dict[str, nn.Module] = {"student": self.student}
        self.teacher: Segmenter | None = None
        self.watch: Watch | None = None
        if config.method.self_training:
            self.teacher = new_teacher(built.segmenter, config.data.crop)
            self.watch = Watch(classes.names, self._total).to(device)
            self.modules |= {"teacher": self.teacher, "watch": self.watch}
        self.feature_distance: FeatureDistance | None = None
        if config.method.feature_distance > 0:
            things = thing_ids(classes.names, config.method.thing_classes)
            self.feature_distance = FeatureDistance(built.segmenter.encoder, things)
            self.feature_distance.encoder.load_state_dict(read_tensors(folder / PRETRAINED))
        self.statistics: LogitStatistics | None = None
        self.balance: Balance | None = None
        if config.method.online:
            self.statistics = new_statistics(config, len(classes)).to(device)
            self.modules["statistics"] = self.statistics
            stride = built.segmenter.output_stride
            self.balance = Balance(self.statistics, self._total, stride, greatest_of(self.accelerator))
        self.priors = new_priors(config.method, len(classes), config.data.crop, device, self._total)
        if self.priors is not None:
            self.modules["shares"] = self.priors.shares
        self.network, self.optimizer = self.accelerator.prepare(self.student, self.optimizer)
        self.iteration = 0
        self.waited = 0.0
        """Seconds that steps waited for data."""
        self.posthoc: ShiftStatistics | None = None
        self.evaluated = Evaluated()
        self.journal: Journal
        """Open while `train` runs."""
        self.last_step: Step | None = None
        """The last one, where the journal wants to show it."""
        check_ranks(self.accelerator, [config.to_yaml(), *domains.names])

    def resume(self) -> None:
        """Continue from the newest checkpoint."""
        checkpoint = load_checkpoint(self.folder / "last")
        restore(checkpoint, resumed_modules(checkpoint, self.modules), self.optimizer)
        if checkpoint.scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(checkpoint.scaler)
        self.iteration = checkpoint.iteration
        if self.watch is not None and self.accelerator.is_main_process:
            rewind_best(self.folder, self.watch, self.iteration, self._tensors(), self._card(False))

    def train(self) -> bool:
        """Train to the last iteration; False when interrupted, in which case everything is saved.

        Raises:
            Diverged: a loss is not finite. Nothing of that step is kept.
            OutOfMemory: the step does not fit. Nothing of it is kept.
        """
        training, writes = self.config.training, self.accelerator.is_main_process
        open_trackers(self.accelerator, self.config, self.folder)
        steps = training.iterations, training.save_every, self.iteration
        board, log = BOARD in training.trackers, self.accelerator.log
        with Journal(self.folder, self.classes, *steps, writes, board, log) as self.journal:
            self._loop()
            self.save()
            finished = self.iteration >= training.iterations
            if finished:
                self._finish()
        self.accelerator.end_training()  # a rank that exits inside its group may abort, its work done
        return finished

    def _loop(self) -> None:
        """Step after step, to the last iteration or to an interruption."""
        training, speaks = self.config.training, self.accelerator.is_main_process
        self.student.train()
        started, first = time.monotonic(), self.iteration
        with interruption() as interrupted:
            bar = tqdm(None, "train", training.iterations, initial=first, unit="it", disable=not speaks)
            for pairs in self._batches():
                with within_memory(self.config, self.iteration, self.student.segmenter):
                    losses = self._step(pairs)
                self.iteration += 1
                bar.update()
                if self.iteration % training.log_every == 0 or self.iteration == training.iterations:
                    rate = (self.iteration - first) / (time.monotonic() - started)
                    self._write_down(losses, rate)
                    bar.set_postfix({name: f"{value:.3g}" for name, value in losses.items()})
                if self.last_step is not None:
                    mixed, pseudo = shown(self.last_step)
                    self.journal.show(self.iteration, mixed, pseudo, self.statistics)
                if self.iteration == training.iterations:
                    break
                if self.iteration % training.save_every == 0:
                    self.save()
                if self.iteration % training.evaluate_every == 0:
                    alone(self._evaluate)
                if on_any(self.accelerator, interrupted()):
                    break
            bar.close()
        if speaks:
            number = (self.iteration - first) * self.accelerator.num_processes
            say_cost(training, number, time.monotonic() - started, self.waited)

    def save(self, finished: bool = False) -> None:
        """Write a checkpoint and the loadable run, each file atomically (the first rank does)."""
        alone(lambda: self._write(finished))

    def _write(self, finished: bool) -> None:
        if self.watch is not None and not finished and self.watch.keeps(self.iteration):
            keep_best(self.folder, self._tensors(), self._card(False))
        scaler = self.accelerator.scaler
        state = scaler.state_dict() if scaler is not None else {}
        save_checkpoint(self.folder / "last", self.iteration, self.modules, self.optimizer, state)
        write_tensors(self.folder / "model.safetensors", self._tensors())
        write_card(self.folder, self._card(finished))

    def _tensors(self) -> dict[str, Tensor]:
        """Of model.safetensors."""
        parts = {"student": self.student.segmenter, "teacher": self.teacher, "statistics": self.statistics}
        states = {name: module.state_dict() for name, module in parts.items() if module is not None}
        if self.posthoc is not None:
            states["posthoc"] = self.posthoc.state()
        return {key: value for name in states for key, value in prefixed(name, states[name]).items()}

    def _card(self, finished: bool) -> Card:
        card = new_card(self.built, self.classes, self.config.training.seed)
        state = {"iterations": self.iteration, "finished": finished, **self.evaluated._asdict()}
        return card.model_copy(update=state)

    def _batches(self) -> Iterator[list[Pair]]:
        """Batches of the remaining iterations, on the device. Ranks share out consecutive pairs."""
        training, ranks = self.config.training, self.accelerator
        place = (ranks.process_index, ranks.num_processes, ranks.device.type == "cuda")
        read = iter(new_loader(self.domains.pairs, self.config, self.iteration, *place))
        for _ in range(self.iteration, training.iterations):
            asked = time.monotonic()
            pairs = [next(read) for _ in range(training.accumulate)]
            self.waited += time.monotonic() - asked
            yield [Pair(*(t.to(ranks.device, non_blocking=True) for t in pair)) for pair in pairs]

    def _step(self, pairs: list[Pair]) -> dict[str, float]:
        """One optimiser step. The losses are read back once, before the weights are touched."""
        method, training = self.config.method, self.config.training
        # All randomness of an iteration follows from its number, so a resumed run repeats it exactly.
        seed = training.seed * 1_000_003 + self.iteration + 7_368_787 * self.accelerator.process_index
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * learning_rate_factor(self.iteration, training)
        self.optimizer.zero_grad()
        terms = terms_of(method, self.iteration)
        totals: dict[str, Tensor] = {}
        for pair in pairs:
            step = self._new_step(pair, generator)
            for term in terms:
                # Ranks exchange gradients once, with the last backward pass of the iteration.
                last = pair is pairs[-1] and term is terms[-1]
                waiting = nullcontext() if last else self.accelerator.no_sync(self.network)
                with self.accelerator.autocast(), waiting:
                    for name, loss in term(step).items():
                        totals[name] = totals.get(name, 0) + loss / len(pairs)
        # Averaged over ranks, so that all of them stop where one diverges.
        means = self.accelerator.reduce(torch.stack(list(totals.values())), "mean")
        values = dict(zip(totals, means.tolist(), strict=True))
        self.last_step = step if self.journal.shows(self.iteration + 1) else None
        check_finite(values, self.iteration, self.student.segmenter, pairs, self.classes.names, training)
        if training.clip_gradient is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), training.clip_gradient)
        self.optimizer.step()
        if self.teacher is not None:
            taught = self.iteration - method.source_start  # before that, the teacher is the student
            momentum = teacher_momentum(max(0, taught), method.teacher_momentum)
            follow(self.teacher, self.student.segmenter, momentum)
        return values

    def _new_step(self, pair: Pair, generator: torch.Generator) -> Step:
        return Step(
            network=self.network,
            segmenter=self.student.segmenter,
            pair=pair,
            method=self.config.method,
            backward=lambda loss: self.accelerator.backward(loss / self.config.training.accumulate),
            generator=generator,
            balance=self.balance,
            priors=self.priors,
            target_labels=self.domains.labelled is not None,
            teacher=self.teacher,
            watch=self.watch,
            feature_distance=self.feature_distance,
        )

    def _finish(self) -> None:
        """Statistics of the final weights, final evaluation, final save (the first rank does)."""
        self.student.eval()
        if self.config.method.gathers:
            alone(self._gather)
        alone(self._evaluate)
        self.save(finished=True)
        alone(self._finish_best)

    def _gather(self) -> None:
        self.posthoc = self._gathered(self.student.segmenter)

    def _gathered(self, segmenter: Segmenter) -> ShiftStatistics:
        assert self.domains.target is not None
        device, method = self.accelerator.device, self.config.method
        return gather_statistics(segmenter, self.domains.source, self.domains.target, method, device)

    def _finish_best(self) -> None:
        if self.watch is not None:
            gather = self._gathered if self.config.method.gathers else None
            finish_best(self.folder, self.watch, self.iteration, gather, self.accelerator.device)

    def _evaluate(self) -> None:
        """Score the student on the labelled target set, where there is one."""
        if self.domains.evaluation is None:
            return
        table = None if self.posthoc is None else shift_table(self.posthoc)
        taus = (0.0,) if table is None else EVALUATION_TAUS
        segmenter, device = self.student.segmenter, self.accelerator.device
        scores = evaluate(segmenter, self.domains.evaluation, len(self.classes), table, taus, device)
        self.student.train()
        by_tau = {str(tau): score.to_dict() for tau, score in scores.items()}
        self.evaluated = Evaluated(by_tau, self.iteration)
        self.journal.evaluation(self.iteration, scores)

    def _total(self, own: Tensor) -> Tensor:
        """Sum over the ranks."""
        total: Tensor = self.accelerator.reduce(own, "sum")
        return total

    def _write_down(self, losses: dict[str, float], rate: float) -> None:
        training = self.config.training
        factor = learning_rate_factor(self.iteration - 1, training)
        rates = {"encoder": training.encoder_lr * factor, "decoder": training.decoder_lr * factor}
        self.journal.losses(self.iteration, losses, rate, rates, self.statistics)
        if self.watch is not None and (seen := self.watch.look(self.iteration)) is not None:
            self.journal.watched(self.iteration, seen)
