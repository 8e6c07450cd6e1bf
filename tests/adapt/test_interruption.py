"""Signals that ask training to stop, to one process or to all of them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny

from adapt import interruption
from adapt.run.run import load_run
from serve.interruption import like_ctrl_c

STOP = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from adapt.training import trainer
step = trainer.Trainer._step
def counted(self, pairs):
    values = step(self, pairs)
    if self.iteration + 1 == 3:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
            os.killpg(0, number)
    return values
trainer.Trainer._step = counted
from adapt.cli import main
main({arguments!r})
"""


@pytest.mark.slow
def test_a_signal_to_all_processes_lets_the_readers_finish_the_step(tmp_path: Path) -> None:
    """As systemd, Slurm and torchrun send it, perhaps more than once; nohup's SIGHUP stays ignored."""
    run = tmp_path / "run"
    domains = tiny.make_domains(tmp_path)
    code = STOP.format(arguments=tiny.train_arguments(domains, run, "data.workers=2"))
    stopped = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True
    )
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.count("interrupted: finishing") == 1
    assert load_run(run).card.iterations == 3


def test_a_reader_that_is_told_to_end_does_not_live_for_ever(monkeypatch) -> None:
    monkeypatch.setattr(interruption, "_GRACE", 1)
    reader = multiprocessing.get_context("fork").Process(target=_read_for_ever)
    reader.start()
    time.sleep(1)
    reader.terminate()
    reader.join(30)
    assert reader.exitcode == -signal.SIGALRM


def _read_for_ever() -> None:
    interruption.outlive_interrupts(0)
    time.sleep(600)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_becomes_a_flag(number: int) -> None:
    former = signal.getsignal(number)
    with interruption.interruption() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), number)
        assert interrupted()
    assert signal.getsignal(number) is former


@pytest.fixture(autouse=True)
def _as_in_a_fresh_process() -> Iterator[None]:
    """Other tests' libraries take signals for themselves, and nohup ignores one."""
    former = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_commands_are_interrupted_and_tidy_up_once(number: int) -> None:
    tidied = False
    with like_ctrl_c():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        except KeyboardInterrupt:
            os.kill(os.getpid(), number)
            tidied = True
    assert tidied and signal.getsignal(number) is signal.SIG_DFL


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_does_not() -> None:
    with interruption.interruption() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
