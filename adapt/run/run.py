"""The run folder: what training hands over, written so that a kill at any moment leaves it loadable.

    RUN/  config.yaml  card.json  model.safetensors  metrics.jsonl  last/ (what resume needs)  report/

Every file is written under a temporary name and renamed. No pickle is ever read or written.
"""

import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from adapt.balance.bias import doubt
from adapt.balance.bins import LOGIT_RANGE
from adapt.balance.logit_statistics import LogitStatistics, ShiftStatistics, UpdateRule
from adapt.balance.mixtures import Mixture
from adapt.config.settings import Config, validate
from adapt.data.classes import ClassList
from adapt.errors import InputError
from adapt.model.build import Built, rebuild
from adapt.model.segmenter import Segmenter
from adapt.run.cards import CARD, FORMAT, FORMER, Card, Recipe, altered, default_tau, read_card
from adapt.run.stored import stored_statistics
from serve.media.checkpoints import describe_checkpoint
from serve.media.whole import replacing

PRETRAINED = "pretrained.safetensors"
"""The encoder before training, where a loss compares with it."""


@dataclass(frozen=True)
class Run:
    """A run folder, checked and open for reading."""

    path: Path
    card: Card
    config: Config
    classes: ClassList

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of model.safetensors."""
        return read_tensors(self.path / "model.safetensors")

    def segmenter(self, which: str = "student") -> Segmenter:
        """The network in evaluation mode, "student" or "teacher", rebuilt without network access.

        Raises:
            InputError: the run has no such weights, or they do not fit its recipe.
        """
        state = part(self.tensors, which)
        if not state:
            raise InputError(f"{self.path} holds no {which}; source-only runs have a student only.")
        segmenter = self._rebuilt()
        try:
            segmenter.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                f"{self.path}: the {which}'s weights do not fit the recipe in card.json "
                f"({' '.join(str(error).split())[:200]})."
            ) from error
        return segmenter.eval()

    def _rebuilt(self) -> Segmenter:
        try:
            return rebuild(self.card.recipe, self.path)
        except InputError:
            raise
        except Exception as error:
            if "factory" in self.card.model.encoder:
                raise  # somebody's own code, who wants to see where
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise altered(self.path / CARD, f"model is no network that can be built: {reason}") from error

    def shift_statistics(self) -> ShiftStatistics:
        """Statistics of the post-hoc correction.

        Those of the final pass over the target where the run has one; of an unfinished online run, the
        running ones.

        Raises:
            InputError: the run has neither, or they are not whole.
        """
        try:
            return self._shift_statistics()
        except ValueError as error:
            raise altered(self.path / "model.safetensors", f"statistics: {error}") from error

    def _shift_statistics(self) -> ShiftStatistics:
        final = part(self.tensors, "posthoc")
        if final:
            return stored_statistics(final, len(self.classes))
        running = part(self.tensors, "statistics")
        if not running:
            raise InputError(
                f"{self.path} has no statistics to correct with (method.balance is "
                f"{self.config.method.balance}); gather them with `adapt statistics {self.path}`."
            )
        statistics = new_statistics(self.config, len(self.classes))
        try:
            statistics.load_state_dict(running)
        except RuntimeError as error:
            raise ValueError(" ".join(str(error).split())[:160]) from error
        domain = "target" if self.config.method.self_training else "source"
        low, high = (float(end) for end in (statistics.bins.low, statistics.bins.high))
        return replace(
            statistics.shift_statistics(domain),
            logit_range=(low, high) if low < high else LOGIT_RANGE,
            outside=statistics.outside_share,
        )

    @property
    def tau(self) -> float:
        """Strength of the post-hoc correction: what was chosen for the run, else the default.

        The default is no correction where the statistics speak against it.
        """
        if self.card.tau is not None:
            return self.card.tau
        return 0.0 if self.doubt else self.default_tau

    @property
    def default_tau(self) -> float:
        """Strength of a correction that nothing speaks against; less after a loss that was adjusted."""
        return default_tau(self.config)

    @cached_property
    def doubt(self) -> str:
        """Why the correction is off unless somebody chooses a strength, in words; empty where it is not."""
        if self.card.tau is not None or not self.corrects:
            return ""
        return doubt(self.shift_statistics(), self.config.evened)

    @property
    def corrects(self) -> bool:
        """Whether there are statistics to correct with, be they whole or not."""
        return bool(part(self.tensors, "posthoc") or part(self.tensors, "statistics"))

    @property
    def frames(self) -> list[Path]:
        """Pictures of the target domain kept in the run, for checks and reports."""
        return sorted((self.path / "report" / "frames").glob("*.png"))


def new_statistics(config: Config, num_classes: int, anchors: Mixture | None = None) -> LogitStatistics:
    """Fresh running statistics as the settings ask for; `anchors` [2, K] are kept if there are some."""
    method = config.method
    rule = UpdateRule(method.em_steps, method.momentum, method.statistics_warmup, method.min_pixels)
    return LogitStatistics(
        num_classes,
        components=method.components,
        rule=rule,
        eps=method.eps,
        pooling=method.anchor_pooling,
        anchors=anchors,
    )


def load_run(path: Path | str) -> Run:
    """Open a run folder.

    Raises:
        InputError: not a run, incomplete, altered, or written by a newer version.
    """
    path = Path(path)
    if (checkpoint := describe_checkpoint(path)) is not None:
        raise InputError(checkpoint)
    if path.suffix == ".onnx" and path.is_file():
        raise InputError(
            f"{path} is an ONNX file, not a run folder; `serve info`, `blda export eval` and `blda export "
            "verify` take it."
        )
    if path.is_file():
        raise InputError(f"{path} is a file, not a run folder; give what `adapt train -o` wrote.")
    if not path.is_dir():
        raise InputError(f"{path} is not a run folder: it does not exist; give what `adapt train -o` wrote.")
    for name in ("card.json", "config.yaml", "model.safetensors"):
        if not (path / name).is_file():
            raise InputError(f"{path} is not a complete run folder: {name} is missing; train again.")
    card = read_card(path)
    settings = path / "config.yaml"
    try:
        content = yaml.safe_load(settings.read_bytes())
    except yaml.YAMLError as error:
        raise altered(settings, " ".join(str(error).split())[:160]) from error
    if not isinstance(content, dict):
        raise altered(settings, "it holds no sections")
    return Run(path, card, validate(content, str(settings)), card.class_list)


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below "name." with that prefix taken off."""
    prefix = name + "."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def prefixed(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `part`."""
    return {f"{name}.{key}": value for key, value in tensors.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: missing, or cut off.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except SafetensorError as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}); restore or write it again."
        ) from error


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; tensors are copied to the CPU."""
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(plain, metadata))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def claim(path: Path, force: bool) -> None:
    """Make sure that a new run may be written at `path`.

    Raises:
        InputError: something is there already, or the place cannot be written.
    """
    if path.exists() and not force:
        raise InputError(
            f"{path} exists already; choose another name, --resume it, or replace it with --force."
        )
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / "card.json").exists())):
        raise InputError(f"{path} is not a run folder, so --force will not delete it; choose another name.")
    parent = path.parent
    parent.mkdir(parents=True, exist_ok=True)
    if not os.access(parent, os.W_OK):
        raise InputError(f"{parent} cannot be written; choose another place for the run.")


def new_card(built: Built, classes: ClassList, seed: int) -> Card:
    """The card of an untrained run."""
    return Card(
        format=FORMAT if "whole" in built.recipe else FORMER,
        classes=classes.to_dict(),
        model=Recipe(**built.recipe),
        license_note=built.license_note,
        iterations=0,
        finished=False,
        seed=seed,
        versions=library_versions(),
    )


def write_card(folder: Path, card: Card) -> None:
    """Write card.json atomically."""
    write_text(folder / CARD, json.dumps(card.model_dump(exclude_unset=True), indent=2) + "\n")


def library_versions() -> dict[str, str]:
    """Versions that a reader of the card needs to reproduce the run."""
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}
