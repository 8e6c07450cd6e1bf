"""What is forgotten of uploads that broke off, while others arrive."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve.demo.door.uploads import UploadDoor


class Folder:
    """Uploads' folder, in which another upload begins at the moment in which it is listed, if one can."""

    def __init__(self, path: Path) -> None:
        self.path, self.begun = path, False

    def iterdir(self) -> Iterator[Path]:
        if threading.current_thread() is not threading.main_thread():  # the loop goes on, and may begin one
            (self.path / "arriving").write_bytes(b"x")
            self.begun = True
        return self.path.iterdir()


def test_an_upload_that_begins_while_another_is_forgotten_stays(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        (tmp_path / "broken").write_bytes(b"x")

    async def nothing(*_: Any) -> dict[str, Any]:
        return {"type": "http.disconnect"}

    door = UploadDoor(folder, 100)  # type: ignore[arg-type]
    asyncio.run(door(broken, {"type": "http", "headers": []}, nothing, nothing))
    assert not (tmp_path / "broken").exists()
    assert (tmp_path / "arriving").exists() == folder.begun
