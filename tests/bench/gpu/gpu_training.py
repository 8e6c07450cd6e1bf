"""Training on a GPU: what balancing costs in a step, runs that are killed, ranks that share a device."""

import json
import math
import socket
import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
import torch
from bench_training import METHODS
from gpu_report import Report
from gpu_sizes import Sizes, run, said_last, start

from adapt.augmentation.pairs import Pair
from adapt.balance.online import Balance
from adapt.config.settings import Config, Encoder, Model
from adapt.errors import InputError
from adapt.model.build import build
from adapt.model.device import check_precision
from adapt.model.segmenter import StudentNetwork
from adapt.run.run import new_statistics
from adapt.training.optimisation import new_optimizer
from adapt.training.step import Step, terms_of
from adapt.training.teacher import follow, new_teacher, teacher_momentum

TIME, MEMORY = 1.05, 1.00
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
COMMAND_SECONDS, RANK_SECONDS = 100, 80


def autocast(device: torch.device, precision: str) -> Any:
    """Mixed precision as `training.precision` means it."""
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()


class Training:
    """A network in training, step by step as `adapt.training.trainer` takes them."""

    def __init__(self, device: torch.device, encoder: dict[str, Any], precision: str, sizes: Sizes) -> None:
        torch.manual_seed(0)
        self.device, self.precision, self.classes = device, precision, sizes.classes
        settings = Model(encoder=Encoder(config=encoder), decoder="daformer", width=sizes.width)
        segmenter = build(settings, sizes.classes).segmenter
        self.student = StudentNetwork(segmenter).to(device).train()
        self.teacher = new_teacher(segmenter, (sizes.side, sizes.side))
        self.optimizer = new_optimizer(self.student, Config().training)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.balance: Balance | None = None
        """Made by the first balanced step, so that the memory of plain ones has none."""
        self.pair = Pair(*(tensor.to(device) for tensor in noise(sizes)))
        self.iteration = 0

    def step(self, balance: str) -> float:
        """Seconds of one step; `balance` is off or online."""
        method, started = METHODS[balance], self._now()
        if balance == "online" and self.balance is None:
            statistics = new_statistics(Config(), self.classes).to(self.device)
            self.balance = Balance(statistics, lambda tensor: tensor, self.student.segmenter.output_stride)
        self.optimizer.zero_grad()
        step = Step(
            network=self.student,
            segmenter=self.student.segmenter,
            pair=self.pair,
            method=method,
            backward=lambda loss: self.scaler.scale(loss).backward(),  # type: ignore[no-untyped-call]
            generator=torch.Generator().manual_seed(0),
            balance=self.balance if balance == "online" else None,
            teacher=self.teacher,
        )
        with autocast(self.device, self.precision):
            losses = [loss for term in terms_of(method) for loss in term(step).values()]
        torch.stack(losses).tolist()  # as the trainer does, before the weights are touched
        self.scaler.step(self.optimizer)
        self.scaler.update()
        momentum = teacher_momentum(self.iteration, method.teacher_momentum)
        follow(self.teacher, self.student.segmenter, momentum)
        self.iteration += 1
        return self._now() - started

    def peak(self, balance: str) -> int:
        """Most bytes that the GPU's tensors take in two steps, weights and optimizer among them."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            self.step(balance)
        return int(torch.cuda.max_memory_allocated())

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def noise(sizes: Sizes) -> Pair:
    """Noise, labelled in blocks; all classes occur."""
    generator, side = torch.Generator().manual_seed(0), sizes.side
    images = torch.randint(0, 256, (2, sizes.batch, side, side, 3), generator=generator, dtype=torch.uint8)
    blocks = (sizes.batch, 16, 16)
    labels = torch.randint(0, sizes.classes, blocks, generator=generator, dtype=torch.uint8)
    labels = labels.repeat_interleave(side // 16, 1).repeat_interleave(side // 16, 2)
    return Pair(images[0], labels, images[1], torch.zeros(sizes.batch, side, side, dtype=torch.bool))


def ratio_of(plain: list[float], balanced: list[float]) -> float:
    """Median of the ratios of neighbours in time: a busy moment of the machine cancels out."""
    return statistics.median(b / a for a, b in zip(plain, balanced, strict=True))


def measure_steps(report: Report, device: torch.device, sizes: Sizes) -> None:
    """Time and memory of a training step, balanced over plain, for each encoder and precision."""
    for name, encoder in sizes.encoders.items():
        for precision in sizes.precisions:
            title = f"{name}, {precision}"
            try:
                check_precision(precision, device)
                _measure_step(report, title, Training(device, encoder, precision, sizes), sizes.repetitions)
            except InputError as error:
                report.skipped(title, str(error))
            except Exception as error:
                report.failed(title, error)
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _measure_step(report: Report, title: str, training: Training, repetitions: int) -> None:
    kinds = ("off", "online")
    peaks = {}
    for kind in kinds:
        for _ in range(2):  # kernels are chosen, the optimizer's state is made
            training.step(kind)
        if training.device.type == "cuda":
            peaks[kind] = training.peak(kind)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(repetitions):
        for kind in kinds if number % 2 else reversed(kinds):
            seconds[kind].append(training.step(kind))
    plain, balanced = (1000 * statistics.median(seconds[kind]) for kind in kinds)
    report.number(f"{title}: plain step", plain, "ms")
    report.number(f"{title}: balanced step", balanced, "ms")
    note = f"median of {repetitions}"
    report.number(f"{title}: time, balanced / plain", ratio_of(*seconds.values()), at_most=TIME, note=note)
    if not peaks:
        report.skipped(f"{title}: peak memory", "only CUDA counts it")
        return
    for kind, words in zip(kinds, ("plain", "balanced"), strict=True):
        report.number(f"{title}: peak memory, {words}", peaks[kind] / 2**30, "GiB")
    share = round(peaks["online"] / peaks["off"], 2)  # the statistics themselves are some hundred KiB
    note = f"{(peaks['online'] - peaks['off']) / 2**20:+.2f} MiB; two decimals count"
    report.number(f"{title}: memory, balanced / plain", share, at_most=MEMORY, note=note)


# ---- runs of the command --------------------------------------------------------------------------------


def data_in(work: Path, sizes: Sizes) -> Path:
    """The sample's two domains, made by the first part that asks."""
    folder = work / "data"
    if not folder.exists() and sizes.sample:
        run(["-m", "adapt", "sample-data", str(folder)], work / "data.log", COMMAND_SECONDS)
    elif not folder.exists():
        folder.mkdir()
        tiny.make_domains(folder)
    return folder


