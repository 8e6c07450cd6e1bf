"""Data-parallel training: ranks share statistics and weights."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch

from adapt.balance.logit_statistics import LogitStatistics, UpdateRule
from adapt.balance.online import Balance
from adapt.run.run import load_run
from adapt.training.ranks import join_ranks

TOGETHER = """
import sys, torch
from accelerate import Accelerator
from adapt.balance.logit_statistics import LogitStatistics, UpdateRule
from adapt.training.ranks import greatest_of
from adapt.balance.online import Balance
ranks = Accelerator(cpu=True)
batches = torch.load(sys.argv[1], weights_only=True)
statistics = LogitStatistics(3, rule=UpdateRule(min_pixels=5, warmup=4))
balance = Balance(statistics, lambda tensor: ranks.reduce(tensor, "sum"), 4, greatest_of(ranks))
own = slice(ranks.process_index, ranks.process_index + 1)
for logits, labels in batches:
    balance.take_source(logits[own], labels[own])
    balance.take_target(logits[own] * 0.5, labels[own])
torch.save(statistics.state_dict(), f"{sys.argv[1]}.{ranks.process_index}")
ranks.end_training()
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    launcher.append(f"--master_port={free_port()}")
    return subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=280)


def test_two_ranks_with_batch_one_have_the_statistics_of_one_with_batch_two(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(2, 3, 8, 8) * 4, torch.randint(0, 3, (2, 32, 32))) for _ in range(3)]
    torch.save(batches, tmp_path / "batches")
    (tmp_path / "together.py").write_text(TOGETHER)
    run = torchrun(str(tmp_path / "together.py"), str(tmp_path / "batches"))
    assert run.returncode == 0, run.stderr

    alone = LogitStatistics(3, rule=UpdateRule(min_pixels=5, warmup=4))
    balance = Balance(alone, lambda tensor: tensor, 4)
    for logits, labels in batches:
        balance.take_source(logits, labels)
        balance.take_target(logits * 0.5, labels)
    for rank in range(2):
        state = torch.load(tmp_path / f"batches.{rank}", weights_only=True)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value, atol=1e-5, rtol=1e-5)


def test_two_ranks_train_one_run(tmp_path: Path) -> None:
    """The whole command under torchrun: one run folder, one log, every pair used once."""
    (tmp_path / "data").mkdir()
    tiny.make_domains(tmp_path / "data", images=4)
    arguments = tiny.train_arguments(tmp_path / "data", tmp_path / "run", "training.iterations=3")
    run = torchrun("-m", "adapt", *arguments)
    assert run.returncode == 0, run.stderr[-3000:]
    opened = load_run(tmp_path / "run")
    assert opened.card.finished and opened.card.iterations == 3
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    assert opened.shift_statistics().seen.any()


DISAGREE = """
import os, sys
from pathlib import Path
from adapt.run import run
from adapt.cli import main
if os.environ["RANK"] == "1":  # as if the second machine had another copy of the run folder
    load = run.load_run
    def other(path):
        found = load(path)
        training = found.config.training.model_copy(update={"encoder_lr": 1.0})
        config = found.config.model_copy(update={"training": training})
        return run.Run(found.path, found.card, config, found.classes)
    from adapt.commands import resuming
    resuming.load_run = other
main(sys.argv[1:])
"""


def test_ranks_that_disagree_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    tiny.make_domains(tmp_path / "data", images=4)
    (tmp_path / "disagree.py").write_text(DISAGREE)
    arguments = tiny.train_arguments(tmp_path / "data", tmp_path / "run", "training.iterations=3")
    run = torchrun(str(tmp_path / "disagree.py"), *arguments)
    assert run.returncode != 0
    assert "rank 1 sees other settings or pictures than rank 0" in run.stderr
    assert load_run(tmp_path / "run").card.iterations == 0


ALIKE = """
import sys, torch
from pathlib import Path
from adapt.training import trainer
from adapt.cli import main
finish = trainer.Trainer._finish
def compared(self):
    own = torch.stack([p.detach().double().abs().sum() for p in self.student.parameters()]).view(1, -1)
    both = self.accelerator.gather(own)
    names = [name for name, _ in self.student.named_parameters()]
    differ = [n for n, a, b in zip(names, both[0], both[1], strict=True) if not torch.equal(a, b)]
    Path(__file__).with_name(f"differ.{self.accelerator.process_index}").write_text(str(differ))
    finish(self)
trainer.Trainer._finish = compared
main(sys.argv[1:])
"""


