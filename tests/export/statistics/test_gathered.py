"""A file for gathering: what a device counts with it is what calibration would have counted itself."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from calibrated_models import call, images_of
from foreign_segmenters import write_pictures, write_segmenter

from adapt.balance.bins import BINS, Bins
from adapt.balance.histogram import logit_histogram
from adapt.balance.mixtures import cdf
from export.fold.folded import folded_statistics, gather_rule, graph_info, lineage, unfold
from export.sources.statistics_file import read_statistics
from export.statistics.gathered import open_gathered
from serve import Segmenter
from serve.gathering.gatherer import Gather
from serve.gathering.rule import BINS as OURS
from serve.gathering.rule import MARGIN
from serve.gathering.store import Gathered
from serve.gathering.times import slots_of


@pytest.fixture(scope="module")
def gathering(plain, target, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("gathering") / "model.onnx"
    result = call("onnx", plain[0], "--stats", plain[1], "--gather", "--data", target, "-o", out)
    assert result.exit_code == 0, result.output
    return out


def counted(model: Path, pictures: list[np.ndarray], file: Path) -> Gathered:
    segmenter = Segmenter(model, gather=Gather(file, every=1))
    for picture in pictures:
        segmenter(picture)
    segmenter.close()
    return Gathered(file)


def test_a_device_counts_what_calibration_counts(plain, target, gathering, tmp_path):
    """On the same pictures: the same classes of the pixels, and the same counts in the same bins, exactly."""
    found = counted(gathering, images_of(target), tmp_path / "f")
    counts, rule = found.total(), found.head.subject.rule
    _, record = read_statistics(plain[1])
    assert tuple(counts.pixels) == record.pixels == rule.pixels
    logits = [
        Segmenter(gathering).runtime.run(["logits"], {"image": image[None]})[0] for image in images_of(target)
    ]
    pixels = torch.from_numpy(np.concatenate([f[0].reshape(4, -1) for f in logits], 1))[None, :, None]
    labels = (pixels + torch.tensor(rule.offset).view(1, -1, 1, 1)).argmax(1)
    bins = Bins(torch.tensor(rule.low), torch.tensor(rule.step))
    expected = logit_histogram(pixels, labels, bins=bins)
    np.testing.assert_array_equal(counts.joint, expected.counts.numpy())
    assert sum(record.outside for record in found.head.records) == int(expected.outside) == 0


def test_the_range_is_that_of_the_statistics_and_a_margin(plain, gathering):
    statistics, _ = read_statistics(plain[1])
    low, high = statistics.logit_range
    rule = gather_rule(onnx.load(gathering))
    assert rule is not None and OURS == BINS
    assert rule.low == pytest.approx(low - MARGIN * (high - low))
    assert rule.high == pytest.approx(high + MARGIN * (high - low))


def test_the_logits_are_the_networks_whatever_is_folded(gathering, tmp_path):
    """Of another strength, the counts are those of the same network and add up."""
    other = tmp_path / "other.onnx"
    result = call("onnx", gathering, "--tau", 1, "--gather", "-o", other)
    assert result.exit_code == 0, result.output
    a, b = onnx.load(gathering), onnx.load(other)
    assert lineage(a).sha256 == lineage(b).sha256 and gather_rule(a) == gather_rule(b)
    assert unfold(a).SerializeToString(deterministic=True) == unfold(b).SerializeToString(deterministic=True)
    picture = write_pictures(tmp_path / "p", seed=3)
    files = [counted(model, images_of(picture), tmp_path / model.stem) for model in (gathering, other)]
    one, two = (file.total() for file in files)
    np.testing.assert_array_equal(one.joint, two.joint)
    assert (one.labels != two.labels).any()
    assert files[0].head.subject == files[1].head.subject


def test_without_gather_there_is_no_trace(plain):
    model = onnx.load(plain[2])
    assert gather_rule(model) is None and "logits" not in {value.name for value in model.graph.output}


def test_gather_needs_the_correction(plain, tmp_path):
    result = call(
        "onnx", plain[0].with_name("fixed.onnx"), "--without-correction", "--gather", "-o", tmp_path / "o"
    )
    assert result.exit_code == 2 and "--gather counts in the range" in result.output


def test_classes_that_take_no_part_are_not_gathered(gathering, tmp_path):
    result = call("onnx", gathering, "--leave", "sky", "--gather", "-o", tmp_path / "o.onnx")
    assert result.exit_code == 2 and "some take no part in this correction" in result.output


def test_a_rule_that_was_altered_is_refused(gathering, tmp_path):
    model = onnx.load(gathering)
    entry = next(p for p in model.metadata_props if p.key == "blda.gather")
    for text in ("{}", '{"low": 0, "step": 0, "offset": [0,0,0,0], "pixels": null}', "no"):
        entry.value = text
        onnx.save(model, tmp_path / "m.onnx")
        result = call("onnx", tmp_path / "m.onnx", "-o", tmp_path / "o.onnx")
        assert result.exit_code == 2 and "blda.gather inside the graph was altered" in result.output


@pytest.fixture(scope="module")
def field(gathering, target, tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    """What two hours gave: the pictures of calibration in the first, others in the second."""
    file = tmp_path_factory.mktemp("field") / "all.safetensors"
    pictures = images_of(target)
    for hour, taken in enumerate((pictures, [np.ascontiguousarray(p[::-1] // 2) for p in pictures])):
        gather = Gather(file, every=1, clock=lambda hour=hour: 1_800_003_600.0 // 3600 * 3600 + 3600 * hour)
        segmenter = Segmenter(gathering, gather=gather)
        for picture in taken:
            segmenter(picture)
        segmenter.close()
    return file, pictures


HOUR = "09:00-10:00"


def test_the_statistics_of_what_was_gathered_are_those_of_calibration(plain, gathering, field):
    """Of the same pictures; in wider bins, so mixtures differ by less than a bin."""
    _, given = open_gathered(gathering, field[0], "target", slots_of([HOUR]))
    calibrated, record = read_statistics(plain[1])
    assert given.pixels == record.pixels and given.of == lineage(onnx.load(gathering)).sha256
    step = (calibrated.logit_range[1] - calibrated.logit_range[0]) / 256 * 1.5
    grid = torch.linspace(*calibrated.logit_range, 50)
    for found, wanted in (
        (given.statistics.rows, calibrated.rows),
        (given.statistics.anchors, calibrated.anchors),
    ):
        z = grid.expand(*wanted.means.shape[:-1], 50)
        below, above = cdf(wanted, z - 2 * step), cdf(wanted, z + 2 * step)
        assert bool(((cdf(found, z) >= below - 0.02) & (cdf(found, z) <= above + 0.02)).all())


def test_gathered_statistics_are_folded(gathering, field, target, tmp_path):
    for anchors, hours in (("model", [HOUR]), ("target", []), ("model", ["10:00-11:00"])):
        out = tmp_path / f"{anchors}{len(hours)}.onnx"
        more = [word for hour in hours for word in ("--slot", hour)]
        result = call(
            *("onnx", gathering, "--stats", field[0], "--anchors", anchors, *more, "--force"),
            *("--gather", "--data", target, "-o", out),
        )
        assert result.exit_code == 0, result.output
        assert "frames gathered from 20" in result.output and "passed: against" in result.output
        assert re.search(r"beside the file before, \d+\.\d+% of [\d,]+ labels change", result.output)
        made = graph_info(onnx.load(out), "made").correction
        assert made.tau == graph_info(onnx.load(gathering), "before").correction.tau
        before, now = (folded_statistics(onnx.load(file)) for file in (gathering, out))
        same = torch.equal(now.anchors.means, before.anchors.means)
        assert same == (anchors == "model")
        assert not torch.equal(now.rows.means, before.rows.means)
        assert gather_rule(onnx.load(out)).offset == gather_rule(onnx.load(gathering)).offset


def test_what_can_not_be_folded_is_refused(plain, gathering, field, tmp_path):
    out = tmp_path / "o.onnx"
    other = write_segmenter(tmp_path / "other.onnx", upsample=True)
    for arguments, words in (
        ((gathering, "--stats", field[0], "--slot", "11:00-12:00"), "holds nothing of the wanted slots"),
        ((gathering, "--stats", field[0], "--slot", "noon"), "--slot noon is no time"),
        ((gathering, "--stats", plain[1], "--anchors", "target"), "--anchors and --slot are of"),
        ((other, "--stats", field[0]), "is not the model that"),
        ((gathering, "--stats", field[0], "--without-correction"), "are of the correction"),
    ):
        result = call("onnx", *arguments, "-o", out)
        assert result.exit_code == 2 and words in result.output, result.output
        assert not out.exists()


def test_the_strength_is_said_and_why(plain, gathering, field, target, tmp_path, monkeypatch):
    """The model's stays; where it has none, the default, and none if that is known to do harm."""
    off = tmp_path / "off.onnx"
    assert call("onnx", gathering, "--tau", 0, "--gather", "--data", target, "-o", off).exit_code == 0
    own = graph_info(onnx.load(gathering), "m").correction.tau
    warning = "warning: it may harm; a few labelled pictures tell"
    for model, doubted, options, tau, words in (
        (gathering, "", (), own, f"strength: tau {own:g}, which model.onnx has"),
        (gathering, "it may harm", (), own, f"strength: tau {own:g}, which model.onnx has"),
        (off, "", (), 0.5, "strength: tau 0.5, the default, as nothing speaks against it"),
        (off, "it may harm", (), 0.0, "strength: tau 0, so labels are the uncorrected ones"),
        (off, "it may harm", ("--tau", 0.3), 0.3, "strength: tau 0.3, as given"),
    ):
        for place in ("gathered", "checks"):
            monkeypatch.setattr(f"export.statistics.{place}.doubt", lambda *_, said=doubted: said)
        out = tmp_path / "o.onnx"
        result = call("onnx", model, "--stats", field[0], *options, "--data", target, "--force", "-o", out)
        assert result.exit_code == 0 and words in result.output, result.output
        assert graph_info(onnx.load(out), "m").correction.tau == tau
        assert (warning in result.output) == (bool(doubted) and tau > 0)
        assert ("it may harm" in result.output) == bool(doubted)


def test_classes_that_were_hardly_seen_are_named(gathering, target, tmp_path):
    file = tmp_path / "few"
    counted(gathering, [np.ascontiguousarray(images_of(target)[0][:, :64])], file)
    result = call("onnx", gathering, "--stats", file, "--data", target, "-o", tmp_path / "o.onnx")
    assert result.exit_code == 0 and "uncorrected, with fewer than 100 pixels: " in result.output
