"""Which slots a person means: hours of every day, days, or days from one to another; all in UTC.

22:00-06:00    2026-11-28    2026-11-28/2026-12-04
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time

from serve.errors import InputError
from serve.gathering.store import Record


def slots_of(texts: Sequence[str]) -> Callable[[Record], bool]:
    """Whether a record's slot begins within any of these times; without any, all do.

    Raises:
        InputError: a text that is no such time.
    """
    tests = [_test(text) for text in texts]

    def wanted(record: Record) -> bool:
        begin = datetime.fromtimestamp(record.slot, UTC)
        return not tests or any(test(begin) for test in tests)

    return wanted


def _test(text: str) -> Callable[[datetime], bool]:
    try:
        if ":" in text:
            start, end = (time.fromisoformat(part.strip()) for part in text.split("-"))
            if start < end:
                return lambda begin: start <= begin.time() < end
            return lambda begin: begin.time() >= start or begin.time() < end  # over midnight
        days = [date.fromisoformat(part.strip()) for part in text.split("/")]
        first, last = days if len(days) == 2 else days * 2
        if first > last:
            raise ValueError
        return lambda begin: first <= begin.date() <= last
    except ValueError as error:
        raise InputError(
            f"--slot {text} is no time; give hours of the day in UTC (22:00-06:00), a day (2026-11-28) or "
            "days from one to another (2026-11-28/2026-12-04)."
        ) from error


def span_words(records: Sequence[Record]) -> str:
    """From when to when these were gathered, for a person."""
    first, last = min(r.first for r in records), max(r.last for r in records)
    return f"{_words(first)} to {_words(last)} UTC"


def _words(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
