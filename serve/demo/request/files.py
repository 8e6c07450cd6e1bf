"""Files of the page, all in one folder: what visitors sent and may name again, and what they download."""

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from serve.errors import InputError
from serve.media.images import encode
from serve.media.whole import replacing

_LONGEST_NAME = 120  # bytes; what the page adds to it must fit into a file system's 255


class Upload(NamedTuple):
    """A file in the server's upload folder."""

    path: Path
    name: str
    """The visitor's name for it."""

    @property
    def stem(self) -> str:
        return Path(self.name).stem


class Uploads:
    """The files that a request may name: those below `folder`, Gradio's cache.

    Uploads arrive there, and Gradio copies the examples there when the page is built. A request names a file
    by its path on this machine and can name any, so every path is looked up here before it is opened.

    Args:
        folder: absolute, and no link is on the way to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def holds(self, path: str) -> bool:
        """Whether this is a file of the page, named by its plain path.

        The text is judged before the disk is asked. What stands elsewhere and leads into the folder (an open
        file of the process, links and `..`, an address whose path does) would tell of the places on the way,
        and others, who read the same text, may take it for something else.
        """
        if os.path.normpath(path) != path or not Path(path).is_relative_to(self._folder):
            return False
        try:
            real = Path(path).resolve()
            return real.is_relative_to(self._folder) and real.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a NUL, a circle of links
            return False

    def find(self, payload: object) -> Upload:
        """The file that a request names in Gradio's way, {"path": …, "orig_name": …}.

        Raises:
            InputError: it is none of the page's files. The sentence is the same whether or not there is such
                a file elsewhere on this machine. Or it is named in a way that is not Gradio's.
        """
        named = payload if isinstance(payload, dict) else {}
        path, given, meta = named.get("path"), named.get("orig_name"), named.get("meta")
        if not isinstance(path, str) or not self.holds(path):
            raise InputError(
                "The request names a file that this page does not have (any more); upload it first."
            )
        if not isinstance(given, str | None) or not isinstance(meta, dict | None):
            raise InputError(
                'The request describes its file wrongly; "orig_name" is a text and "meta" a mapping, as in '
                '{"path": "...", "orig_name": "street.png", "meta": {"_type": "gradio.FileData"}}.'
            )
        return Upload(Path(path), _plain(given or path))

    def check(self, value: object) -> None:
        """Raise InputError if a value of a request names, at any depth, a file that is not the page's."""
        values = [value]
        while values:
            value = values.pop()
            if isinstance(value, dict):
                if value.get("path") is not None:
                    self.find(value)
                values += value.values()
            elif isinstance(value, list | tuple):
                values += value


def _plain(name: str) -> str:
    """The last part of a visitor's file name, without what a terminal or a file system would stumble over."""
    path = Path("".join(character for character in name if character.isprintable()))
    stem, suffix = (
        part.encode(errors="ignore")[:_LONGEST_NAME].decode(errors="ignore")
        for part in (path.stem, path.suffix)
    )
    return (stem + suffix).lstrip(".") or "file"  # hidden files are not given out


class Results:
    """A folder inside Gradio's cache; what lies there is deleted with the uploads (`delete_cache`).

    Equal content gets an equal path, so a picture that did not change is not sent to the browser again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep_image(self, image: NDArray[Any], name: str) -> str:
        """Encode uint8 RGB [H, W, 3] or labels [H, W] in the format that the suffix of `name` says."""
        data = encode(image, Path(name).suffix)
        path = self.folder / hashlib.sha256(data).hexdigest()[:32] / name
        if path.exists():
            os.utime(path)  # its age, by which it is deleted, starts anew
        else:
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        return str(path)

    def new_file(self, name: str) -> Path:
        """A path to write to that nobody else has."""
        return self.folder / os.urandom(16).hex() / name
