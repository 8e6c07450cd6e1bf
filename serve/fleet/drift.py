"""What `serve drift` finds: for every class, then and now."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.errors import InputError
from serve.fleet.alarm import ALPHA, Alarm, find_drift
from serve.fleet.measures import Array, jensen_shannon, shared_out, wasserstein
from serve.fleet.sides import Side, gathered_side, model_side
from serve.gathering.store import Gathered, Record, check_same, is_gathered
from serve.gathering.times import slots_of

BLOCK = 6 * 3600
"""Seconds of a block of time: frames of one afternoon are alike."""


@dataclass(frozen=True, eq=False)
class Drift:
    """Two sides compared."""

    classes: tuple[str, ...]
    now: Side
    then: Side
    distance: Array
    """[C] Wasserstein distance of the positive logits, in logits; NaN where one side has none."""
    unlikeness: Array
    """[C] Jensen-Shannon distance of them, in [0, 1]; NaN likewise."""
    alarm: Alarm
    over_time: Array
    """[blocks, C] distance of each block's positive logits from the reference; NaN without pixels."""
    share_over_time: Array
    """[blocks, C]"""
    alpha: float

    @property
    def overall(self) -> float:
        """Jensen-Shannon distance, as a mean over the pixels now; NaN if nothing can be compared."""
        known = np.isfinite(self.unlikeness)
        weights = self.now.pixels.sum(0) * known
        total = weights.sum()
        return float(np.nan_to_num(self.unlikeness) @ weights / total) if total else float("nan")

    @property
    def unseen(self) -> tuple[str, ...]:
        """Classes of which nothing can be said."""
        known = self.now.known & self.then.known
        return tuple(name for name, known in zip(self.classes, known, strict=True) if not known)

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if not self.alarm.told:
            blocks = len(self.now.begins)
            return f"Too few blocks of time to tell ({blocks}): gather for longer, or give a shorter --block."
        if not self.alarm.alarmed:
            return (
                f"No drift: chance alone gives as much with p = {self.alarm.p:.3g} (alarm at {self.alpha:g})."
            )
        names = [n for n, d in zip(self.classes, self.alarm.drifted, strict=True) if d]
        return f"Drifted: {', '.join(names)} (p = {self.alarm.p:.3g}, alarm at {self.alpha:g})."


def drift(
    file: Path,
    reference: Path,
    *,
    slots: Sequence[str] = (),
    devices: Sequence[str] = (),
    block: int = BLOCK,
    alpha: float = ALPHA,
) -> Drift:
    """Compare what was gathered with a reference: a model, or another gathered file.

    Args:
        slots: times of `file` to look at, see `serve.gathering.times.slots_of`; none is all.
        devices: devices or groups to look at; none is all.
        block: seconds of a block of time, a multiple of the slots.
        alpha: false alarms per comparison without any drift.

    Raises:
        InputError: files that can't be read or are of different networks, or nothing that is wanted.
    """
    gathered, in_time = Gathered(file), slots_of(slots)

    def wanted(record: Record) -> bool:
        return in_time(record) and (not devices or record.device in devices)

    subject = gathered.head.subject
    if is_gathered(reference):
        other = Gathered(reference)
        check_same(other.head, reference, subject, str(file))
        _check_block(other.head.slot, block, reference)
        then = gathered_side(other, lambda _: True, block)
    else:
        then, of = model_side(reference, subject.profile)
        check_same(gathered.head, file, of, str(reference))
    _check_block(gathered.head.slot, block, file)
    now = gathered_side(gathered, wanted, block)
    step = subject.rule.step
    known = now.known & then.known
    p, q = now.distribution, then.distribution
    blocks = shared_out(now.positive)
    return Drift(
        classes=subject.classes,
        now=now,
        then=then,
        distance=np.where(known, wasserstein(p, q, step), np.nan),
        unlikeness=np.where(known, jensen_shannon(p, q), np.nan),
        alarm=find_drift(now, then, step, alpha),
        over_time=np.where(known & (now.pixels > 0), wasserstein(blocks, q, step), np.nan),
        share_over_time=shared_out(now.pixels),
        alpha=alpha,
    )


def _check_block(slot: int, block: int, path: Path) -> None:
    if block % slot:
        raise InputError(f"--block is {block} s, but {path} has slots of {slot} s; give a multiple of that.")
