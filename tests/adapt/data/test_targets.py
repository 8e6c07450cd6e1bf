"""Targets: folders of pictures, and frames of videos, whole or damaged, extracted once."""

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_video
from labelled_folders import make_folder, refused
from moving_clips import number_of, ruin, write_moving

from adapt.data import frames as frames_module
from adapt.data.datasets import UnlabelledFolder, check_images, open_target
from adapt.errors import InputError
from serve.media.partial import BOOT, HOST


def frame_numbers(data) -> list[int]:
    return [round(data[i].mean() / 8) for i in range(len(data))]


def test_a_folder_of_images_or_its_subfolder_is_a_target(tmp_path):
    make_folder(tmp_path, ["a", "b"])
    for given in (tmp_path, tmp_path / "images"):
        data = open_target([given], tmp_path / "cache", frames=5, size=(12, 16))
        assert len(data) == 2 and data.names == ["a", "b"]
        assert data[0].shape == (12, 16, 3)
    assert not (tmp_path / "cache").exists()
    check_images(UnlabelledFolder(tmp_path))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_frames_are_sampled_evenly(suffix, tmp_path):
    video = make_video(tmp_path / f"clip.{suffix}")
    data = open_target([video], tmp_path / "cache", frames=4)
    assert data[0].dtype == np.uint8 and data[0].shape == (48, 64, 3)
    np.testing.assert_allclose(frame_numbers(data), [3, 9, 15, 21], atol=1)  # the middles of four quarters


def test_more_frames_than_there_are_gives_each_once(tmp_path):
    data = open_target([make_video(tmp_path / "clip.mp4", count=10)], tmp_path / "cache", frames=50)
    assert frame_numbers(data) == list(range(10))


def test_long_gaps_are_skipped_by_seeking(tmp_path):
    video = make_video(tmp_path / "slow.mp4", count=30, rate=1)  # frames are 15 s apart with two of them
    assert frame_numbers(open_target([video], tmp_path / "cache", frames=2)) == [7, 22]


