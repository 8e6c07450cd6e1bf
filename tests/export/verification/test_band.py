"""The rows of a picture that the check at writing looks at."""

from dataclasses import replace

import log_odds
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx_segmenters import card, plain_segmenter, statistics

from export.fold.fold import Strength, fold
from export.sources.pictures import synthetic_frames
from export.sources.reference import bare_reference
from export.verification.band import LEAST, MOST, Band, band_of
from export.verification.parity import verify
from serve.card import Upsampling

MOST_HERE = 4 * 4 * 32 * 8
"""Eight rows of 4 classes and 32 columns."""


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric"])
def test_labels_of_a_band_depend_on_its_rows_alone(scale, position, coordinates):
    scores = torch.randn(3, 40, 5, generator=torch.Generator().manual_seed(scale), dtype=torch.float64)
    band = band_of(position, 3, (1, *scores.shape), 3 * 3 * 5 * 10)
    assert band.rows.stop - band.rows.start == 10
    how = Upsampling(coordinates=coordinates)
    of = replace(card(3), output_stride=scale, upsampling=how)
    whole = log_odds.upsampled(scores.numpy(), scale, coordinates)
    found = band.upsampled(scores[:, band.rows], of).numpy()
    np.testing.assert_allclose(found, whole[:, band.pixels(of)], rtol=0, atol=1e-9)
    assert 10 * scale - 2 * scale < found.shape[1] <= 10 * scale
    if coordinates == "half_pixel":
        assert found.shape[1] >= 10 * scale - scale // 2 * (2 if position == 1 else 1)


@pytest.mark.parametrize("scale", [2, 4])
def test_upsampling_is_that_of_torch(scale):
    maps = torch.randn(3, 7, 5, dtype=torch.float64)
    whole = Band(slice(0, 7), 7)
    for coordinates, align in (("half_pixel", None), ("align_corners", True)):
        of = replace(card(3), output_stride=scale, upsampling=Upsampling(coordinates=coordinates))
        torch_s = torch.nn.functional.interpolate(
            maps[None], scale_factor=float(scale), mode="bilinear", align_corners=align
        )
        assert torch.allclose(whole.upsampled(maps, of), torch_s[0], rtol=0, atol=1e-12)


def test_bands_go_from_the_bottom_to_the_top_and_small_pictures_are_whole():
    shape = (1, 4, 100, 32)
    starts = [band_of(i, 5, shape, MOST_HERE).rows.start for i in range(5)]
    assert starts == sorted(starts, reverse=True) and starts[0] == 100 - 8 and starts[-1] == 0
    assert band_of(0, 1, (1, 19, 32, 64), MOST).whole and band_of(3, 8, shape, None).whole
    assert band_of(0, 8, (1, 1000, 128, 256), MOST).rows == slice(128 - LEAST, 128)


def _folded():
    return fold(plain_segmenter(4), card(4), Strength(statistics(4), "random", 0.5))


@pytest.mark.parametrize("size", [(128, 128), (125, 123)])
def test_a_right_file_passes_and_the_report_says_that_parts_were_looked_at(size):
    model = _folded()
    frames = [frame[: size[0], : size[1]] for frame in synthetic_frames(card(4, (128, 128)))]
    reference = bare_reference(model, "file")
    result = verify(model, "file", reference, "the graph", frames, "pictures", most=MOST_HERE)
    assert result.passed and "a band of rows of each" in result.report()
    assert "band" not in verify(model, "file", reference, "the graph", frames, "pictures").report()


@pytest.mark.parametrize("name", ["blda/shift_knots", "blda/own_knots", "blda/scale"])
def test_a_wrong_file_does_not_pass(name):
    model = _folded()
    wrong = onnx.ModelProto.FromString(model.SerializeToString())
    tensor = next(t for t in wrong.graph.initializer if t.name == name)
    values = (numpy_helper.to_array(tensor) * 1.3).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    frames = synthetic_frames(card(4, (128, 128)))
    result = verify(wrong, "file", bare_reference(model, "file"), "it", frames, "fields", most=MOST_HERE)
    assert not result.passed
