"""`serve drift`: what it says, to whom, with which exit code."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from gathered_files import HOUR, MORNING, drawn, subject, write_file
from metrics_text import metrics_of, of_class
from safetensors.numpy import save
from serve_commands import expect_refusal, serve
from serve_graphs import CLASSES, write_graph

from serve.card import Key, key_of
from serve.fleet.drift import drift
from serve.fleet.told import prometheus
from serve.gathering.rule import Rule, Subject

BLOCK = 6 * HOUR
OF = subject(3)


def days(path: Path, seed: int, favour: float = 0.0, blocks: int = 12, of: Subject = OF) -> Path:
    """Two slots in each block; class 1 gets `favour` on its logits."""
    rng = np.random.default_rng(seed)
    counts = [
        drawn(of, rng, 600, np.array([0, favour, 0]) + rng.normal(0, 0.1, 3)) for _ in range(2 * blocks)
    ]
    return write_file(path, of, counts, slot=BLOCK // 2, first=MORNING // BLOCK * BLOCK)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("days")
    return {
        "then": days(folder / "then", 0),
        "same": days(folder / "same", 1),
        "dusk": days(folder / "dusk", 2, -1.5),
    }


def test_no_drift_is_said_and_exit_code_0(files: dict[str, Path]) -> None:
    result = serve("drift", files["same"], "--against", files["then"])
    assert result.exit_code == 0, result.output
    assert "No drift: chance alone" in result.output and "class1" in result.output


def test_a_drift_is_said_with_its_class_and_exit_code_3(files: dict[str, Path], tmp_path: Path) -> None:
    out = ("--json", tmp_path / "j", "--html", tmp_path / "h", "--prometheus", tmp_path / "p.prom")
    result = serve("drift", files["dusk"], "--against", files["then"], *out)
    assert result.exit_code == 3, result.output
    assert re.search(r"Drifted: .*class1", result.output)
    found = json.loads((tmp_path / "j").read_text())
    one = found["classes"][1]
    assert found["alarm"] and one["drifted"] and found["p"] <= 0.01
    assert one["share"]["now"] < one["share"]["then"] and one["bias"]["now"] < one["bias"]["then"]
    low, high = one["wasserstein_interval"]
    assert low <= one["wasserstein_logits"] + 0.05 and one["wasserstein_logits"] <= high + 0.05
    page = (tmp_path / "h").read_text()
    assert page.count("<svg") == 3 and "http" not in page and "Drifted: " in page
    metrics = of_class(metrics_of((tmp_path / "p.prom").read_text()))
    assert metrics["blda_drift_alarm", ""] == 1 and metrics["blda_class_drifted", "class1"] == 1
    assert metrics["blda_class_share", "class0"] == pytest.approx(found["classes"][0]["share"]["now"])


def test_metrics_replace_those_of_before_and_pages_do_not(files: dict[str, Path], tmp_path: Path) -> None:
    against = ("drift", files["same"], "--against", files["then"])
    for _ in range(2):
        assert serve(*against, "--prometheus", tmp_path / "p").exit_code == 0
    assert serve(*against, "--html", tmp_path / "h").exit_code == 0
    expect_refusal(serve(*against, "--html", tmp_path / "h"), "--force")


def test_names_of_classes_are_written_so_that_prometheus_reads_them(files: dict[str, Path]) -> None:
    found = drift(files["same"], files["then"])
    odd = type(found)(**{**vars(found), "classes": ('a "b"', "c\\d", "e")})
    read = {name for _, name in of_class(metrics_of(prometheus(odd)))} - {""}
    assert read == set(odd.classes)


def test_parts_of_a_file(files: dict[str, Path]) -> None:
    whole = drift(files["dusk"], files["then"])
    nights = drift(files["dusk"], files["then"], slots=["18:00-06:00"])
    assert len(nights.now.begins) < len(whole.now.begins)
    assert set(nights.now.begins) < set(whole.now.begins)
    with_device = drift(files["dusk"], files["then"], devices=["d"])
    np.testing.assert_array_equal(with_device.distance, whole.distance)


def test_what_can_not_be_compared_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    other = days(tmp_path / "other", 3, of=subject(3, network="another"), blocks=1)
    then = files["then"]
    for arguments, words in (
        ((then, "--against", other), "is of another network"),
        ((then, "--against", then, "--device", "x"), "holds nothing of what is wanted"),
        ((then, "--against", then, "--block", "1h"), "give a multiple"),
        ((then, "--against", tmp_path / "none"), "is not a file"),
        ((tmp_path / "none", "--against", then), "does not exist"),
        ((then, "--against", write_graph(tmp_path / "m.onnx")), "not exported for gathering"),
    ):
        expect_refusal(serve("drift", *arguments), words)


def test_against_the_profile_under_which_it_was_gathered(tmp_path: Path) -> None:
    """A model whose day lies far off, and whose night is what was gathered."""
    rule = Rule(-16.0, 0.125, (0.0, 0.0, 0.0))
    path = write_graph(tmp_path / "m.onnx", gather=rule, profiles={"day": 0.1, "night": 0.2})
    model = onnx.load(path)
    entries = {p.key: p.value for p in model.metadata_props}
    for number, mean in enumerate((-4.0, 3.0)):
        parts = {p.key: p.value for p in onnx.load(model_of(tmp_path / f"{number}", mean)[0]).metadata_props}
        entries |= {key_of(key, number): parts[key] for key in (Key.STATISTICS, Key.CURVES)}
        entries[key_of(Key.GATHER, number)] = entries[Key.GATHER]
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, path)
    of = Subject("strongest", CLASSES, 4, rule)
    night = days(tmp_path / "night", 4, of=replace(of, profile="night"))
    found = drift(night, path)
    assert not found.alarm.alarmed and found.then.words == "what m.onnx was folded with as night"
    by_day = drift(days(tmp_path / "day", 4, of=replace(of, profile="day")), path)
    assert by_day.alarm.alarmed
    for profile, words in (
        ("", "under no profile, not under profile day"),
        ("fog", "choose one of day, night"),
    ):
        other = days(tmp_path / f"other{profile}", 4, of=replace(of, profile=profile), blocks=1)
        expect_refusal(serve("drift", other, "--against", path), words)


def model_of(path: Path, mean: float) -> tuple[Path, Subject]:
    """A graph that was folded with Gaussian rows about this mean."""
    rule = Rule(-16.0, 0.125, (0.0, 0.0, 0.0), (100, 50, 25))
    own = np.full((3, 3, 1), mean, np.float32)
    rows = {"rows.weights": np.ones_like(own), "rows.means": own, "rows.variances": 4 * np.ones_like(own)}
    model = onnx.load(write_graph(path, gather=rule))
    entries = {p.key: p.value for p in model.metadata_props}
    entries[Key.STATISTICS] = base64.b64encode(save({**rows, "seen": np.ones(3, np.uint8)})).decode()
    entries[Key.CURVES] = json.dumps({"bias": [0.1, 0.0, -0.1], "shifts": []})
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, path)
    return path, Subject("strongest", CLASSES, 4, rule)


def test_against_a_model(tmp_path: Path) -> None:
    model, of = model_of(tmp_path / "m.onnx", 3.0)
    file = days(tmp_path / "f", 4, of=of)
    found = drift(file, model)
    assert found.then.share.tolist() == pytest.approx([100 / 175, 50 / 175, 25 / 175])
    assert found.then.bias.tolist() == [0.1, 0.0, -0.1] and found.then.confidence is None
    assert found.then.distribution.sum(1) == pytest.approx(1)
    far, _ = model_of(tmp_path / "far.onnx", -4.0)
    result = serve("drift", file, "--against", far)
    assert result.exit_code == 3 and "Drifted: red, green, blue" in result.output
