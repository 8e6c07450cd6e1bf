"""`--profile`: one file with the corrections of several places, each as a file of its own would be."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from calibrated_models import NORMALISED, calibrated, call, images_of
from foreign_segmenters import write_pictures
from onnx import numpy_helper

from export.fold.folded import folded_statistics, graph_info, lineage
from export.statistics.profiles import profiles_of
from serve import Segmenter
from serve.gathering.gatherer import Gather


@pytest.fixture(scope="module")
def night(plain, tmp_path_factory) -> tuple[Path, Path]:
    """Pictures of another place, darker, and the statistics of the classifier there."""
    folder = tmp_path_factory.mktemp("night")
    pictures = write_pictures(folder / "pictures", seed=5)
    for path in (pictures / "images").iterdir():
        cv2.imwrite(str(path), (cv2.imread(str(path)) * 0.6).astype(np.uint8))
    model = folder / "model.onnx"
    model.write_bytes(plain[0].read_bytes())
    return pictures, calibrated(model, pictures, *NORMALISED, "--classes", pictures / "classes.yaml")


def exported(*arguments: object) -> str:
    result = call("onnx", *arguments)
    assert result.exit_code == 0, result.output
    assert "passed: against" in result.output
    return result.output


@pytest.fixture(scope="module")
def both(plain, night, target, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("both") / "both.onnx"
    output = exported(
        *(plain[0], "--profile", f"day={plain[1]}", "--profile", f"night={night[1]}"),
        *("--gather", "--uncorrected-labels", "--data", target, "-o", out),
    )
    assert "2 profiles, of which --profile chooses one: day, night; day if none is" in output
    assert "profiles day, night; numbers are of day" in output
    return out


@pytest.fixture(scope="module")
def alone(plain, night, target, tmp_path_factory) -> Path:
    """The night in a file of its own."""
    out = tmp_path_factory.mktemp("alone") / "night.onnx"
    exported(plain[0], "--stats", night[1], "--gather", "--data", target, "-o", out)
    return out


def same_labels(one: Segmenter, other: Segmenter, pictures: Path) -> None:
    for image in images_of(pictures):
        np.testing.assert_array_equal(one(image).labels, other(image).labels)


def test_labels_are_those_of_a_file_of_its_own(plain, both, alone, night):
    same_labels(Segmenter(both, profile="night"), Segmenter(alone), night[0])
    day = Segmenter(both)
    assert any((day(i).labels != Segmenter(alone)(i).labels).any() for i in images_of(night[0]))
    model, own = onnx.load(both), onnx.load(alone)
    found, expected = graph_info(model, "m").under(1).correction, graph_info(own, "m").correction
    assert found == expected
    assert lineage(model, 1) == lineage(own)


def test_the_check_is_of_every_profile(both, tmp_path):
    record = graph_info(onnx.load(both), "m").verification
    assert record["profiles"] == ["day", "night"] and record["profile"] == "day" and record["passed"]
    model = onnx.load(both)
    tensor = next(t for t in model.graph.initializer if t.name == "blda/profile1/own_knots")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.5), tensor.name))
    broken = tmp_path / "broken.onnx"
    onnx.save(model, broken)
    result = call("verify", broken, "--json", tmp_path / "r.json")
    assert result.exit_code == 1 and "numbers are of night" in result.output
    said = json.loads((tmp_path / "r.json").read_text())
    assert said["profile"] == "night" and not said["passed"]


def test_exported_again_it_keeps_them_and_one_can_be_taken_out(both, alone, night, target, tmp_path):
    again, one = tmp_path / "again.onnx", tmp_path / "one.onnx"
    exported(both, "--gather", "--data", target, "-o", again)
    assert Segmenter(again).profiles == ("day", "night")
    same_labels(Segmenter(again, profile="night"), Segmenter(alone), night[0])
    exported(both, "--profile", "night", "--gather", "--data", target, "-o", one)
    assert Segmenter(one).profiles == ()
    same_labels(Segmenter(one), Segmenter(alone), night[0])
    swapped = tmp_path / "swapped.onnx"
    exported(one, "--profile", "b", "--profile", f"day={both}", "--data", target, "-o", swapped)
    assert Segmenter(swapped).profiles == ("b", "day")
    same_labels(Segmenter(swapped, profile="day"), Segmenter(both), night[0])


def test_a_folded_file_brings_its_strength(both, plain, alone, target, tmp_path):
    weak, out = tmp_path / "weak.onnx", tmp_path / "o.onnx"
    exported(alone, "--tau", 0.25, "--data", target, "-o", weak)
    wanted = ("--profile", f"day={plain[1]}", "--profile", f"night={weak}")
    exported(alone, *wanted, "--data", target, "-o", out)
    assert [each.correction.tau for each in graph_info(onnx.load(out), "m").profiles] == [0.5, 0.25]
    exported(alone, *wanted, "--tau", 1, "--runtime-tau", "--data", target, "-o", tmp_path / "t.onnx")
    segmenter = Segmenter(tmp_path / "t.onnx", profile="night")
    image = images_of(target)[0]
    plainly = Segmenter(both)(image, extras=True).uncorrected_labels
    np.testing.assert_array_equal(segmenter(image, 0.0).labels, plainly)
    result = call("onnx", alone, *wanted, "--runtime-tau", "-o", tmp_path / "no.onnx")
    assert result.exit_code == 2 and "day has tau 0.5 and night 0.25; give one with --tau" in result.output


def test_what_was_gathered_is_a_profile_too(both, night, target, tmp_path):
    """Under the profile under which it was gathered, in its bins; as if it were folded alone."""
    file = tmp_path / "field.safetensors"
    segmenter = Segmenter(both, profile="night", gather=Gather(file, every=1))
    for image in images_of(night[0]):
        segmenter(image)
    segmenter.close()
    own, out = tmp_path / "own.onnx", tmp_path / "o.onnx"
    said = exported(both, "--stats", file, "--data", target, "-o", own)
    assert "strength: tau 0.5, which both.onnx has" in said
    said = exported(
        *(both, "--profile", "day", "--profile", f"night={file}", "--anchors", "model"),
        *("--data", night[0], "-o", out),
    )
    assert "night: strength: tau 0.5" in said and "under night, beside the file before, " in said
    same_labels(Segmenter(out, profile="night"), Segmenter(own), night[0])
    same_labels(Segmenter(out), Segmenter(both), night[0])
    now, before = (folded_statistics(onnx.load(each), 1).anchors.means for each in (out, both))
    assert (now == before).all()


def test_half_precision_agrees_under_each(both, target, tmp_path):
    out = tmp_path / "half.onnx"
    exported(both, "--precision", "fp16", "--data", target, "-o", out)
    assert Segmenter(out).profiles == ("day", "night")
    result = call("verify", out, "--data", target)
    assert result.exit_code == 0, result.output


def test_scores_and_pictures_are_of_the_profile(both, alone, night, tmp_path):
    scores = []
    for number, (file, options) in enumerate(((both, ("--profile", "night")), (alone, ()), (both, ()))):
        result = call("eval", file, "--data", night[0], *options, "--json", tmp_path / f"{number}.json")
        assert result.exit_code == 0, result.output
        scores.append(json.loads((tmp_path / f"{number}.json").read_text()))
    assert str(scores[0]) != str(scores[2])
    drawn = []
    for options in ((), ("--profile", "night")):
        out = tmp_path / f"{len(drawn)}.png"
        result = call("show", both, *options, "-o", out)
        assert result.exit_code == 0 and "2 profiles" in result.output, result.output
        drawn.append(out.read_bytes())
    assert drawn[0] != drawn[1]
    refusal = call("show", both, "--profile", "fog", "-o", tmp_path / "no.png")
    assert refusal.exit_code == 2 and "choose one of day, night" in refusal.output


def test_triton_serves_the_first(both, tmp_path):
    result = call("triton", both, "-o", tmp_path / "models")
    assert result.exit_code == 0 and "it serves the profile day, not night" in result.output


def test_what_can_not_be_folded_is_refused(plain, night, both, target, tmp_path):
    other, network = tmp_path / "other.onnx", onnx.load(plain[0])
    weight = max(network.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(weight), weight.name))
    onnx.save(network, other)
    stranger = calibrated(other, target, *NORMALISED, "--classes", target / "classes.yaml")
    smaller = tmp_path / "smaller.onnx"
    smaller.write_bytes(plain[0].read_bytes())
    sized = calibrated(smaller, target, *NORMALISED, "--size", "64x64", "--classes", target / "classes.yaml")
    day = f"day={plain[1]}"
    for source, wanted, words in (
        (plain[0], (f"night={stranger}", day), "were not gathered with the network"),
        (both, (f"night={stranger}", "day"), "were not gathered with the network"),
        (plain[0], (day, f"night={sized}"), "calibrated with other classes, sizes or normalisation"),
        (plain[0], (day, day), "--profile day is given twice"),
        (plain[0], (day, "night="), "is no profile; give NAME=STATS"),
        (plain[0], ("=x",), "is no profile; give NAME=STATS"),
        (both, ("fog",), "--profile fog is not in"),
        (both, ("day", f"fog={both}"), "has the profiles day, night, but not fog"),
        (both, ("day", f"night={other}"), "holds no statistics, as it was not exported here"),
        (both, ("day", f"night={tmp_path / 'none'}"), "does not exist"),
        (both, tuple(f"p{n}={plain[1]}" for n in range(9)), "9 profiles were given"),
    ):
        options = [word for each in wanted for word in ("--profile", each)]
        result = call("onnx", source, *options, "-o", tmp_path / "o.onnx")
        assert result.exit_code == 2 and words in result.output, (wanted, result.output)
        assert not (tmp_path / "o.onnx").exists()
    for options, words in (
        (("--stats", plain[1]), "leave --stats and --slot out"),
        (("--slot", "22:00-06:00"), "leave --stats and --slot out"),
        (("--without-correction",), "are of the correction"),
        (("--anchors", "target"), "--anchors is of statistics that were gathered"),
    ):
        result = call("onnx", both, "--profile", "day", *options, "-o", tmp_path / "o.onnx")
        assert result.exit_code == 2 and words in result.output, result.output
    assert list(profiles_of(["a=b=c", "d"]).values()) == [Path("b=c"), None]
