"""Work of the first rank alone, for as long as it takes.

Collectives give up after a time-out (10 minutes on GPUs), and that ends the run; reading all labels of a
large data set, or evaluating, takes longer. So the other ranks ask the store that the ranks met at whether
the work is done, and only then meet in a collective.
"""

import itertools
import os
import time
from collections.abc import Callable
from functools import cache

import click
import torch.distributed as dist
from accelerate import PartialState
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

POLL = 0.1
"""Seconds between two questions."""
_DONE, _FAILED = "done", "failed"
_turns = itertools.count()


class Abandoned(click.ClickException):
    """The first rank ended without having said so: killed, or its machine is off."""

    exit_code = 1


def alone(work: Callable[[], object]) -> None:
    """Do `work` on the first rank while the others wait; every rank calls this.

    Raises:
        SystemExit: on the other ranks, where the work failed on the first one, which says why.
        Abandoned: on the other ranks, where the first one is gone.
    """
    if not dist.is_initialized():
        work()
        return
    store, turn = _store(), str(next(_turns))
    if dist.get_rank() == 0:
        outcome = _FAILED
        try:
            work()
            outcome = _DONE
        finally:
            store.set(turn, outcome)
    elif _answer(store, turn) == _FAILED:
        raise SystemExit(2)
    _meet()  # the first rank may host the store: it leaves when all have asked


def _meet() -> None:
    if dist.get_backend() == "gloo":  # accelerate would ask for a GPU of this rank's own
        dist.barrier()
    else:
        PartialState().wait_for_everyone()


def _answer(store: Store, turn: str) -> str:
    try:
        while not store.check([turn]):
            time.sleep(POLL)
        return bytes(store.get(turn)).decode()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise Abandoned(
            f"rank 0 has ended, so this rank does too; see what it printed ({reason})."
        ) from error


@cache
def _store() -> Store:
    """A connection to the store at MASTER_ADDR, which torchrun or the first rank hosts."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store outlives an attempt
    return PrefixStore(f"blda/{attempt}", TCPStore(host, port, is_master=False))
