"""No setting does nothing: with every host and balance, each one either changes the run or is refused.

What a change does is looked for in two steps of the real trainer on a network of a few hundred weights: in
its losses, weights, statistics, in which pictures it would draw, and in the statistics gathered afterwards.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from clips import make_video
from random_statistics import random_statistics
from refusals import expect_refusal
from torch import Tensor
from training_step import normed_segmenter, pair, small_segmenter, with_things

from adapt.augmentation.pairs import Domains, TrainingPairs
from adapt.balance.logit_statistics import fit_shift_statistics
from adapt.balance.mixtures import Mixture
from adapt.balance.posthoc import gather_statistics
from adapt.cli import main
from adapt.commands.beginning import without_source
from adapt.config.presets import PRESETS
from adapt.config.settings import Config, Encoder, Method, Settings, load_config, with_assignments
from adapt.config.unused import NEEDS, check_used, differences
from adapt.data.datasets import LabelledFolder, UnlabelledFolder
from adapt.data.domains import find_classes
from adapt.errors import InputError
from adapt.model.build import Built
from adapt.model.segmenter import Segmenter
from adapt.run.anchors import ANCHORS, keep_anchors
from adapt.run.run import PRETRAINED, write_tensors
from adapt.training.journal import Journal
from adapt.training.trainer import Trainer
from adapt.training.watching.start import set_to_target

LONG = [pytest.param(*run, marks=pytest.mark.slow) for run in (("daformer", None), ("mic", None))]
BALANCES = ("off", "posthoc", "online", "logit-adjustment", "class-balanced")
OTHER: dict[str, str] = {
    "tau": "1.5",
    "adjustment_tau": "0.5",
    "effective_beta": "0.9",
    "correct_mixed": "false",
    "density_weight": "2.0",
    "components": "2",
    "em_steps": "1",
    "momentum": "0.1",
    "statistics_warmup": "1",
    "min_pixels": "2000",
    "eps": "0.3",
    "anchor_pooling": "classes",
    "posthoc_anchors": "pixels",
    "teacher_momentum": "0.1",
    "source_start": "1",
    "confidence": "0.4",
    "confidence_per": "class",
    "rare_class_temperature": "5.0",
    "labelled_share": "0.9",
    "jitter": "0.5",
    "start_norms": "0.9",
    "start_adjustment": "1.5",
    "mix_temperature": "0.05",
    "guard": "false",
    "anchors": "anchors.safetensors",
    "feature_distance": "3.0",
    "thing_classes": "[car]",
    "ignored_rows": "[0.5, 0.25]",
    "masked_consistency": "2.5",
    "mask_patch": "8",
    "mask_ratio": "0.02",
}
"""A value of each setting of `method` that no host and no preset has."""


def test_there_is_another_value_for_every_setting() -> None:
    assert set(OTHER) == set(Method.model_fields) - {"host", "balance"}


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two classes that are things by default."""
    root = tiny.make_domains(tmp_path_factory.mktemp("domains"))
    classes = root / "classes.yaml"
    classes.write_text(classes.read_text().replace("sky", "car").replace("box", "person"))
    return root


Trace = dict[str, Tensor]