def train_command(work: Path, out: Path, sizes: Sizes, *more: str) -> list[str]:
    """Arguments of Python that train a small network on the sample with online balancing."""
    data = data_in(work, sizes)
    settings = (
        f"training.iterations={sizes.iterations}",
        f"training.save_every={sizes.save_every}",
        "training.log_every=1",
        *more,
    )
    if not sizes.sample:
        return ["-m", "adapt", *tiny.train_arguments(data, out, *settings)]
    words = ["-m", "adapt", "train", "--preset", "demo", "-o", str(out)]
    words += ["--source", str(data / "source"), "--target", str(data / "target")]
    return words + [word for setting in settings for word in ("--set", setting)]


def run_folder(work: Path, precision: str) -> Path:
    return work / f"run-{precision}"


def trained(work: Path, sizes: Sizes) -> Path:
    """The finished fp32 run, which is trained if the part `train` did not leave one."""
    out = run_folder(work, "fp32")
    if not out.exists():
        run(train_command(work, out, sizes), work / "train-fp32.log", COMMAND_SECONDS)
    return out


def measure_runs(report: Report, work: Path, device: torch.device, sizes: Sizes) -> None:
    """`adapt train` in each precision, killed with -9 after its first checkpoint and resumed."""
    for precision in sizes.precisions:
        title = f"adapt train, {precision}"
        try:
            check_precision(precision, device)
            _kill_and_resume(report, title, work, precision, sizes)
        except InputError as error:
            report.skipped(title, str(error))
        except Exception as error:
            report.failed(title, error)


