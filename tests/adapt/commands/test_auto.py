"""What the preset `auto` chooses, and that it leaves alone what somebody has set."""

import json
from pathlib import Path

import flawed_data
import pytest
import torch
from click.testing import CliRunner
from refusals import expect_refusal
from training_step import small_segmenter

from adapt.cli import main
from adapt.commands import auto
from adapt.commands.auto import choose_encoder, choose_rest, is_at_hand
from adapt.config.presets import AUTO
from adapt.config.settings import Data, load_config
from adapt.config.unused import check_used
from adapt.data.classes import load_classes
from adapt.data.domains import open_source
from adapt.data.folders.target import find_target
from adapt.data.survey.sets import Opened, Survey, survey

BALANCE = ("method.balance=logit-adjustment", "method.adjustment_tau=0.5")
"""What `auto` chooses of it."""
MINE = ("method.host=dacs", "method.tau=0.2")


@pytest.fixture
def seen(tmp_path: Path) -> Survey:
    """Three source pictures, usually 20 high and 40 wide, and two of the target, 24 high and 36 wide."""
    flawed_data.sound(tmp_path)
    classes = load_classes(tmp_path / "classes.yaml")
    source = open_source(Data(source=(tmp_path / "source",)), classes)
    return survey(Opened(classes, source, find_target([tmp_path / "target"]), None, None), 6, True)


def machine(monkeypatch: pytest.MonkeyPatch, device: str, seconds: float = 0.1, memory: float = 1e9) -> None:
    """A machine with 10 GB free, on which an iteration takes so much."""
    monkeypatch.setattr(auto, "best_device", lambda: torch.device(device))
    monkeypatch.setattr(auto, "free_memory", lambda _: 10 * 10**9)
    monkeypatch.setattr(auto, "expected_seconds", lambda *_: seconds)

    def needed(config, _):
        height, width = config.data.crop
        return memory * height * width / 512**2

    monkeypatch.setattr(auto, "expected_memory", needed)


