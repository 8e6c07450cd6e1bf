"""One look at a picture, and which pictures are looked at."""

from pathlib import Path

import numpy as np
import oracle
import pytest

from adapt.data.images import write_png
from adapt.data.survey.looks import look_at_pictures, mean_color, spread


@pytest.mark.parametrize(
    ("count", "most", "wanted"),
    [
        (5, None, [0, 1, 2, 3, 4]),
        (3, 3, [0, 1, 2]),
        (2, 9, [0, 1]),
        (9, 3, [0, 4, 8]),
        (100, 2, [0, 99]),
        (0, 4, []),
    ],
)
def test_a_sample_is_spread_from_the_first_to_the_last(count, most, wanted):
    assert spread(count, most) == wanted


def test_light_is_as_the_slow_twin_has_it(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (11, 17, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", image)
    (look,) = look_at_pictures([tmp_path / "a.png"], None).looks
    assert look.brightness == pytest.approx(oracle.brightness(image), abs=1e-9)
    assert look.color == mean_color(image) == pytest.approx(image.reshape(-1, 3).mean(0) / 255, abs=1e-9)
    assert look.size == (11, 17)


def test_what_cannot_be_read_is_kept_with_its_reason(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    looked = look_at_pictures([tmp_path / "a.png"], None)
    assert not looked.looks and looked.damaged[0].path == tmp_path / "a.png"
    assert "a.png" in looked.damaged[0].why
