"""What an evaluation hands to people and programs: a table, JSON, a picture of the confusion."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from adapt.evaluation.scores import Scores, format_scores
from adapt.reporting.confusion import draw_confusions
from adapt.run.run import write_text


@dataclass(frozen=True)
class Scorecard:
    """Scores of one model on one data set."""

    names: Sequence[str]
    """Of the classes, C of them."""
    scores: Mapping[float, Scores]
    """By strength of the post-hoc correction."""

    @property
    def columns(self) -> dict[str, Scores]:
        """The scores by title."""
        return {title(tau): value for tau, value in self.scores.items()}

    def to_dict(self) -> dict[str, Any]:
        """What `--json` writes; a strength is written as a text."""
        return {
            "classes": list(self.names),
            "tau": {
                f"{tau:g}": value.to_dict() | {"confusion": value.confusion.tolist()}
                for tau, value in self.scores.items()
            },
        }

    def publish(self, json_path: Path | None, confusion_path: Path | None) -> None:
        """Print the table, and write the files that are wanted."""
        click.echo(format_scores(self.names, self.columns))
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
