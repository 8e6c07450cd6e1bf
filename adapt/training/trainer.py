"""The training loop: devices, precision, schedule, checkpoints, logging, evaluation."""

import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from adapt.augmentation.pairs import Domains, Pair
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
from adapt.run.anchors import kept_anchors
from adapt.run.cards import Card, Evaluated, default_tau
from adapt.run.checkpoint import load_checkpoint, restore, resumed_modules, save_checkpoint
from adapt.run.run import new_card, new_statistics, prefixed, write_card, write_tensors
from adapt.training.alone import alone
from adapt.training.failures import check_finite, within_memory
from adapt.training.feature_distance import new_distance
from adapt.training.journal import Journal, shown
from adapt.training.optimisation import learning_rate_factor, learning_rates, new_optimizer
from adapt.training.ranks import Feed, check_ranks, greatest_of, new_accelerator, on_any, say_cost
from adapt.training.step import Step, terms_of
from adapt.training.teacher import follow, new_teacher, teacher_momentum
from adapt.training.watching.best import finish_best, keep_best, rewind_best
from adapt.training.watching.guard import Guard, finish_stopped
from adapt.training.watching.trackers import BOARD, open_trackers
from adapt.training.watching.watch import Watch
from serve.media.progress import Bar


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
        self.source_free = domains.source is None
        built.segmenter.fixed_norms = self.source_free
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
        self.guard: Guard | None = None
        if config.method.self_training:
            self.teacher = new_teacher(built.segmenter, config.data.crop)
            temperature = config.method.mix_temperature if self.source_free else None
            self.watch = Watch(classes.names, self._total, temperature).to(device)
            self.modules |= {"teacher": self.teacher, "watch": self.watch}
        if domains.target is not None and self.source_free and config.method.guard:
            self.guard = Guard(folder, domains.target).to(device)
            self.modules["guard"] = self.guard
        self.feature_distance = new_distance(built.segmenter, config.method, classes.names, folder)
        self.statistics: LogitStatistics | None = None
        self.balance: Balance | None = None
        self.anchors = kept_anchors(folder)
        if config.method.online:
            self.statistics = new_statistics(config, len(classes), self.anchors).to(device)
            self.modules["statistics"] = self.statistics
            stride, greatest = built.segmenter.output_stride, greatest_of(self.accelerator)
            self.balance = Balance(self.statistics, self._total, stride, greatest, self.source_free)
        self.priors = new_priors(config.method, len(classes), config.data.crop, device, self._total)
        self.modules |= {} if self.priors is None else {"shares": self.priors.shares}
        self.network, self.optimizer = self.accelerator.prepare(self.student, self.optimizer)
        self.iteration = 0
        self.posthoc: ShiftStatistics | None = None
        self.evaluated = Evaluated()
        self.journal: Journal  # open while `train` runs
        self.last_step: Step | None = None  # the last one, where the journal wants to show it
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
        """Train to the last iteration, or until the guard ends it; False when interrupted, all being saved.

        Raises:
            Diverged: a loss is not finite. Nothing of that step is kept.
            OutOfMemory: the step does not fit. Nothing of it is kept.
        """
        training, writes = self.config.training, self.accelerator.is_main_process
        open_trackers(self.accelerator, self.config, self.folder)
        steps = training.iterations, training.save_every, self.iteration
        board, log = BOARD in training.trackers, self.accelerator.log
        with Journal(self.folder, self.classes, *steps, writes, board, log) as self.journal:
            if (guard := self.guard) is not None and self.iteration == 0:
                alone(lambda: guard.begin(self.student.segmenter))
                alone(lambda: keep_best(self.folder, self._tensors(), self._card(False)))
            if not self._drifted:
                self._loop()
                self.save()
            if finished := self.iteration >= training.iterations or self._drifted:
                self._finish()
        self.accelerator.end_training()  # a rank that exits inside its group may abort, its work done
        return finished

    def _loop(self) -> None:
        """Step after step, to the last iteration or to an interruption."""
        training, speaks = self.config.training, self.accelerator.is_main_process
        self.student.train()
        started, first = time.monotonic(), self.iteration
        feed = Feed(self.domains.pairs, self.config, first, self.accelerator)
        with interruption() as interrupted:
            bar = Bar(None, "train", training.iterations, initial=first, unit="it", disable=not speaks)
            for pairs in feed:
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
                if self._drifted:
                    break
                if self.iteration % training.evaluate_every == 0:
                    alone(self._evaluate)
                if on_any(self.accelerator, interrupted()):
                    break
            bar.close()
        if speaks:
            done = (self.iteration - first) * self.accelerator.num_processes
            say_cost(training, done, time.monotonic() - started, feed.waited)

    def save(self, finished: bool = False) -> None:
        """Write a checkpoint and the loadable run, each file atomically (the first rank does)."""
        if (guard := self.guard) is not None:
            alone(lambda: guard.look(self.exported, self.iteration, self.journal.guarded))
            guard.drifted.fill_(on_any(self.accelerator, bool(guard.drifted)))
        alone(lambda: self._write(finished))

    def _write(self, finished: bool) -> None:
        over = finished or self._drifted
        if self.watch is not None and not over and self.watch.keeps(self.iteration):
            keep_best(self.folder, self._tensors(), self._card(False))
        state = {} if (scaler := self.accelerator.scaler) is None else scaler.state_dict()
        save_checkpoint(self.folder / "last", self.iteration, self.modules, self.optimizer, state)
        write_tensors(self.folder / "model.safetensors", self._tensors())
        write_card(self.folder, self._card(finished))

    def _tensors(self) -> dict[str, Tensor]:
        """Of model.safetensors."""
        parts = {"student": self.exported, "teacher": self.teacher, "statistics": self.statistics}
        states = {name: module.state_dict() for name, module in parts.items() if module is not None}
        if self.posthoc is not None:
            states["posthoc"] = self.posthoc.state()
        return {key: value for name in states for key, value in prefixed(name, states[name]).items()}

    def _card(self, finished: bool) -> Card:
        card = new_card(self.built, self.classes, self.config.training.seed)
        state = {"iterations": self.iteration, "finished": finished, **self.evaluated._asdict()}
        return card.model_copy(update=state)

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
        terms = terms_of(method, self.iteration, self.source_free)
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
            # Until source_start the teacher is the student; without a source it knows from the first step on.
            taught = float("inf") if self.source_free else max(0, self.iteration - method.source_start)
            follow(self.teacher, self.student.segmenter, teacher_momentum(taught, method.teacher_momentum))
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
            source_free=self.source_free,
            favour=None if self.watch is None else self.watch.favour,
            teacher=self.teacher,
            watch=self.watch,
            feature_distance=self.feature_distance,
        )

    def _finish(self) -> None:
        """Statistics of the final weights, final evaluation, final save (the first rank does)."""
        gather, device = self._gathered if self.config.method.gathers else None, self.accelerator.device
        if self._drifted:
            alone(lambda: finish_stopped(self.folder, self.iteration, gather, self._scored, device))
            return
        self.student.eval()
        if gather is not None:
            alone(lambda: setattr(self, "posthoc", gather(self.exported)))
        alone(self._evaluate)
        self.save(finished=True)
        if (watch := self.watch) is not None:
            alone(lambda: finish_best(self.folder, watch, self.iteration, gather, device))

    @property
    def exported(self) -> Segmenter:
        """What the run is for: the student; without a source the teacher, nearer to what was begun with."""
        return self.student.segmenter if self.teacher is None or not self.source_free else self.teacher

    @property
    def _drifted(self) -> bool:
        return self.guard is not None and bool(self.guard.drifted)

    def _gathered(self, segmenter: Segmenter) -> ShiftStatistics:
        assert self.domains.target is not None
        device, method = self.accelerator.device, self.config.method
        source, target = self.domains.source, self.domains.target
        return gather_statistics(segmenter, source, target, method, device, self.anchors)

    def _evaluate(self) -> None:
        """Score the student on the labelled target set, where there is one."""
        self.evaluated = self._scored(self.exported, self.posthoc, writes=True)
        self.student.train()

    def _scored(
        self, segmenter: Segmenter, statistics: ShiftStatistics | None, writes: bool = False
    ) -> Evaluated:
        if self.domains.evaluation is None:
            return self.evaluated
        table = None if statistics is None else shift_table(statistics)
        taus = (0.0,) if table is None else (0.0, default_tau(self.config), 1.0)
        device = self.accelerator.device
        scores = evaluate(segmenter, self.domains.evaluation, len(self.classes), table, taus, device)
        if writes:
            self.journal.evaluation(self.iteration, scores)
        return Evaluated({str(tau): score.to_dict() for tau, score in scores.items()}, self.iteration)

    def _total(self, own: Tensor) -> Tensor:
        """Sum over the ranks."""
        total: Tensor = self.accelerator.reduce(own, "sum")
        return total

    def _write_down(self, losses: dict[str, float], rate: float) -> None:
        rates = learning_rates(self.iteration - 1, self.config.training)
        self.journal.losses(self.iteration, losses, rate, rates, self.statistics)
        if self.watch is not None and (seen := self.watch.look(self.iteration)) is not None:
            self.journal.watched(self.iteration, seen)
