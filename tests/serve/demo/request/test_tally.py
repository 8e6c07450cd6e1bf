"""What becomes of requests, as the demo counts it."""

import asyncio

import pytest

from serve.demo.request.tally import Tally
from serve.demo.request.work import Work
from serve.errors import InputError


def test_requests_by_what_became_of_them() -> None:
    tally = Tally((InputError,))
    cases: list[tuple[BaseException | None, bool]] = [
        (None, False),
        (InputError("no picture"), False),
        (InputError("stopped"), True),
        (ZeroDivisionError(), True),
        (ZeroDivisionError(), False),
        (asyncio.CancelledError(), False),
    ]
    for error, leaves in cases:
        work = Work()

        def run(work: Work = work, error: BaseException | None = error, leaves: bool = leaves) -> None:
            with tally.working("segment_image", work):
                assert tally.counted()[2] == 1
                if leaves:
                    work.stop()
                if error is not None:
                    raise error

        if error is None:
            run()
        else:
            with pytest.raises(type(error)):
                run()
    outcomes, times, at_work = tally.counted()
    counted = {outcome: count for (_, outcome), count in outcomes.items()}
    assert counted == {"answered": 1, "refused": 1, "left": 3, "failed": 1}
    assert at_work == 0 and sum(times["segment_image"].bins) == 6 and times["segment_image"].seconds >= 0


def test_what_was_counted_does_not_change_afterwards() -> None:
    tally = Tally(())
    with tally.working("a", Work()):
        pass
    before = tally.counted()
    with tally.working("a", Work()):
        pass
    assert sum(before[1]["a"].bins) == 1 and before[0] == {("a", "answered"): 1}
