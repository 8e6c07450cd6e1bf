"""The preset `auto`: encoder, crop, iterations and balance, where settings leave them open."""

from typing import NamedTuple

import numpy as np
import torch
import yaml

from adapt.config.choices import HOSTS
from adapt.config.method import Method
from adapt.config.settings import Config
from adapt.config.unused import NEEDS, ONLINE
from adapt.data.survey.looks import Looked
from adapt.data.survey.sets import Survey
from adapt.model.device import best_device
from adapt.model.segmenter import Segmenter
from adapt.training.expected.cost import duration, expected_memory, expected_seconds, free_memory, gigabytes
from adapt.training.feature_distance import things_among

FREE = {
    "facebook/convnext-tiny-224": "Apache-2.0",
    "microsoft/swin-tiny-patch4-window7-224": "Apache-2.0",
    "microsoft/resnet-50": "Apache-2.0",
}
"""Pretrained encoders that anybody may ship, with the licences of their weights; the best one first."""
NON_COMMERCIAL = ("nvidia/mit-b5", "nvidia/mit-b3", "nvidia/mit-b0")
"""Those that are only named."""
SUITS = ("daformer", "segformer")
"""Decoders that take what these encoders make."""
LARGEST, LARGEST_ON_CPU = 512, 256
"""Sides of the crop in pixels."""
SHARE_OF_MEMORY = 0.8
PASSES = 100
"""How often every picture is drawn, of the larger of source and target."""
FEWEST, MOST, ROUND = 4000, 40_000, 1000
"""Iterations, and what they are a multiple of."""
NIGHT = 12 * 3600
"""Seconds that a training on a CPU may take, at its fewest iterations or more."""
FEWEST_ON_CPU = 1000
HOST = "daformer"
ADJUSTMENT = 0.5
"""Strength of the logit-adjusted loss: of the balances in docs/evidence.md with which no run ended below
training on the source alone, the one that gained most."""


class Chosen(NamedTuple):
    """Settings with what was open filled in."""

    config: Config
    reasons: list[str]
    """A sentence for each choice."""


def is_open(config: Config, section: str, key: str) -> bool:
    """Whether nobody has set it."""
    return key not in getattr(config, section).model_fields_set


def choose_encoder(config: Config) -> Chosen:
    """An encoder whose weights are on this machine and may be shipped; else random weights, as by default."""
    open_ = all(is_open(config, "model", key) for key in ("encoder", "dilated"))
    if not open_ or config.model.decoder not in SUITS:
        return Chosen(config, [])
    name = next(filter(is_at_hand, FREE), None)
    if name is not None:
        why = f"encoder {name} ({FREE[name]}): its weights are on this machine"
        encoder = config.model.encoder.model_copy(update={"config": None, "pretrained": name})
        return Chosen(_with(config, "model", encoder=encoder), [why])
    first = next(iter(FREE))
    why = (
        "encoder MiT-B0 from random weights: no pretrained one that anybody may ship is on this machine; "
        f"where there is network, --set 'model.encoder={{pretrained: {first}}}' ({FREE[first]}) gives better "
        "labels"
    )
    if (bound := next(filter(is_at_hand, NON_COMMERCIAL), None)) is not None:
        why += (
            f"; {bound} is here, for non-commercial use only: --set 'model.encoder={{pretrained: {bound}}}'"
        )
    return Chosen(config, [why])


def is_at_hand(name: str) -> bool:
    """Whether configuration and weights of a model on the hub are in this machine's cache."""
    from transformers.utils import cached_file

    def found(file: str) -> bool:
        try:
            return cached_file(name, file, local_files_only=True) is not None
        except OSError:
            return False

    return found("config.json") and any(map(found, ("model.safetensors", "pytorch_model.bin")))


def choose_rest(config: Config, segmenter: Segmenter, survey: Survey) -> Chosen:
    """Crop, iterations and balance for a network and data."""
    config, balance = _choose_balance(config)  # which says whose warm-up follows the iterations
    config, host = _choose_host(config, survey)  # which says what a step costs
    config, crop = _choose_crop(config, segmenter, survey)
    config, iterations = _choose_iterations(config, segmenter, survey)
    return Chosen(config, [*crop, *iterations, *balance, *host])


def _choose_balance(config: Config) -> Chosen:
    """What self-training needed so as not to end below the source alone; not where another is asked for."""
    theirs = {key for key, needs in NEEDS.items() if ONLINE in needs} | {
        "method.balance",
        "method.adjustment_tau",
    }
    if not config.method.self_training or not all(is_open(config, *key.split(".")) for key in theirs):
        return Chosen(config, [])
    why = (
        f"balance logit-adjustment at {ADJUSTMENT:g}: with it no run ended below the source alone "
        "(docs/evidence.md); --set method.balance=online has the paper's"
    )
    return Chosen(_with(config, "method", balance="logit-adjustment", adjustment_tau=ADJUSTMENT), [why])


