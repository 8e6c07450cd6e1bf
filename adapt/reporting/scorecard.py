"""What an evaluation hands to people and programs: a table, JSON, a picture of the confusion."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from adapt.evaluation.baselines import Adjustment, Shares, named
from adapt.evaluation.scores import Scores, format_scores, format_summary
from adapt.evaluation.verdict import differences, harm
from adapt.reporting.confusion import draw_confusions
from adapt.run.run import write_text


@dataclass(frozen=True)
class Scorecard:
    """Scores of one model on one data set, and what stands beside them."""

    names: Sequence[str]
    """Of the classes, C of them."""
    scores: Mapping[float, Scores]
    """By strength of the post-hoc correction."""
    baselines: Mapping[Adjustment, Scores] = field(default_factory=dict)
    """Of plain logit adjustment."""
    shares: Shares | None = None
    """What the baselines are adjusted by."""
    beside: Mapping[str, Scores] = field(default_factory=dict)
    """Of other runs, uncorrected, by name."""
    name: str = ""
    """Of the model, where others are beside it."""

    @property
    def columns(self) -> dict[str, Scores]:
        """The scores by title, but for the baselines': those of other runs first."""
        if not self.beside:
            return {title(tau): value for tau, value in self.scores.items()}
        own = {self.name if tau == 0 else f"{self.name}, {title(tau)}": s for tau, s in self.scores.items()}
        return {**self.beside, **own}

    def to_dict(self) -> dict[str, Any]:
        """What `--json` writes; a strength is written as a text."""
        written: dict[str, Any] = {
            "classes": list(self.names),
            "tau": {f"{tau:g}": _record(value) for tau, value in self.scores.items()},
        }
        if self.beside:
            written["beside"] = {name: _record(value) for name, value in self.beside.items()}
        if self.shares is not None:
            written["shares"] = self.shares.to_dict()
            written["baselines"] = [
                {"by": way.by, "strength": way.strength, **_record(value)}
                for way, value in self.baselines.items()
            ]
        return written

    def report(self) -> str:
        """The tables, and what they say against the correction."""
        columns = self.columns
        parts = [format_scores(self.names, columns)]
        if self.shares is not None:
            parts.append(
                f"\nbeside plain logit adjustment, f - t * log(share), with shares on {self.shares.pictures} "
                "pictures of the target:"
            )
            parts.append(format_summary(columns | named(self.baselines)))
        if said := harm(differences(self.scores)):
            parts.append(said)
        return "\n".join(parts)

    def publish(self, json_path: Path | None, confusion_path: Path | None) -> None:
        """Print the tables, and write the files that are wanted."""
        click.echo(self.report())
        if json_path is not None:
            write_text(json_path, json.dumps(self.to_dict()) + "\n")
            click.echo(f"wrote {json_path}")
        if confusion_path is not None:
            matrices = {name: value.confusion for name, value in self.columns.items()}
            draw_confusions(self.names, matrices, confusion_path)
            click.echo(f"wrote {confusion_path}")


def title(tau: float) -> str:
    """A strength in words."""
    return "uncorrected" if tau == 0 else f"tau {tau:g}"


def _record(scores: Scores) -> dict[str, Any]:
    return scores.to_dict() | {"confusion": scores.confusion.tolist()}
