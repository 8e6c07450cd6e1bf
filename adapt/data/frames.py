"""Video files to image files: frames sampled evenly, decoded once, kept in a cache folder."""

import hashlib
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from adapt.data.images import resize_image, write_png
from adapt.errors import InputError
from serve.media.progress import Bar
from serve.media.video.damage import Damage
from serve.media.video.pixels import RULE
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection
from serve.media.whole import creating

_JUMP_BEYOND = 10  # seconds; for shorter gaps decoding on is faster than jumping to a key frame
_MARGIN = 2  # frames before a moment, and at least so many seconds, where one may be that is still shown then


def extract_frames(video: Path, cache: Path, frames: int, size: tuple[int, int] | None) -> list[Path]:
    """PNG files of up to `frames` frames, spread evenly over the video.

    size: (height, width) to resize to, or None.
    They lie in a folder of their own under cache. It appears there only when it is complete, and its name
    depends on the video's path, size and time of change, on the settings and on how pixels are read: so a
    complete one is used again, anything else redone. Processes that sample the same video at once all get the
    frames of the first to end. What of the video is damaged is said on standard error.
    Raises InputError if the video is missing, not a video, has no frame or does not say how long it is.
    """
    _require(video)
    facts = video.stat()
    settings = (RULE, str(video.resolve()), facts.st_size, facts.st_mtime_ns, frames, size)
    name = f"{video.stem}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"
    folder = cache / name
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with creating(folder, shared=True) as unfinished:
            progress = Bar(sample_frames(video, frames), f"frames of {video.name}", frames, unit="frame")
            for number, image in enumerate(progress):
                image = image if size is None else resize_image(image, size)
                write_png(unfinished / f"{name}_{number:05d}.png", image)
    return sorted(folder.glob("*.png"))


def check_video(video: Path) -> None:
    """Open a video and decode its first frame; the rest is judged when its frames are sampled.

    Raises InputError as extract_frames does.
    """
    _require(video)
    with VideoReader(video) as reader:
        _seconds(reader)


def sample_frames(video: Path, frames: int) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3] RGB at the middle of each of `frames` equal spans of time, as `serve video` reads it.

    Fewer if the video has fewer frames, as each is taken at most once, or is damaged, which is said then.
    Raises InputError as extract_frames does.
    """
    with VideoReader(video) as reader:
        seconds, jumps, step = _seconds(reader), reader.jumps, 1 / reader.rate
    moments = [(number + Fraction(1, 2)) / frames * seconds for number in range(frames)]
    selections = [Selection(moments=tuple(moments))]
    if jumps and seconds > _JUMP_BEYOND * frames:
        margin = max(_MARGIN * step, Fraction(_MARGIN))
        selections = [Selection(max(m - margin, Fraction(0)), m + margin, moments=(m,)) for m in moments]
    damage, empty = Damage(), 0
    remarks: dict[str, None] = {}
    for selection in selections:
        try:
            reader = VideoReader(video, selection)
        except InputError:
            if len(selections) == 1:
                raise
            empty += 1
            continue
        with reader:
            yield from (item.pixels for item in reader.items() if isinstance(item, Frame))
            damage += reader.damage
            remarks |= dict.fromkeys(reader.remarks)
    if empty == len(selections):
        raise InputError(f"{video} has no frame that can be decoded at any of {empty} places.")
    said = [str(damage)] * bool(damage) + [*remarks]
    said += [f"no frame at {empty} of {len(selections)} places"] * bool(empty)
    if said:
        Bar.write(f"{video}: {'; '.join(said)}", file=sys.stderr)


def _require(video: Path) -> None:
    if not video.is_file():
        raise InputError(f"There is no video file {video}.")


def _seconds(reader: VideoReader) -> Fraction:
    """How long a video is, as its file says."""
    if not reader.frames:
        raise InputError(
            f"{reader.path} does not say how long it is; "
            "rewrap it (ffmpeg -i IN -c copy OUT.mp4) and give that."
        )
    return reader.frames / reader.rate
