"""What `adapt train` says of data, settings and machine before it reads everything."""

from adapt.commands.auto import choose_rest, is_open, settings_lines
from adapt.commands.opening import say
from adapt.config.presets import AUTO
from adapt.config.settings import Config
from adapt.data.survey.sets import Opened, survey
from adapt.data.survey.words import describe
from adapt.model.segmenter import Segmenter
from adapt.training.checks import check_network, check_settings
from adapt.training.expected.cost import describe_cost, expected_cost

LONG = 100
"""Iterations from which on the time that they take is worth finding out."""


def look_first(
    config: Config, preset: str | None, opened: Opened, segmenter: Segmenter, reasons: list[str]
) -> tuple[Config, list[str]]:
    """Look at a sample of the data, choose what the preset `auto` is to choose, and say all of it.

    Args:
        config: settings, with the encoder chosen.
        preset: that they began with.
        opened: the data.
        segmenter: the network of these settings.
        reasons: for what has been chosen already.

    Returns:
        The settings, and the lines about the data.

    Raises:
        InputError: settings that the network or this machine cannot take.
    """
    auto = preset == AUTO
    if not auto or not is_open(config, "data", "crop"):
        check_network(config, segmenter)
    seen = survey(opened, config.data.frames, everything=False)
    said = describe(seen)
    for line in said:
        say(line)
    if auto:
        chosen = choose_rest(config, segmenter, seen)
        config = chosen.config
        if chosen.reasons:
            check_network(config, segmenter)
            check_settings(config, preset)
        for reason in [*reasons, *chosen.reasons]:
            say(f"auto: {reason}")
    if config.training.iterations >= LONG:
        say(describe_cost(expected_cost(config, segmenter), config.training.iterations))
    if auto:
        for line in settings_lines(config):
            say(line)
    return config, said