def cached(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(auto, "is_at_hand", lambda name: name in names)


def test_the_best_encoder_that_may_be_shipped_and_is_here_is_taken(monkeypatch):
    cached(monkeypatch, "microsoft/resnet-50", "nvidia/mit-b5")
    config, (why,) = choose_encoder(load_config(AUTO))
    assert config.model.encoder.pretrained == "microsoft/resnet-50" and config.model.encoder.config is None
    assert "microsoft/resnet-50 (Apache-2.0)" in why


def test_without_one_the_weights_are_random_and_others_are_named_with_their_licence(monkeypatch):
    cached(monkeypatch, "nvidia/mit-b0")
    config, (why,) = choose_encoder(load_config(AUTO))
    assert config == load_config(AUTO)
    assert "facebook/convnext-tiny-224}' (Apache-2.0)" in why
    assert "nvidia/mit-b0 is here, for non-commercial use only" in why


@pytest.mark.parametrize(
    "set_",
    ["model.encoder={config: {model_type: resnet}}", "model.decoder=plain-pyramid", "model.dilated=true"],
)
def test_an_encoder_that_somebody_chose_stays(monkeypatch, set_):
    cached(monkeypatch, "microsoft/resnet-50")
    config = load_config(AUTO, None, (set_,))
    assert choose_encoder(config) == (config, [])


def test_what_lies_in_the_cache_is_seen(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--microsoft--resnet-50"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert not is_at_hand("microsoft/resnet-50")
    (snapshot / "model.safetensors").write_bytes(b"")
    assert is_at_hand("microsoft/resnet-50") and not is_at_hand("microsoft/resnet-101")


def test_the_crop_is_what_the_smaller_pictures_hold(monkeypatch, seen):
    machine(monkeypatch, "cuda")
    segmenter = small_segmenter()  # stride 8
    chosen = choose_rest(load_config(AUTO), segmenter, seen)
    assert chosen.config.data.crop == (16, 32)
    assert "crop 32x16 of pictures of 36x20" in chosen.reasons[0]
    resized = load_config(AUTO, None, ("data.size=[600, 300]", "data.source_size=[520, 800]"))
    assert choose_rest(resized, segmenter, seen).config.data.crop == (512, 296)
    machine(monkeypatch, "cpu")
    assert choose_rest(resized, segmenter, seen).config.data.crop == (256, 256)


def test_the_crop_shrinks_until_it_fits(monkeypatch, seen):
    machine(monkeypatch, "cuda", memory=16e9)  # 512x512 takes 16 GB of which 8 are allowed
    large = load_config(AUTO, None, ("data.size=[1024, 2048]",))
    chosen = choose_rest(large, small_segmenter(), seen)
    assert chosen.config.data.crop == (288, 288)  # 512 * 3/4 = 384 takes 9 GB, and 288 takes 5.1
    assert "would not fit" in chosen.reasons[0]


def test_iterations_follow_the_data(monkeypatch, seen):
    machine(monkeypatch, "cuda")
    pictures = [(3, 4000), (100, 5000), (101, 6000), (10_000, 40_000)]
    for count, wanted in pictures:
        part = seen.labelled[0].part
        found = part.found._replace(images=part.found.images[:1] * count)
        many = seen._replace(
            labelled=[seen.labelled[0]._replace(part=part._replace(found=found))], target=seen.target
        )
        asked = load_config(AUTO, None, ("data.crop=[32, 32]", "method.balance=online"))
        config = choose_rest(asked, small_segmenter(), many).config
        assert config.training.iterations == wanted, count
        assert config.training.warmup == min(1500, wanted // 10)
        assert config.method.statistics_warmup == min(1500, wanted // 4)


def test_the_balance_is_the_one_that_did_not_end_below_the_source(monkeypatch, seen):
    machine(monkeypatch, "cuda")
    chosen = choose_rest(load_config(AUTO), small_segmenter(), seen)
    method = chosen.config.method
    assert (method.balance, method.adjustment_tau, method.statistics_warmup) == (
        "logit-adjustment",
        0.5,
        1500,
    )
    assert "balance logit-adjustment at 0.5" in chosen.reasons[2]
    for settings in (("method.balance=online",), ("method.tau=0.3",), ("method.adjustment_tau=1.0",)):
        asked = load_config(AUTO, None, settings)
        assert choose_rest(asked, small_segmenter(), seen).config.method.balance == asked.method.balance
    alone = load_config(AUTO, None, ("method.host=source",))
    assert choose_rest(alone, small_segmenter(), seen).config.method.balance == alone.method.balance


def test_a_cpu_gets_a_night(monkeypatch, seen):
    machine(monkeypatch, "cpu", seconds=20)
    chosen = choose_rest(load_config(AUTO), small_segmenter(), seen)
    assert chosen.config.training.iterations == 2000  # 43200 s at 20 s are 2160
    assert "2000 iterations, about 11 hours on this CPU; with a GPU it would be 4000" in chosen.reasons[1]
    machine(monkeypatch, "cpu", seconds=2000)
    assert choose_rest(load_config(AUTO), small_segmenter(), seen).config.training.iterations == 1000
    machine(monkeypatch, "cpu", seconds=1)
    assert choose_rest(load_config(AUTO), small_segmenter(), seen).config.training.iterations == 4000


def test_the_host_draws_rare_classes_and_has_feature_distance_where_an_encoder_knows_things(
    monkeypatch, seen
):
    machine(monkeypatch, "cuda")

    def method_of(*settings: str):
        return choose_rest(load_config(AUTO, None, settings), small_segmenter(), seen)

    chosen = method_of()  # an encoder of random weights
    method = chosen.config.method
    assert (method.host, method.rare_class_temperature, method.feature_distance) == ("daformer", 0.01, 0.0)
    assert method.ignored_rows == (0, 0)  # whether the camera sees its own bonnet is not known
    assert "host daformer, with rare-class sampling: it gained" in chosen.reasons[3]
    check_used(chosen.config, AUTO)
    pretrained = 'model.encoder={factory: "encoder.py:build"}'
    known = method_of(pretrained)  # and a train is a thing
    assert known.config.method.feature_distance == 0.005
    assert "rare-class sampling and feature distance" in known.reasons[3]
    assert method_of(pretrained, "method.thing_classes=[boat]").config.method.feature_distance == 0
    for setting in (
        "method.host=dacs",
        "method.rare_class_temperature=null",
        "method.feature_distance=0",
        "method.ignored_rows=[0, 0]",
    ):
        assert method_of(setting).config.method == load_config(AUTO, None, (setting, *BALANCE)).method, (
            setting
        )


def test_what_somebody_set_is_left_alone_and_nothing_chosen_is_idle(monkeypatch, seen):
    machine(monkeypatch, "cuda")
    config = load_config(AUTO, None, ("data.crop=[8, 8]", "training.iterations=7", *MINE))
    assert choose_rest(config, small_segmenter(), seen) == (config, [])
    plain = load_config(AUTO, None, ("method.balance=posthoc", "training.warmup=5"))
    chosen = choose_rest(plain, small_segmenter(), seen).config
    check_used(chosen, AUTO)
    assert chosen.training.warmup == 5


def test_a_named_preset_is_what_it_was(tmp_path: Path) -> None:
    """Nothing of `auto` reaches it."""
    flawed_data.sound(tmp_path)
    record = tmp_path / "found.json"
    words = ["check", *flawed_data.arguments(tmp_path), "--preset", "demo", "--json", str(record)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    settings = json.loads(record.read_text())["settings"]
    wanted = load_config("demo").model_dump(mode="json")
    assert {**settings, "data": None} == {**wanted, "data": None}
    assert settings["data"]["crop"] == wanted["data"]["crop"] and "auto:" not in result.output


def test_the_preset_auto_is_listed_and_says_where_it_is_shown() -> None:
    listed = CliRunner().invoke(main, ["presets"])
    assert listed.output.splitlines()[0].startswith("auto ")
    expect_refusal(CliRunner().invoke(main, ["presets", "auto"]), "adapt check")
