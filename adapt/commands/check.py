"""What `adapt check` does, for programs: data, settings and machine looked at before a training."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.commands.auto import Chosen, choose_encoder, choose_rest, settings_lines
from adapt.commands.beginning import begin, without_source
from adapt.commands.command_line import train_command
from adapt.commands.opening import open_evaluation, open_labelled_target
from adapt.commands.train import preset_of, settings_of
from adapt.config.presets import AUTO
from adapt.config.settings import Config
from adapt.data.classes import ClassList
from adapt.data.domains import Unpaired, find_classes, find_source, open_source
from adapt.data.folders.target import find_target
from adapt.data.survey.records import to_dict
from adapt.data.survey.sets import Opened, Survey, survey
from adapt.data.survey.words import describe
from adapt.errors import InputError
from adapt.model.build import build
from adapt.model.segmenter import Segmenter
from adapt.reporting.data_page import data_page
from adapt.run.run import write_text
from adapt.training.checks import check_classes, check_network, check_settings
from adapt.training.expected.cost import Cost, describe_cost, expected_cost


@dataclass(frozen=True)
class Checked:
    """What was found, and what a training would be."""

    survey: Survey
    config: Config
    """With what `auto` chose."""
    reasons: list[str]
    """Of these choices."""
    cost: Cost | None
    """None where the settings make no network."""
    command: str
    """The `adapt train` command."""
    refusals: list[str] = field(default_factory=list)
    """What settings would be refused for."""

    @property
    def problems(self) -> list[str]:
        """A sentence for each thing to mend; none if a training can begin."""
        return [*self.refusals, *self.survey.problems]

    @property
    def lines(self) -> list[str]:
        """For a terminal: the data in ten lines, then settings, cost and what is to be mended."""
        lines = describe(self.survey)
        lines += [f"auto: {reason}" for reason in self.reasons]
        if self.cost is not None:
            lines.append(describe_cost(self.cost, self.config.training.iterations))
        lines += settings_lines(self.config)
        lines += [f"to mend: {problem}" for problem in self.problems]
        return [*lines, f"next: {self.command}"]

    def to_dict(self) -> dict[str, Any]:
        """What `--json` writes."""
        cost = self.cost
        return {
            "data": to_dict(self.survey),
            "settings": self.config.model_dump(mode="json"),
            "reasons": self.reasons,
            "expected": None
            if cost is None
            else {
                "device": cost.device,
                "memory_bytes": None if cost.memory is None else round(cost.memory),
                "free_bytes": cost.free,
                "seconds_per_iteration": cost.seconds,
                "seconds": None if cost.seconds is None else cost.seconds * self.config.training.iterations,
            },
            "problems": self.problems,
            "command": self.command,
        }

    def publish(self, page: Path | None, json_path: Path | None) -> list[Path]:
        """Write the files that are wanted; returns which."""
        if page is not None:
            write_text(page, data_page(self.survey, self.lines, self.command))
        if json_path is not None:
            write_text(json_path, json.dumps(self.to_dict()) + "\n")
        return [path for path in (page, json_path) if path is not None]


def check(*, everything: bool = False, **options: Any) -> Checked:
    """Look at what `train` would be given; nothing is written.

    Args:
        everything: read all pictures and labels instead of a sample.
        options: source, target, start, preset and the others of `adapt.train`.

    Raises:
        InputError: data that is not there, or settings that cannot be read.
    """
    preset = preset_of(options.get("preset") or AUTO, options.get("start"), options.get("source") or ())
    options = options | {"preset": preset}
    config = settings_of(**options)
    if not config.data.source and config.model.start is None:
        raise InputError(
            "no source was given; name the labelled folder with --source, or a trained model with --from."
        )
    unpaired: Unpaired = []
    begun = None
    if config.model.start is not None:
        config = without_source(config)
        begun = begin(config, preset)
        config = config.model_copy(update={"model": begun.model})
    classes = _classes(config) if begun is None else begun.classes
    opened = Opened(
        classes,
        open_source(config.data, classes, unpaired) if config.data.source else None,
        find_target(config.data.target),
        open_labelled_target(config, classes, unpaired),
        open_evaluation(config, classes, unpaired),
        unpaired,
    )
    found = survey(opened, config.data.frames, everything)
    chosen, cost, refusals = _judge(config, preset, found, None if begun is None else begun.built.segmenter)
    command = train_command(options, config, chosen.config)
    return Checked(found, chosen.config, chosen.reasons, cost, command, refusals)


def _classes(config: Config) -> ClassList:
    return find_classes(config.data.source[0], config.data.classes, find_source(config.data, []))


def _judge(
    config: Config, preset: str | None, found: Survey, trained: Segmenter | None
) -> tuple[Chosen, Cost | None, list[str]]:
    """What is chosen, what it costs, and what it would be refused for.

    trained: the network to begin with, where there is one.
    """
    chosen, refusals = Chosen(config, []), []
    auto = preset == AUTO and trained is None
    try:
        check_settings(config, preset)
        check_classes(config, preset, found.classes)
    except InputError as error:
        refusals.append(error.message)
    try:
        if auto:
            chosen = choose_encoder(config)
        segmenter = trained or build(chosen.config.model, len(found.classes)).segmenter
        if preset == AUTO:
            more = choose_rest(chosen.config, segmenter, found)
            chosen = Chosen(more.config, [*chosen.reasons, *more.reasons])
        check_network(chosen.config, segmenter)
        return chosen, expected_cost(chosen.config, segmenter), refusals
    except InputError as error:
        return chosen, None, [*refusals, error.message]
