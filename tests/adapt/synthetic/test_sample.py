"""The sample data: what it holds, that the shift is there, and that the same seed gives the same files."""

import hashlib
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from adapt.data.classes import IGNORE, load_classes
from adapt.data.datasets import LabelledFolder, UnlabelledFolder, check_labels, open_target
from adapt.errors import InputError
from adapt.synthetic import sample as sample_module
from adapt.synthetic.rendering import render
from adapt.synthetic.sample import OLD_TOWN, SUBURB, make_sample
from adapt.synthetic.street import (
    BICYCLE,
    BUILDING,
    CAR,
    CLASSES,
    PERSON,
    POLE,
    ROAD,
    SIGN,
    SKY,
    VEGETATION,
    Street,
    Thing,
)
from adapt.synthetic.things import build_street
from serve.media.partial import BOOT, HOST

SMALL = {"source": 3, "target": 2, "target_eval": 2, "seconds": 0.5, "size": (64, 128)}


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "sample"
    make_sample(out, seed=5, **SMALL)
    return out


def test_it_holds_what_training_and_evaluation_read(small, tmp_path):
    classes = load_classes(small / "classes.yaml")
    assert classes == CLASSES and len(classes) >= 8
    source, target_eval = (LabelledFolder(small / part, classes) for part in ("source", "target_eval"))
    assert (len(source), len(UnlabelledFolder(small / "target")), len(target_eval)) == (3, 2, 2)
    assert not (small / "target" / "labels").exists()
    assert source[0].image.shape == (64, 128, 3) and source[0].labels.shape == (64, 128)
    assert check_labels(source).class_pixels.shape == (3, len(classes))
    with av.open(str(small / "target.mp4")) as clip:
        stream = clip.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 128, 64)
        assert (stream.average_rate, stream.frames, stream.pix_fmt) == (12, 6, "yuv420p")
    frames = open_target([small / "target.mp4"], tmp_path, frames=6)
    assert not np.array_equal(frames[0], frames[5])


def test_the_same_seed_gives_the_same_files_and_another_others(small, tmp_path):
    make_sample(tmp_path / "same", seed=5, **SMALL)
    assert digests(tmp_path / "same") == digests(small)
    make_sample(tmp_path / "other", seed=6, **SMALL)
    other, first = digests(tmp_path / "other"), digests(small)
    assert other.keys() == first.keys()
    assert [name for name in first if first[name] == other[name]] == ["classes.yaml"]


def test_evaluation_images_are_not_the_training_ones(small):
    trained, evaluated = UnlabelledFolder(small / "target"), UnlabelledFolder(small / "target_eval")
    assert not any(np.array_equal(trained[i], evaluated[j]) for i in range(2) for j in range(2))


def test_the_domains_differ_in_class_frequencies_with_a_long_tail():
    shares = []
    for number, domain in enumerate((SUBURB, OLD_TOWN)):
        pixels = np.zeros(256)
        for i in range(30):
            street = build_street(domain, 110, np.random.default_rng((number, i)))
            pixels += np.bincount(render(street, (32, 64)).labels.ravel(), minlength=256)
        assert pixels[: len(CLASSES)].min() > 0
        assert pixels[len(CLASSES) : IGNORE].sum() == 0
        shares.append(pixels[: len(CLASSES)] / pixels.sum())
    source, target = shares
    assert source.max() / source.min() > 20
    for rare in (POLE, SIGN, PERSON, BICYCLE):
        assert target[rare] > 1.2 * source[rare]
    assert target[CAR] < 0.7 * source[CAR]


def empty_street(*things: Thing, domain=SUBURB) -> Street:
    street = build_street(domain, 110, np.random.default_rng(0))
    return street._replace(background=[], fences=[], foreground=list(things), camera_x=0.0, tilt=0.0)


def thing_that_paints(label: int, color: tuple[int, int, int], x: float, z: float) -> Thing:
    """A board, 2 m wide and 2 m high."""

    def draw(canvas, thing, domain):
        canvas.flat(np.array([(-1, 0), (-1, 2), (1, 2), (1, 0)]), thing, color, label)

    return Thing(draw, x, z, 0)