class Probe:
    """Trains two steps and keeps everything that came of them."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.classes = find_classes(root / "source", None)
        self.source = LabelledFolder(root / "source", self.classes)
        self.target = UnlabelledFolder(root / "target")
        self.pixels = np.array([[9000, 500, 0], [400, 900, 90]])
        self.folder = folder
        self.started: tuple[Config, tuple[Trace, Segmenter]] | None = None
        self.source.names[2:] = self.source.image_paths[2:] = self.source.label_paths[2:] = []
        self.target.paths[2:] = []

    def trace(self, config: Config) -> tuple[Trace, Segmenter]:
        """Of the training; and the network then."""
        method = config.method
        source, segmenter = (
            (None, normed_segmenter()) if config.source_free else (self.source, small_segmenter())
        )
        (self.folder / ANCHORS).unlink(missing_ok=True)
        if (anchors := given_anchors(method)) and source is None:  # as the start of a run does
            keep_anchors(self.folder, anchors)
        if source is None:
            set_to_target(segmenter, self.target, config, torch.device("cpu"))
        write_tensors(self.folder / PRETRAINED, small_segmenter(seed=1).encoder.state_dict())
        pairs = TrainingPairs(
            source,
            self.target,
            self.pixels,
            crop=(16, 16),
            rare_class_temperature=method.rare_class_temperature,
            seed=0,
        )
        domains = Domains(source, self.target, None, pairs)
        trainer = Trainer(self.folder, config, Built(segmenter, {}, None, ""), self.classes, domains)
        trainer.journal = Journal(self.folder, self.classes, 2, 2, 0, writes=False)
        trace: Trace = {}
        for step in range(2):
            losses = trainer._step([with_things(pair(seed=step))])
            trace |= {f"{step}.{name}": torch.tensor(value) for name, value in losses.items()}
            trainer.iteration += 1
            trainer._write_down(losses, 1.0)  # the watch chooses the classes to paste
        for name, module in trainer.modules.items():
            trace |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        if pairs.source_crops is not None and pairs.source_crops.class_probability is not None:
            trace["draws"] = torch.from_numpy(pairs.source_crops.class_probability)
        return trace, segmenter.eval()

    def changes(self, start: Config, other: Config) -> bool:
        """Whether the training differs, or the statistics after it (or later, by `adapt statistics`)."""
        (before, segmenter), (after, _) = self._start(start), self.trace(other)
        if not same(before, after):
            return True
        kept = [
            gather_statistics(segmenter, *self.statistics_of(config)).state() for config in (start, other)
        ]
        return not same(*kept)

    def statistics_of(self, config: Config) -> tuple[Any, ...]:
        """What `gather_statistics` takes."""
        anchors = given_anchors(config.method) if config.source_free else None
        return None if config.source_free else self.source, self.target, config.method, "cpu", anchors

    def _start(self, config: Config) -> tuple[Trace, Segmenter]:
        if self.started is None or self.started[0] != config:
            self.started = config, self.trace(config)
        return self.started[1]


@pytest.fixture(scope="module")
def probe(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are tiny
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapt.balance.posthoc.fit_shift_statistics", partial(fit_shift_statistics, steps=2))
        yield Probe(domains, tmp_path_factory.mktemp("probe"))
    torch.set_num_threads(threads)


def same(one: Trace, other: Trace) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def given_anchors(method: Method) -> Mixture | None:
    """Those of a file, where one is named."""
    return None if method.anchors is None else random_statistics(3, 5).to(torch.float32).anchors


def settings_of(host: str, balance: str, start: str | None = None) -> Config:
    sets = (f"method.host={host}", f"method.balance={balance}", "method.min_pixels=4")
    sets, model = ((*sets, "method.confidence=0.5"), {"start": start}) if start else (sets, {})
    return without_source(load_config(None, None, (*sets, "training.warmup=0"), {"model": model}))


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize(("host", "model"), [("source", None), ("dacs", None), ("dacs", "theirs"), *LONG])
def test_every_setting_of_the_method_is_refused_or_changes_the_run(
    probe: Probe, host: str, model: str | None, balance: str
) -> None:
    start = settings_of(host, balance, model)
    assert not probe.changes(start, start), "a training repeats itself"
    for name, value in OTHER.items():
        config = with_assignments(start, (f"method.{name}={value}",))
        assert config != start, name
        try:
            check_used(config, None)
            refused = False
        except InputError as error:
            assert f"method.{name}" in error.message
            refused = True
        if refused and (
            host in ("daformer", "mic") or (model and name in ("feature_distance", "source_start"))
        ):
            continue  # that it is idle indeed is shown with dacs, or it was taken off at the start
        assert refused != probe.changes(start, config), f"{name} with {host}, {balance}: {refused=}"


# ---- data, model, training -------------------------------------------------------------------------------


def names_of(settings: type[Settings], prefix: str = "") -> Iterator[str]:
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings) and name != "encoder":
            yield from names_of(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_table_knows_no_other_settings() -> None:
    encoder = {f"model.encoder.{name}" for name in Encoder.model_fields}
    assert set(NEEDS) <= {*names_of(Config), *encoder}


def test_every_other_setting_is_read_in_a_training(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that depend on no host: with a video, an evaluation and an interruption-free run all are read."""
    read: set[str] = set()
    plain = Settings.__getattribute__

    def recorded(self: Settings, name: str) -> Any:
        read.add(f"{type(self).__name__.lower()}.{name}")
        return plain(self, name)

    clip = tmp_path / "clip.mp4"
    make_video(clip, 3, rate=10)
    arguments = tiny.train_arguments(domains, tmp_path / "run", "training.iterations=2")
    arguments += ["--target", str(clip), "--evaluate", str(domains / "target_eval")]
    monkeypatch.setattr("adapt.config.unused.changes", lambda *_: [])  # compares all of them: that is no use
    monkeypatch.setattr(Settings, "__getattribute__", recorded)
    result = CliRunner().invoke(main, arguments)
    monkeypatch.undo()
    assert result.exit_code == 0, result.output
    rest = {name for name in names_of(Config) if not name.startswith("method.")}
    assert not rest - read


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("training.evaluate_every=3",), ("training.evaluate_every=3", "data.evaluate is not given")),
        (("data.frames=3",), ("data.frames=3", "no target is a video")),
        (("model.encoder={factory: 'a.py:f'}", "model.dilated=true"), ("model.dilated=True", "factory")),
        (
            ("method.host=source", "method.masked_consistency=1", "method.ignored_rows=[0.1, 0.2]"),
            ("method.ignored_rows=[0.1, 0.2], method.masked_consistency=1.0, since method.host is source",),
        ),
        (("method.balance=off", "method.tau=0.3"), ("method.tau=0.3, since method.balance is not online",)),
    ],
)
def test_what_would_do_nothing_is_listed_with_its_reason(
    domains: Path, tmp_path: Path, sets: tuple[str, ...], words: tuple[str, ...]
) -> None:
    result = CliRunner().invoke(main, tiny.train_arguments(domains, tmp_path / "run", *sets))
    expect_refusal(result, *words)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_and_their_files_are_never_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(load_config(name).to_yaml())
    check_used(load_config(name), name)
    check_used(load_config(None, file), None)
    assert not differences(load_config(name), name)
    for balance in BALANCES:  # what a preset brings along is not asked for
        check_used(load_config(name, None, (f"method.balance={balance}", "method.host=source")), name)


def test_settings_that_differ_from_the_preset_are_printed(domains: Path, tmp_path: Path) -> None:
    sets = ("training.iterations=1", "data.crop=[64, 64]", "data.workers=0", "method.min_pixels=100")
    words = [word for each in sets for word in ("--set", each)]
    data = ("--source", str(domains / "source"), "--target", str(domains / "target"))
    run = tmp_path / "run"
    result = CliRunner().invoke(main, ["train", "--preset", "demo", *data, "-o", str(run), *words])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    start = lines.index("settings that differ from the preset demo:")
    assert lines[start + 1 : start + 4] == [
        "  data.crop: [128, 128] -> [64, 64]",
        "  data.workers: 1 -> 0",
        "  training.iterations: 600 -> 1",
    ]
    assert not lines[start + 4].startswith("  ")
