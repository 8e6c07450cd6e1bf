"""What trains is read by the code that reads in the field: every pixel, of every kind of clip and picture."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from all_kinds import CLIPS, FRAMES, PICTURES, write_kind
from clips import make_video
from serve_graphs import card

from adapt.commands import opening
from adapt.config.settings import Config, Data
from adapt.data.datasets import UnlabelledImages
from adapt.data.frames import check_video
from export.precision import conversion
from export.sources.pictures import calibration_pictures, pictures_for
from export.statistics import calibrate
from serve.card import GraphInfo
from serve.errors import InputError
from serve.images.batch import _read
from serve.media.files import PICTURE_SUFFIXES
from serve.media.images import find_images, read_image
from serve.media.video.reader import Frame
from serve.media.video.series_reader import open_reader
from serve.media.video.source import Selection

Pixels = list[np.ndarray]


def all_of(images: UnlabelledImages | None) -> Pixels:
    assert images is not None
    return [images[index] for index in range(len(images))]


def as_training(target: Path, run: Path) -> Pixels:
    """As `adapt train` opens its target."""
    config = Config(data=Data(source=Path("source"), target=(target,), frames=FRAMES))
    return all_of(opening.open_unlabelled(config, run))


def as_calibration(target: Path, monkeypatch: pytest.MonkeyPatch) -> Pixels:
    """As `export calibrate` does; the network is nothing to it."""
    found: list[Pixels] = []

    def gather(network: object, images: UnlabelledImages, *_: object) -> None:
        found.append(all_of(images))
        raise InputError("enough")

    network = SimpleNamespace(
        path=Path("model.onnx"),
        intake=SimpleNamespace(size=None),
        outlet=SimpleNamespace(classes=len(card().classes)),
    )
    monkeypatch.setattr(calibrate, "open_uncalibrated", lambda *_: (network, GraphInfo(card())))
    monkeypatch.setattr(calibrate, "logits_graph_of", lambda _: None)
    monkeypatch.setattr(calibrate, "check_valid", lambda *_: None)
    monkeypatch.setattr(calibrate, "gather", gather)
    stats = target.parent / "stats.safetensors"
    with pytest.raises(InputError, match="enough"):
        calibrate.calibrate(Path("model.onnx"), [target], stats, frames=FRAMES)
    return found[0]


def as_serving(clip: Path) -> Pixels:
    with open_reader(clip, Selection()) as reader:
        return [item.pixels for item in reader.items() if isinstance(item, Frame)]


def assert_same(pixels: Pixels, expected: Pixels) -> None:
    assert len(pixels) == len(expected)
    for mine, theirs in zip(pixels, expected, strict=True):
        assert mine.dtype == np.uint8
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("kind", CLIPS)
def test_clips(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_kind(tmp_path / "clip", CLIPS[kind])
    expected = as_serving(clip)
    assert len(expected) == FRAMES and not (expected[0] == expected[1]).all()
    assert_same(as_training(clip, tmp_path / "run"), expected)
    assert_same(as_calibration(clip, monkeypatch), expected)


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind by itself, as calibration for integers picks some of many."""
    for name, write in PICTURES.items():
        folder = tmp_path / name
        folder.mkdir()
        write(folder / name)
        (read,) = _read(find_images([str(folder)]))
        assert not isinstance(read.image, InputError), read.image
        expected = [read.image]
        assert_same(as_training(folder, tmp_path / "run"), expected)
        assert_same(as_calibration(folder, monkeypatch), expected)
        assert_same(pictures_for(card(), None, folder).frames, expected)
        assert_same([conversion.read_picture(path) for path in calibration_pictures(folder)], expected)
    assert {Path(name).suffix.lower() for name in PICTURES} == PICTURE_SUFFIXES


def test_a_folder_is_the_same_files_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (name, write) in enumerate(PICTURES.items()):
        write(tmp_path / f"{number:02}{Path(name).suffix}")
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "folder.png").mkdir()
    expected = [read_image(path) for path in find_images([str(tmp_path)])]
    assert len(expected) == len(PICTURES)
    assert_same(as_training(tmp_path, tmp_path / "run"), expected)
    assert_same(as_calibration(tmp_path, monkeypatch), expected)


def test_what_one_refuses_all_refuse_in_the_same_words(tmp_path: Path) -> None:
    make_video(tmp_path / "whole.mp4")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:500])
    shutil.copy(Path(__file__), tmp_path / "text.mp4")
    for name in ("cut.mp4", "text.mp4"):
        said = []
        for read in (as_serving, check_video):
            with pytest.raises(InputError) as error:
                read(tmp_path / name)
            said.append(error.value.message)
        assert said[0] == said[1]
