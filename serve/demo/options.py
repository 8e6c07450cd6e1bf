"""What the demo is started with: limits, address, accounts, examples. Nothing heavy is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.errors import InputError
from serve.media.files import in_folder, say_left_out

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".mov", ".webm", ".mkv"})


@dataclass(frozen=True)
class Limits:
    """Bounds on what one visitor can ask for."""

    upload_mb: int = 200
    """Megabytes of one uploaded file; more is refused while it arrives."""
    megapixels: float = 50.0
    """Of one picture or frame, read from its header before anything is decoded."""
    side: int = 2048
    """Pictures with a longer side are scaled down to it: the page shows no more anyway."""
    video_side: int = 1920
    """The same for videos: full HD, the most that all browsers' decoders play smoothly."""
    memory_mb: int = 2048
    """Megabytes (10^6 bytes) of memory to decode one picture or video, by what its header says."""
    seconds: float = 120.0
    """Of one video."""
    frame_rate: int = 60
    """Frames of a video for each second that it may last; with more, time would be no limit of the work."""
    queue: int = 64
    """Requests waiting at once; more are refused with a message."""

    @property
    def frames(self) -> int:
        """Of one video."""
        return int(self.seconds * self.frame_rate)


@dataclass(frozen=True)
class Server:
    """Where and for whom the page is."""

    host: str = "127.0.0.1"
    port: int = 7860
    names: tuple[str, ...] = ()
    """Names and addresses that visitors use beside `host` and those of this machine itself."""
    accounts: tuple[tuple[str, str], ...] = ()
    """Pairs of name and password; empty lets everybody in who reaches the port."""


def read_accounts(path: Path) -> tuple[tuple[str, str], ...]:
    """(name, password) of each line NAME:PASSWORD.

    Raises:
        InputError: no such file, no line, or a line without name, colon or password.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--auth {path} can't be read as text ({error}); give a text file.") from error
    accounts = []
    for line in lines:
        name, _, password = line.partition(":")
        if not name or not password:
            raise InputError(f"--auth {path} has a line that is not NAME:PASSWORD; correct it.")
        accounts.append((name, password))
    if not accounts:
        raise InputError(f"--auth {path} is empty; give it a line NAME:PASSWORD per visitor.")
    return tuple(accounts)


def find_examples(given: Sequence[str]) -> list[Path]:
    """Pictures and videos to offer: files as given, folders searched by suffix, in order of name.

    What else a folder holds is counted and named on standard error.

    Raises:
        InputError: a path that does not exist, or holds neither.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            offered, more = in_folder(path, PICTURES | VIDEOS)
            others += more
        else:
            offered = [path] if path.is_file() and path.suffix.lower() in PICTURES | VIDEOS else []
        if not offered:
            raise InputError(f"--examples {path} holds no picture or video that browsers show; give another.")
        found += offered
    say_left_out(others)
    return found
