"""A file for gathering: what a device counts with it is what calibration would have counted itself."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from calibrated_models import call, images_of
from foreign_segmenters import write_pictures

from adapt.balance.bins import BINS, Bins
from adapt.balance.histogram import logit_histogram
from export.fold.folded import gather_rule, lineage, unfold
from export.sources.statistics_file import read_statistics
from serve import Segmenter
from serve.gathering.gatherer import Gather
from serve.gathering.rule import BINS as OURS
from serve.gathering.rule import MARGIN
from serve.gathering.store import Gathered


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


def test_a_rule_that_was_altered_is_refused(gathering, tmp_path):
    model = onnx.load(gathering)
    entry = next(p for p in model.metadata_props if p.key == "blda.gather")
    for text in ("{}", '{"low": 0, "step": 0, "offset": [0,0,0,0], "pixels": null}', "no"):
        entry.value = text
        onnx.save(model, tmp_path / "m.onnx")
        result = call("onnx", tmp_path / "m.onnx", "-o", tmp_path / "o.onnx")
        assert result.exit_code == 2 and "blda.gather inside the graph was altered" in result.output
