"""Readers: every layout and pixel format that is promised, one clear sentence for everything broken."""

import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import make_video
from moving_clips import number_of, ruin, write_moving

from adapt.data import frames as frames_module
from adapt.data.classes import IGNORE, ClassList
from adapt.data.datasets import LabelledFolder, UnlabelledFolder, check_images, check_labels, open_target
from adapt.data.images import read_labels, write_jpeg, write_png
from adapt.data.label_codes import UnknownLabels
from adapt.errors import InputError
from serve.media.images import read_image
from serve.media.partial import BOOT, HOST
from serve.media.structure import PNG_SIGNATURE, png_chunks

CLASSES = ClassList(("road", "sky", "car"), (0, 1, 2), ((128, 64, 128), (70, 130, 180), (0, 0, 142)), (255,))


def picture(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def label_ids(height: int = 24, width: int = 32) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return ((rows // 5 + columns // 7) % 3).astype(np.uint8)


def make_folder(root: Path, names: Sequence[str] = ("a", "b", "c"), images="images", labels="labels") -> Path:
    (root / images).mkdir(parents=True)
    (root / labels).mkdir()
    for number, name in enumerate(names):
        write_png(root / images / f"{name}.png", picture(seed=number))
        write_png(root / labels / f"{name}.png", label_ids())
    return root


def refused(error: pytest.ExceptionInfo[InputError], *parts: object) -> None:
    """One sentence without line breaks, exit code 2, that mentions the parts."""
    message = error.value.message
    assert error.value.exit_code == 2
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# --- label files


def write_palette_png(path: Path, indices: np.ndarray) -> None:
    """OpenCV cannot write palettes: write a grey PNG and declare it one."""
    _, data = cv2.imencode(".png", indices)
    body = b""
    for kind, content in png_chunks(data.tobytes()):
        if kind == b"IHDR":
            content = content[:9] + b"\x03" + content[10:]
        if kind == b"IDAT" and b"PLTE" not in body:
            colors = bytes(range(30, 30 + 9))
            body += chunk(b"PLTE", colors)
        body += chunk(kind, content)
    path.write_bytes(PNG_SIGNATURE + body)


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_a_palette_png_gives_its_indices(tmp_path):
    write_palette_png(tmp_path / "palette.png", label_ids())
    painted = read_image(tmp_path / "palette.png")
    assert tuple(painted[0, 0]) == (30, 31, 32)  # it really is one
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png"), label_ids())


def test_sixteen_bit_ids_keep_their_values(tmp_path):
    ids = label_ids().astype(np.uint16) * 1000
    cv2.imwrite(str(tmp_path / "deep.png"), ids)
    values = read_labels(tmp_path / "deep.png")
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, ids)


def test_one_bit_labels_are_zero_and_one(tmp_path):
    mask = (label_ids() > 0).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), mask * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.png"), mask)


@pytest.mark.parametrize("alpha", [False, True])
def test_coloured_labels_become_train_ids(alpha, tmp_path):
    make_folder(tmp_path, ["a"])
    colors = np.array(CLASSES.palette, np.uint8)[label_ids()]
    colors[0] = 0  # black is unlabelled
    stored = (
        np.dstack((colors[..., ::-1], np.full(colors.shape[:2], 99, np.uint8)))
        if alpha
        else colors[..., ::-1]
    )
    cv2.imwrite(str(tmp_path / "labels" / "a.png"), stored)
    sample = LabelledFolder(tmp_path, CLASSES)[0]
    assert (sample.labels[0] == IGNORE).all()
    np.testing.assert_array_equal(sample.labels[1:], label_ids()[1:])


def test_jpeg_labels_and_deep_colours_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), label_ids())
    os.replace(tmp_path / "a.jpg", tmp_path / "a.png")  # noqa: PTH105
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "a.png")
    refused(error, tmp_path / "a.png", "not a PNG")
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((4, 4, 3), np.uint16))
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "b.png")
    refused(error, "16 bits")


# --- labelled folders


@pytest.mark.parametrize(
    ("images", "labels", "given"),
    [("images", "labels", ""), ("train", "trainannot", ""), ("val", "valannot", "val")],
)
def test_layouts_are_found(images, labels, given, tmp_path):
    make_folder(tmp_path, ["b", "a"], images, labels)
    (tmp_path / images / ".hidden.png").write_bytes(b"junk")
    (tmp_path / images / "notes.txt").write_text("junk")
    data = LabelledFolder(tmp_path / given, CLASSES)
    assert len(data) == 2 and data.names == ["a", "b"]
    np.testing.assert_array_equal(data[0].image, picture(seed=1))
    np.testing.assert_array_equal(data[1].labels, label_ids())


def test_sizes_may_differ_between_images_and_size_makes_them_equal(tmp_path):
    make_folder(tmp_path, ["a", "b"])
    write_png(tmp_path / "images" / "b.png", picture(30, 20))
    write_png(tmp_path / "labels" / "b.png", label_ids(30, 20))
    assert LabelledFolder(tmp_path, CLASSES)[1].labels.shape == (30, 20)
    for sample in map(LabelledFolder(tmp_path, CLASSES, (12, 16)).__getitem__, (0, 1)):
        assert sample.image.shape == (12, 16, 3) and sample.labels.shape == (12, 16)
        assert set(np.unique(sample.labels)) <= {0, 1, 2}