def test_a_phone_video_is_turned_upright(tmp_path):
    """The track header's matrix says: turn by a quarter, clockwise. The upper half of the frames is white."""
    video = tmp_path / "phone.mp4"
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24] = 255
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(video.read_bytes())
    matrix = data.index(b"tkhd") + 44
    turned = (0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    video.write_bytes(data)
    upright = open_target([video], tmp_path / "cache", frames=1)[0]
    assert upright.shape == (64, 48, 3)
    assert upright[:, :20].max() < 30 and upright[:, 28:].min() > 225


def test_several_videos_follow_each_other_with_names_of_their_own(tmp_path):
    (tmp_path / "other").mkdir()
    videos = [make_video(tmp_path / "clip.mp4"), make_video(tmp_path / "other" / "clip.mp4", count=12)]
    data = open_target(videos, tmp_path / "cache", frames=3, size=(24, 32))
    assert len(data) == 6 and len(set(data.names)) == 6
    assert data[5].shape == (24, 32, 3)


def test_a_complete_extraction_is_used_again_until_something_changes(tmp_path, monkeypatch):
    video, cache, decoded = make_video(tmp_path / "clip.mp4"), tmp_path / "cache", []
    sample_frames = frames_module.sample_frames

    def counting(*arguments):
        decoded.append(arguments)
        return sample_frames(*arguments)

    monkeypatch.setattr(frames_module, "sample_frames", counting)
    first = open_target([video], cache, frames=3)
    assert open_target([video], cache, frames=3).paths == first.paths and len(decoded) == 1
    assert len(open_target([video], cache, frames=4)) == 4 and len(decoded) == 2
    assert open_target([video], cache, frames=3, size=(8, 8))[0].shape == (8, 8, 3) and len(decoded) == 3
    os.utime(video, ns=(1, 1))
    open_target([video], cache, frames=3)
    assert len(decoded) == 4


def test_a_killed_extraction_is_redone(tmp_path, monkeypatch):
    """kill -9 leaves the folder of unfinished frames; Ctrl-C not even that."""
    video, cache = make_video(tmp_path / "clip.mp4"), tmp_path / "cache"
    whole = open_target([video], cache, frames=4)
    folder = whole.paths[0].parent
    unfinished = cache / f".{folder.name}.{HOST}-{BOOT}-01234567.partial"
    folder.rename(unfinished)
    (unfinished / whole.paths[3].name).unlink()
    (unfinished / "stray.png").write_bytes(b"half")
    assert open_target([video], cache, frames=4).paths == whole.paths
    assert not unfinished.exists()

    shutil.rmtree(folder)

    def interrupted(path, image):
        raise KeyboardInterrupt

    monkeypatch.setattr(frames_module, "write_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_target([video], cache, frames=4)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("kept", [0.2, 0.4, 0.7, 0.9])
def test_videos_that_are_cut_off_before_their_index_are_refused_and_leave_nothing(kept, tmp_path):
    video = make_video(tmp_path / "clip.mp4")
    data = video.read_bytes()
    video.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError) as error:
        open_target([video], tmp_path / "cache", frames=6)
    refused(error, video, "truncated")
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


def test_of_damaged_videos_what_is_left_is_taken_and_the_rest_said(tmp_path, capsys):
    whole = write_moving(tmp_path / "whole.mp4", sound=False)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    images = open_target([cut], tmp_path / "cache", frames=72)
    assert 10 < len(images) < 60
    assert [number_of(images[index]) for index in range(10)] == list(range(10))
    assert f"{cut}: damaged: " in capsys.readouterr().err
    ruined = ruin(whole, tmp_path / "ruined.mp4")
    assert 40 < len(open_target([ruined], tmp_path / "cache", frames=72)) <= 72
    assert f"{ruined}: damaged: " in capsys.readouterr().err
    assert len(open_target([whole], tmp_path / "cache", frames=72)) == 72
    assert "damaged" not in capsys.readouterr().err


def test_a_long_video_that_is_cut_off_gives_the_frames_up_to_there(tmp_path, capsys):
    """It is read at places far apart, of which some are not there."""
    whole = make_video(tmp_path / "whole.mp4", count=30, rate=1, options={"movflags": "faststart"})
    assert frame_numbers(open_target([whole], tmp_path / "cache", frames=2)) == [7, 22]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: -(whole.stat().st_size - 1500) // 3])
    assert frame_numbers(open_target([cut], tmp_path / "cache", frames=2)) == [7]
    assert f"{cut}: no frame at 1 of 2 places" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_frames_far_apart_are_those_that_decoding_all_gives(suffix, tmp_path, monkeypatch):
    video = make_video(tmp_path / f"slow.{suffix}", count=31, rate=1)
    few = open_target([video], tmp_path / "few", frames=3)
    monkeypatch.setattr(frames_module, "_JUMP_BEYOND", 1000)
    all_read = open_target([video], tmp_path / "all", frames=3)
    assert len(few) == 3
    for index in range(3):
        np.testing.assert_array_equal(few[index], all_read[index])


def test_frames_read_by_another_rule_are_not_used_again(tmp_path, monkeypatch):
    video = make_video(tmp_path / "clip.mp4")
    first = open_target([video], tmp_path / "cache", frames=3)
    monkeypatch.setattr(frames_module, "RULE", frames_module.RULE + 1)
    assert set(open_target([video], tmp_path / "cache", frames=3).paths).isdisjoint(first.paths)


def make_sound(path: Path, with_empty_picture: bool) -> Path:
    with av.open(str(path), "w") as container:
        if with_empty_picture:
            picture_stream = container.add_stream("libx264", rate=12)
            picture_stream.width, picture_stream.height, picture_stream.pix_fmt = 64, 48, "yuv420p"
        stream = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("suffix", "with_empty_picture"), [("mp4", False), ("mkv", True)])
def test_videos_without_pictures_are_refused(suffix, with_empty_picture, tmp_path):
    sound = make_sound(tmp_path / f"sound.{suffix}", with_empty_picture)
    with pytest.raises(InputError) as error:
        open_target([sound], tmp_path / "cache", frames=3)
    refused(error, sound, "frame" if with_empty_picture else "no video stream")
    assert list((tmp_path / "cache").iterdir()) == []


def test_targets_that_are_not_there_or_not_videos_are_refused(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    empty = tmp_path / "empty"
    empty.mkdir()
    clip = make_video(tmp_path / "clip.mp4")
    for given, part in (
        ([text], "can't be opened as a video"),
        ([tmp_path / "none"], "no folder or video"),
        ([clip, tmp_path / "none.mp4"], "no folder or video"),
        ([empty], "holds no images"),
        ([clip, empty], "holds no images"),
        ([], "no frames"),
    ):
        with pytest.raises(InputError) as error:
            open_target(given, tmp_path / "cache", frames=3)
        refused(error, part)
    with pytest.raises(InputError, match="at least 1 frame"):
        open_target([clip], tmp_path / "cache", frames=0)


def test_a_folder_of_broken_images_is_found_out_before_training(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(InputError) as error:
        check_images(UnlabelledFolder(tmp_path))
    refused(error, tmp_path / "a.jpg", "truncated", "1 more")
