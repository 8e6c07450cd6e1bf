"""The table of `make gpu`: a row per number, printed as it is found and kept in a file of lines."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

REACHED, MISSED = "reached", "missed"
SKIPPED, FAILED = "not measured", "failed"


@dataclass(frozen=True)
class Row:
    """One line of the table, and of the JSON file."""

    part: str
    name: str
    value: float | None = None
    unit: str = ""
    wanted: str = ""
    """What the value should be, in words; empty where it is only told."""
    verdict: str = ""
    """reached, missed, not measured, failed; empty where nothing was wanted."""
    note: str = ""

    @property
    def bad(self) -> bool:
        return self.verdict in (MISSED, FAILED)

    def line(self) -> str:
        """For a person."""
        value = "" if self.value is None else f"{self.value:.4g} {self.unit}".rstrip()
        words = f"{self.part:<11}{self.name:<58} {value:>14}  {self.wanted:<9} {self.verdict:<12} {self.note}"
        return words.rstrip()


class Report:
    """Rows of one part.

    Args:
        part: its name.
        file: gets every row at once as a line of JSON, so that a part that dies keeps those it had.
    """

    def __init__(self, part: str, file: Path | None = None) -> None:
        self.part, self.file = part, file
        self.rows: list[Row] = []

    def number(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        note: str = "",
    ) -> None:
        """A measured value, with its target if it has one. What is no number fails, target or not."""
        if not math.isfinite(value):
            self.failed(name, f"the value is {value}")
            return
        if at_most is not None:
            wanted, met = f"<= {at_most:g}", value <= at_most
        elif at_least is not None:
            wanted, met = f">= {at_least:g}", value >= at_least
        else:
            wanted, met = "", True
        verdict = "" if not wanted else REACHED if met else MISSED
        self._add(Row(self.part, name, float(value), unit, wanted, verdict, note))

    def check(self, name: str, passed: bool, note: str = "") -> None:
        """Something that is so or is not."""
        self._add(Row(self.part, name, None, "", "yes", REACHED if passed else MISSED, note))

    def skipped(self, name: str, why: str) -> None:
        """What can't be measured here."""
        self._add(Row(self.part, name, verdict=SKIPPED, note=one_line(why)))

    def failed(self, name: str, error: BaseException | str) -> None:
        """What broke, by its own words."""
        words = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._add(Row(self.part, name, verdict=FAILED, note=one_line(words)))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(row.line(), flush=True)
        if self.file is not None:
            with self.file.open("a") as lines:
                lines.write(json.dumps(asdict(row)) + "\n")


def read_rows(file: Path) -> list[Row]:
    """The rows that a report left; a last line that was cut off is passed over."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            rows.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return rows


def one_line(text: str, most: int = 400) -> str:
    """Text without line breaks, its end kept if it is long: there an error says what it is."""
    words = " ".join(text.split())
    return words if len(words) <= most else "… " + words[-most:]
