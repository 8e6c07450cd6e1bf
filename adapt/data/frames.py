"""Video files to image files: frames sampled evenly, decoded once, kept in a cache folder."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from adapt.data.images import resize_image, write_png
from adapt.errors import InputError
from adapt.temporary import caching

_SEEK_BEYOND = 10.0  # seconds; for shorter gaps decoding on is faster than jumping back to a key frame
_MISSING_SHARE = (
    0.1  # a longer missing end means the file was cut off (a shorter one may be a longer audio track)
)


def extract_frames(video: Path, cache: Path, frames: int, size: tuple[int, int] | None) -> list[Path]:
    """PNG files of up to `frames` frames, spread evenly over the video.

    size: (height, width) to resize to, or None.
    They lie in a folder of their own under cache. It appears there only when it is complete, and its name
    depends on the video's path, size and time of change and on the settings: so a complete one is used again,
    anything else redone. Processes that sample the same video at once all get the frames of the first to end.
    Raises InputError if the video is missing, truncated, not a video, or has no frame.
    """
    if not video.is_file():
        raise InputError(f"There is no video file {video}.")
    facts = video.stat()
    settings = (str(video.resolve()), facts.st_size, facts.st_mtime_ns, frames, size)
    name = f"{video.stem}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"
    folder = cache / name
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with caching(folder) as unfinished:
            progress = tqdm(sample_frames(video, frames), f"frames of {video.name}", frames, unit="frame")
            for number, image in enumerate(progress):
                image = image if size is None else resize_image(image, size)
                write_png(unfinished / f"{name}_{number:05d}.png", image)
    return sorted(folder.glob("*.png"))


def check_video(video: Path, frames: int) -> None:
    """Open a video and decode the first of `frames` frames of it; the rest is judged when they are sampled.

    Raises InputError as extract_frames does.
    """
    if not video.is_file():
        raise InputError(f"There is no video file {video}.")
    next(sample_frames(video, frames), None)


def sample_frames(video: Path, frames: int) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3] RGB at the middle of each of `frames` equal spans of time.

    Fewer if the video has fewer frames: each is taken at most once. Turned upright where the file says so
    (phones).
    Raises InputError as extract_frames does, at the latest at the end of the video.
    """
    try:
        with av.open(str(video)) as container:
            yield from _sample(container, video, frames)
    except av.error.FFmpegError as error:
        raise InputError(f"{video} is truncated or not a video ({error.strerror}); replace it.") from error


def _sample(container: "av.container.InputContainer", video: Path, frames: int) -> Iterator[np.ndarray]:
    if not container.streams.video:
        raise InputError(f"{video} has no video stream; give a video file with pictures.")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    duration = _duration(container, stream, video)
    start = float((stream.start_time or 0) * stream.time_base)
    decoder = container.decode(stream)
    end = 0.0  # of the last frame seen, in seconds after the start
    for number in range(frames):
        wanted = (number + 0.5) / frames * duration
        if wanted < end:  # fewer frames than asked for: this one has been taken
            continue
        if wanted - end > _SEEK_BEYOND:
            container.seek(int((start + wanted) / stream.time_base), stream=stream)
            decoder = container.decode(stream)
        for frame in decoder:
            end = frame.time - start + float((frame.duration or 0) * frame.time_base)
            if wanted < end:
                yield _upright(frame)
                break
    for frame in decoder:
        end = frame.time - start + float((frame.duration or 0) * frame.time_base)
    if end == 0:
        raise InputError(f"{video} holds no frame that can be decoded; replace it.")
    if duration - end > _MISSING_SHARE * duration:
        raise InputError(
            f"{video} is truncated: it should last {duration:.1f} s but ends after {end:.1f} s; replace it."
        )


def _upright(frame: "av.VideoFrame") -> np.ndarray:
    quarters = round(frame.rotation / 90)  # counter-clockwise
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))


def _duration(container: "av.container.InputContainer", stream: "av.video.VideoStream", video: Path) -> float:
    """Seconds, as the file declares them."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return float(container.duration / av.time_base)
    raise InputError(
        f"{video} does not say how long it is, or holds no frame; "
        "rewrap it (ffmpeg -i IN -c copy OUT.mp4) and give that."
    )