def test_ranks_keep_the_same_weights_with_every_term(tmp_path: Path) -> None:
    """The masked term comes last and does not need the density head, whose gradients are exchanged then."""
    (tmp_path / "data").mkdir()
    tiny.make_domains(tmp_path / "data", images=4)
    (tmp_path / "alike.py").write_text(ALIKE)
    more = ("training.iterations=3", "method.host=mic", "method.feature_distance=0", "method.mask_patch=8")
    run = torchrun(
        str(tmp_path / "alike.py"), *tiny.train_arguments(tmp_path / "data", tmp_path / "run", *more)
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert [(tmp_path / f"differ.{rank}").read_text() for rank in range(2)] == ["[]", "[]"]


SLOW = """
import os, sys, time
from datetime import timedelta
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout
from adapt.evaluation import prediction as evaluate
from adapt.commands import opening
from adapt.training import trainer
from adapt.cli import main
joined = dist.init_process_group
def impatient(*arguments, **options):
    joined(*arguments, **options)
    _set_pg_timeout(timedelta(seconds=30))
dist.init_process_group = impatient
def slow(module, name):
    work = getattr(module, name)
    def slowly(*arguments, **options):
        print(f"rank {os.environ['RANK']}: {name}", file=sys.stderr)
        time.sleep(36)
        return work(*arguments, **options)
    setattr(module, name, slowly)
slow(opening, "check_labels")
slow(trainer, "gather_statistics")
slow(trainer, "evaluate")
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_other_ranks_wait_for_the_first_one_longer_than_collectives_do(tmp_path: Path) -> None:
    """It reads all labels, gathers statistics and evaluates alone, each time beyond the time-out of 30 s."""
    (tmp_path / "data").mkdir()
    tiny.make_domains(tmp_path / "data", images=4)
    (tmp_path / "slow.py").write_text(SLOW)
    arguments = tiny.train_arguments(tmp_path / "data", tmp_path / "run", "training.iterations=2")
    arguments += ["--set", f"data.evaluate={tmp_path / 'data' / 'source'}"]
    run = torchrun(str(tmp_path / "slow.py"), *arguments)
    assert run.returncode == 0, run.stderr[-3000:]
    for work in ("check_labels", "gather_statistics", "evaluate"):
        assert f"rank 0: {work}" in run.stderr and f"rank 1: {work}" not in run.stderr
    assert load_run(tmp_path / "run").card.finished
    assert run.stdout.count("next: ") == 1 and "blda export onnx" in run.stdout


ALONE = """
import os, signal, sys, time
from accelerate import PartialState
from adapt.training.alone import alone
from adapt.errors import InputError
PartialState(cpu=True)
alone(lambda: None)  # so far all is well
def work():
    time.sleep(1)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[1] == "refused":
        raise InputError("no")
if sys.argv[1] == "done" and os.environ["RANK"] == "1":
    import adapt.training.alone
    adapt.training.alone.POLL = 4  # asks when the first rank, which hosts the store, could be gone
try:
    alone(work)
except InputError as error:
    sys.exit(error.exit_code)
except Exception as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(getattr(error, "exit_code", 3))
PartialState().destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "codes"),
    [
        ("refused", [2, 2]),
        pytest.param("killed", [-signal.SIGKILL, 1], marks=pytest.mark.slow),
        pytest.param("done", [0, 0], marks=pytest.mark.slow),
    ],
)
def test_other_ranks_end_with_the_first_one(end: str, codes: list[int]) -> None:
    """Without an agent such as torchrun that would end them; waiting for ever is what they must not do."""
    port = str(free_port())
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, end],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        ranks[0].wait(240)
        gone = time.monotonic()
        stderr = ranks[1].communicate(timeout=240)[1]
        assert time.monotonic() - gone < 60
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == codes, stderr
    assert ("rank 0 has ended" in stderr) == (end == "killed")


@pytest.mark.parametrize(("gpus", "shared"), [(0, False), (1, True), (2, False)])
def test_ranks_that_share_a_gpu_exchange_through_gloo(
    gpus: int, shared: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NCCL refuses two ranks on one GPU, and accelerate would look for a second GPU."""
    asked: list[dict[str, object]] = []
    monkeypatch.setattr("adapt.training.ranks.PartialState", lambda **options: asked.append(options))
    monkeypatch.setattr("adapt.training.ranks.best_device", lambda: torch.device("cuda" if gpus else "cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("ACCELERATE_BYPASS_DEVICE_MAP", "false")
    join_ranks()
    assert asked == [{"cpu": gpus == 0} | ({"backend": "gloo"} if shared else {})]
    assert (os.environ["ACCELERATE_BYPASS_DEVICE_MAP"] == "true") == shared
    assert ("2 ranks share 1 GPU here" in capsys.readouterr().err) == shared