def test_resizing_images_and_labels_keeps_them_aligned(tmp_path):
    """A picture painted by its labels still agrees with them after shrinking by three."""
    make_folder(tmp_path, ["a"])
    labels = np.kron(label_ids(9, 9), np.ones((3, 3), np.uint8))
    write_png(tmp_path / "labels" / "a.png", labels)
    write_png(tmp_path / "images" / "a.png", np.repeat(labels[..., None] * 100, 3, axis=2))
    sample = LabelledFolder(tmp_path, CLASSES, (9, 9))[0]
    np.testing.assert_array_equal(sample.labels, label_ids(9, 9))
    np.testing.assert_array_equal(sample.image[..., 0], sample.labels * 100)


@pytest.mark.parametrize("missing", ["", "images", "labels"])
def test_missing_folders_are_refused(missing, tmp_path):
    root = make_folder(tmp_path / "data")
    shutil.rmtree(root / missing)
    with pytest.raises(InputError) as error:
        LabelledFolder(root, CLASSES)
    refused(error, root, missing or "no folder")


@pytest.mark.parametrize(
    ("emptied", "complaint"), [("images", "images holds no images"), ("labels", "no label files")]
)
def test_empty_folders_are_refused(emptied, complaint, tmp_path):
    make_folder(tmp_path)
    shutil.rmtree(tmp_path / emptied)
    (tmp_path / emptied).mkdir()
    with pytest.raises(InputError) as error:
        LabelledFolder(tmp_path, CLASSES)
    refused(error, tmp_path, complaint)


@pytest.mark.parametrize(("lonely", "removed"), [("images", "labels"), ("labels", "images")])
def test_files_without_a_partner_are_named(lonely, removed, tmp_path):
    make_folder(tmp_path, [f"p{i}" for i in range(7)])
    for i in range(5):
        (tmp_path / removed / f"p{i}.png").unlink()
    with pytest.raises(InputError) as error:
        LabelledFolder(tmp_path, CLASSES)
    refused(error, "5 ", "p0.png, p1.png, p2.png, and 2 more", tmp_path / removed)


def test_two_images_of_one_name_are_refused(tmp_path):
    make_folder(tmp_path)
    write_jpeg(tmp_path / "images" / "a.jpg", picture())
    with pytest.raises(InputError, match="same name"):
        LabelledFolder(tmp_path, CLASSES)


def test_an_image_and_labels_of_different_sizes_are_named(tmp_path):
    make_folder(tmp_path)
    write_png(tmp_path / "labels" / "b.png", label_ids(24, 31))
    with pytest.raises(InputError) as error:
        LabelledFolder(tmp_path, CLASSES, (8, 8))[1]
    refused(error, tmp_path / "images" / "b.png", tmp_path / "labels" / "b.png", "32x24", "31x24")


# --- the check before training


def test_the_check_counts_pixels_per_image_and_class(tmp_path):
    make_folder(tmp_path, ["a", "b"])
    second = np.full((24, 32), 255, np.uint8)
    second[0, :5] = 2
    write_png(tmp_path / "labels" / "b.png", second)
    report = check_labels(LabelledFolder(tmp_path, CLASSES))
    assert report.class_pixels.dtype == np.int64
    np.testing.assert_array_equal(report.class_pixels, [np.bincount(label_ids().ravel()), [0, 0, 5]])


def test_the_check_says_which_files_hold_which_unknown_values(tmp_path):
    make_folder(tmp_path, [f"p{i}" for i in range(6)])
    for i in range(1, 6):
        labels = label_ids()
        labels[0, : i + 1] = 40 + i
        write_png(tmp_path / "labels" / f"p{i}.png", labels)
    data = LabelledFolder(tmp_path, CLASSES)
    with pytest.raises(InputError) as error:
        check_labels(data)
    refused(
        error,
        "5 of 6",
        "p1.png holds 41 (2 px)",
        "p3.png holds 43 (4 px)",
        "and 2 more",
        "class list",
        "label map",
    )
    assert "p4.png" not in error.value.message
    with pytest.raises(UnknownLabels) as unknown:
        data[2]
    assert unknown.value.counts == {42: 3}
    refused(unknown, tmp_path / "labels" / "p2.png")


def test_the_check_finds_unreadable_files(tmp_path):
    make_folder(tmp_path)
    for name in ("b", "c"):
        path = tmp_path / "labels" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError) as error:
        check_labels(LabelledFolder(tmp_path, CLASSES))
    refused(error, tmp_path / "labels" / "b.png", "truncated", "1 more")


def test_the_check_refuses_labels_that_are_all_ignored(tmp_path):
    make_folder(tmp_path, ["a"])
    write_png(tmp_path / "labels" / "a.png", np.full((24, 32), 255, np.uint8))
    with pytest.raises(InputError, match="belongs to a class"):
        check_labels(LabelledFolder(tmp_path, CLASSES))


# --- the target


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