def _kill_and_resume(report: Report, title: str, work: Path, precision: str, sizes: Sizes) -> None:
    out, log = run_folder(work, precision), work / f"train-{precision}.log"
    command = train_command(work, out, sizes, f"training.precision={precision}")
    killed_at = killed(start(command, log), out, log, sizes.iterations)
    run(["-m", "adapt", "train", "--resume", str(out)], work / f"resume-{precision}.log", COMMAND_SECONDS)
    card = json.loads((out / "card.json").read_text())
    written = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    whole = [row["iteration"] for row in written] == list(range(1, sizes.iterations + 1))
    finished = card["finished"] and card["iterations"] == sizes.iterations
    note = f"killed with {killed_at} of {sizes.iterations} iterations saved"
    report.check(f"{title}: kill -9, then resumed to the end", finished and whole, note)
    finite = all(math.isfinite(value) for row in written for value in row.values() if is_number(value))
    report.check(f"{title}: every number it logged is finite", finite and bool(written))


def is_number(value: object) -> bool:
    return isinstance(value, int | float)


def killed(process: Any, out: Path, log: Path, iterations: int) -> int:
    """Kill -9 a training once its first checkpoint is there; returns the iterations that were saved by then.

    Raises:
        RuntimeError: it ended before, or took too long.
    """
    try:
        until = time.monotonic() + COMMAND_SECONDS
        while _saved(out) == 0:
            if process.poll() is not None:
                raise RuntimeError(f"ended with code {process.returncode} before; {said_last(log)}")
            if time.monotonic() > until:
                raise RuntimeError(f"no checkpoint after {COMMAND_SECONDS} s; {said_last(log)}")
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    saved = _saved(out)
    if process.returncode == 0 or saved >= iterations:
        raise RuntimeError("it was too fast to be killed; raise the iterations")
    return saved


def _saved(out: Path) -> int:
    try:
        return int(json.loads((out / "card.json").read_text())["iterations"])
    except (OSError, ValueError):
        return 0


RANKED = """
import hashlib, json, sys
from pathlib import Path
from adapt.training import trainer
from adapt.cli import main
finish = trainer.Trainer._finish
def mark(tensors):
    return {n: hashlib.sha256(t.detach().cpu().numpy().tobytes()).hexdigest() for n, t in tensors}
def marked(self):
    modules = {"weights": self.student, "teacher": self.teacher}
    marks = {name: mark(module.named_parameters()) for name, module in modules.items()}
    marks["statistics"] = mark(self.statistics.state_dict().items())
    marks["device"] = str(self.accelerator.device)
    Path(sys.argv[1], f"rank{self.accelerator.process_index}.json").write_text(json.dumps(marks))
    finish(self)
trainer.Trainer._finish = marked
main(sys.argv[2:])
"""


def measure_ranks(report: Report, work: Path, device: torch.device, sizes: Sizes) -> None:
    """Two ranks on this machine, on one GPU if it has no more: the run finishes, and they agree."""
    script, out = work / "ranked.py", work / "run-ranks"
    script.write_text(RANKED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    command = train_command(work, out, replace(sizes, iterations=6))[2:]
    run([*launcher, str(script), str(work), *command], work / "ranks.log", RANK_SECONDS)
    card = json.loads((out / "card.json").read_text())
    first, second = (json.loads((work / f"rank{rank}.json").read_text()) for rank in range(2))
    where = " and ".join((first["device"], second["device"]))
    report.check("two ranks: the run finishes", card["finished"] and card["iterations"] == 6, where)
    for name in ("weights", "teacher", "statistics"):
        differ = [key for key, value in first[name].items() if second[name].get(key) != value]
        note = f"{len(first[name])} tensors" + (f"; differ: {', '.join(differ[:3])}" if differ else "")
        report.check(f"two ranks: the same {name} on both", bool(first[name]) and not differ, note)