def _choose_host(config: Config, survey: Survey) -> Chosen:
    """The host that gained most there, as far as data and network have what it takes; no rows are ignored."""
    sets = HOSTS[HOST].sets
    theirs = ("host", "rare_class_temperature", *sets)
    if config.source_free or not all(is_open(config, "method", key) for key in theirs):
        return Chosen(config, [])
    knows = config.model.start is None and config.model.encoder.config is None
    distant = knows and bool(things_among(survey.classes.names, config.method.thing_classes))
    changed = {
        "rare_class_temperature": Method(host=HOST).rare_class_temperature,
        "feature_distance": sets["feature_distance"] if distant else 0.0,
        "ignored_rows": (0.0, 0.0),
    }
    with_ = "rare-class sampling and feature distance" if distant else "rare-class sampling"
    why = (
        f"host {HOST}, with {with_}: it gained more than even sampling (docs/evidence.md), which "
        "--set method.host=dacs has"
    )
    return Chosen(_with(config, "method", host=HOST, **changed), [why])


def _choose_crop(config: Config, segmenter: Segmenter, survey: Survey) -> Chosen:
    """As large as the smaller of the usual source and target pictures, the field's 512, and memory allow."""
    if not is_open(config, "data", "crop"):
        return Chosen(config, [])
    device, stride = best_device(), segmenter.stride
    largest = LARGEST_ON_CPU if device.type == "cpu" else LARGEST
    usual = _usual_size(config, survey)
    sides = [largest if usual is None else min(largest, side) for side in usual or (largest, largest)]
    crop = _multiples(sides[0], sides[1], stride)
    pictures = "" if usual is None else f" of pictures of {usual[1]}x{usual[0]}"
    why = f"crop {crop[1]}x{crop[0]}{pictures}"
    if usual is not None and max(usual) > largest:
        why += f"; larger ones are slow {'without a GPU' if device.type == 'cpu' else 'to learn from'}"
    chosen, free = _with(config, "data", crop=crop), free_memory(device)
    while free is not None and max(crop) > 2 * stride:
        needed = expected_memory(chosen, segmenter)
        if needed is None or needed <= SHARE_OF_MEMORY * free:
            break
        crop = _multiples(crop[0] * 3 // 4, crop[1] * 3 // 4, stride)
        chosen = _with(config, "data", crop=crop)
        why = f"crop {crop[1]}x{crop[0]}: larger ones would not fit into the {gigabytes(free)} that are free"
    return Chosen(chosen, [why])


def _multiples(height: int, width: int, stride: int) -> tuple[int, int]:
    """The largest multiples of the stride that are not larger, but at least one."""
    return max(stride, height // stride * stride), max(stride, width // stride * stride)


def _usual_size(config: Config, survey: Survey) -> tuple[int, int] | None:
    """Median height and width of source or target, whichever is smaller; None where nothing was read."""
    data = config.data
    sizes = {"source": data.source_size or data.size, "target": data.size}
    usual = [sizes[role] or _median(survey.looked[role]) for role in sizes if role in survey.looked]
    known = [size for size in usual if size is not None]
    return (min(size[0] for size in known), min(size[1] for size in known)) if known else None


def _median(looked: list[Looked]) -> tuple[int, int] | None:
    sizes = [look.size for each in looked for look in each.looks]
    if not sizes:
        return None
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    return height, width


def _choose_iterations(config: Config, segmenter: Segmenter, survey: Survey) -> Chosen:
    """Many passes through the data, and on a CPU no more than a night, if that is enough for some."""
    if not is_open(config, "training", "iterations"):
        return Chosen(config, [])
    source = sum(len(each.part.found.images) for each in survey.of("source"))
    target = sum(len(each.part.pictures) + each.frames for each in survey.target)
    pictures, drawn = max(source, target), config.training.batch * config.training.accumulate
    wanted = -(-PASSES * pictures // drawn // ROUND) * ROUND
    iterations = min(max(FEWEST, wanted), MOST)
    why = f"{iterations} iterations: {iterations * drawn / pictures:.0f} passes through {pictures} pictures"
    device = best_device()
    if device.type == "cpu":
        seconds = expected_seconds(config, segmenter, torch.device("cpu"))
        if seconds is not None and seconds * iterations > NIGHT:
            possible = max(FEWEST_ON_CPU, int(NIGHT / seconds) // FEWEST_ON_CPU * FEWEST_ON_CPU)
            if possible < iterations:
                full, iterations = iterations, possible
                time = duration(seconds * iterations)
                why = f"{iterations} iterations, {time} on this CPU; with a GPU it would be {full}"
    return Chosen(_with_warmup(_with(config, "training", iterations=iterations)), [why])


def _with_warmup(config: Config) -> Config:
    """Short trainings warm up for a part of what long ones do."""
    iterations = config.training.iterations
    if is_open(config, "training", "warmup"):
        config = _with(config, "training", warmup=min(config.training.warmup, iterations // 10))
    if config.method.online and is_open(config, "method", "statistics_warmup"):
        warmup = min(config.method.statistics_warmup, iterations // 4)
        config = _with(config, "method", statistics_warmup=warmup)
    return config


def _with(config: Config, section: str, **values: object) -> Config:
    changed = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: changed})


def settings_lines(config: Config) -> list[str]:
    """All settings, a few lines for each section."""
    content = config.model_dump(mode="json")
    lines = ["settings, all of them:"]
    for section, values in content.items():
        text = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=104).strip()
        lines += [f"  {section}: {text}".replace("\n", "\n  ")]
    return lines
