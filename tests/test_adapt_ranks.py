"""Data-parallel training: ranks share statistics and weights."""

import socket
import subprocess
import sys
from pathlib import Path

import tiny
import torch

from adapt.histogram import logit_histogram
from adapt.logit_statistics import LogitStatistics, UpdateRule
from adapt.run import load_run

TOGETHER = """
import sys, torch
from accelerate import Accelerator
from adapt.logit_statistics import LogitStatistics, UpdateRule
from adapt.selftrain import Balance
ranks = Accelerator(cpu=True)
batches = torch.load(sys.argv[1], weights_only=True)
statistics = LogitStatistics(3, rule=UpdateRule(min_pixels=5, warmup=4))
balance = Balance(statistics, lambda tensor: ranks.reduce(tensor, "sum"))
own = slice(ranks.process_index, ranks.process_index + 1)
for logits, labels in batches:
    statistics.update_source(balance.count(logits[own], labels[own], 4))
    statistics.update_target(balance.count(logits[own] * 0.5, labels[own], 4))
torch.save(statistics.state_dict(), f"{sys.argv[1]}.{ranks.process_index}")
ranks.end_training()
"""


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    return subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=120)


def test_two_ranks_with_batch_one_have_the_statistics_of_one_with_batch_two(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(2, 3, 8, 8) * 4, torch.randint(0, 3, (2, 32, 32))) for _ in range(3)]
    torch.save(batches, tmp_path / "batches")
    (tmp_path / "together.py").write_text(TOGETHER)
    run = torchrun(str(tmp_path / "together.py"), str(tmp_path / "batches"))
    assert run.returncode == 0, run.stderr

    alone = LogitStatistics(3, rule=UpdateRule(min_pixels=5, warmup=4))
    for logits, labels in batches:
        centres = labels[:, 2::4, 2::4]
        alone.update_source(logit_histogram(logits, centres))
        alone.update_target(logit_histogram(logits * 0.5, centres))
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
    assert opened.card["finished"] and opened.card["iterations"] == 3
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    assert opened.shift_statistics().seen.any()


DISAGREE = """
import os, sys
from pathlib import Path
from adapt import run
from adapt.cli import main
if os.environ["RANK"] == "1":  # as if the second machine had another copy of the run folder
    load = run.load_run
    def other(path):
        found = load(path)
        training = found.config.training.model_copy(update={"encoder_lr": 1.0})
        config = found.config.model_copy(update={"training": training})
        return run.Run(found.path, found.card, config, found.classes)
    from adapt import start
    start.load_run = other
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
    assert load_run(tmp_path / "run").card["iterations"] == 0


ALIKE = """
import sys, torch
from pathlib import Path
from adapt import trainer
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