def test_labels_lie_where_the_camera_equation_puts_them():
    height, width = 128, 256
    labels = render(empty_street(thing_that_paints(CAR, (255, 0, 255), 1.0, 10.0)), (height, width)).labels
    rows, columns = np.nonzero(labels == CAR)
    focal, horizon = SUBURB.focal * width, SUBURB.horizon * height
    foot, top = (horizon + focal * (SUBURB.camera_height - y) / 10 for y in (0, 2))
    left, right = (width / 2 + focal * x / 10 for x in (0, 2))
    assert rows.min() == pytest.approx(top, abs=1) and rows.max() == pytest.approx(foot, abs=1)
    assert columns.min() == pytest.approx(left, abs=1) and columns.max() == pytest.approx(right, abs=1)
    assert labels[-1, width // 2] == ROAD and labels[0, 0] == SKY


def test_labels_and_colours_agree_to_the_pixel():
    """A magenta board in a noiseless picture: inside its label everything is magenta, outside nothing is."""
    still = replace(SUBURB, noise=0.0, haze=0.0, light=(1.0, 1.0, 1.0))
    street = empty_street(thing_that_paints(CAR, (255, 0, 255), 1.0, 7.0), domain=still)
    picture = render(street._replace(light=np.ones(3)), (128, 256))
    red, green, blue = np.moveaxis(picture.image.astype(int), 2, 0)
    magenta = (red > 200) & (green < 60) & (blue > 200)
    board = picture.labels == CAR
    assert board.sum() > 500
    rim = board ^ np.roll(board, 1, 0) | board ^ np.roll(board, -1, 0)
    rim |= board ^ np.roll(board, 1, 1) | board ^ np.roll(board, -1, 1)
    np.testing.assert_array_equal(magenta[~rim], board[~rim])


def test_nearer_things_hide_farther_ones_and_things_behind_are_gone():
    near, far = thing_that_paints(CAR, (0, 0, 0), 0.0, 8.0), thing_that_paints(PERSON, (0, 0, 0), 0.0, 16.0)
    labels = render(empty_street(far, near), (64, 128)).labels
    alone = render(empty_street(near), (64, 128)).labels
    np.testing.assert_array_equal(labels == CAR, alone == CAR)
    passed = render(empty_street(far, near), (64, 128), travelled=7.0).labels
    assert not (passed == CAR).any()
    assert (passed == PERSON).sum() > (labels == PERSON).sum()


def test_driving_on_moves_the_same_street():
    street = build_street(OLD_TOWN, 120, np.random.default_rng(3))
    first, again, later = (render(street, (64, 128), travelled) for travelled in (0.0, 0.0, 0.2))
    np.testing.assert_array_equal(first.image, again.image)
    same = (first.labels == later.labels).mean()
    assert 0.8 < same < 1.0
    assert {BUILDING, ROAD, SKY, VEGETATION} <= set(np.unique(later.labels).tolist())


# --- bad input


def test_an_existing_folder_is_kept_unless_it_is_a_sample_and_forced(small, tmp_path):
    before = digests(small)
    with pytest.raises(InputError, match="--force"):
        make_sample(small, seed=6, **SMALL)
    assert digests(small) == before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="other files"):
        make_sample(mine, seed=6, force=True, **SMALL)
    assert (mine / "thesis.txt").exists()
    out = tmp_path / "again"
    out.mkdir()  # an empty folder is free
    (tmp_path / f".again.{HOST}-{BOOT}-01234567.partial" / "source").mkdir(
        parents=True
    )  # what a kill left behind
    make_sample(out, seed=6, **SMALL)
    make_sample(out, seed=5, force=True, **SMALL)
    assert digests(out) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["again", "mine"]


def test_an_interrupted_sample_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_module, "_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_sample(tmp_path / "sample", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"source": 0}, {"seconds": 0.0}, {"size": (63, 128)}, {"size": (16, 128)}]
)
def test_numbers_out_of_range_are_refused(wrong, tmp_path):
    with pytest.raises(InputError, match=r"needs|must be"):
        make_sample(tmp_path / "sample", **(SMALL | wrong))
    assert list(tmp_path.iterdir()) == []
