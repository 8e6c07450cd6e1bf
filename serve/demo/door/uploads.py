"""Uploads as they arrive: bounded in all that they hold, and nothing stays of those that broke off."""

import asyncio
import re
import time
from contextlib import suppress
from pathlib import Path

from serve.demo.door.asgi import GONE, Application, Message, Receive, Send, answer, values

_FILES = 8  # in one request; the page sends one
_STALLED = 60.0  # seconds without a byte after which an upload is given up
_SLACK = 2**20  # bytes of a request beside its files
_BOUNDARY = re.compile(r'boundary="?([^";,]+)', re.IGNORECASE)
_WRONG = "The upload can't be taken; send one file in a form field named `files`."


class UploadDoor:
    """Takes uploads to Gradio, which bounds each file only, and forgets what it did not take to the end.

    Args:
        folder: where Gradio keeps uploads, those that arrive right in it and complete ones in folders.
        most: bytes of one file.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._arriving = 0

    async def __call__(self, app: Application, scope: Message, receive: Receive, send: Send) -> None:
        form = _Form(scope, receive, send, self._most + _SLACK)
        self._arriving += 1
        try:
            await app(scope, form.receive, form.send)
        except Exception as error:
            if not form.ended:
                raise
            if isinstance(error, OSError) and form.refusal is None:
                form.refusal = 507, f"The server can't keep the upload: {error.strerror or error}."
        finally:
            self._arriving -= 1
            # Listed here, where no other upload can begin meanwhile: what is there now is nobody's any more.
            await asyncio.to_thread(_remove, self._left())
        if form.refusal is not None and not form.left:
            await answer(send, *form.refusal)

    def _left(self) -> list[Path]:
        """Files that no upload is going to complete."""
        limit = time.time() - _STALLED if self._arriving else float("inf")
        left = []
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(OSError):
                    if path.is_file() and path.stat().st_mtime < limit:
                        left.append(path)
        return left


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


class _Form:
    """The body of one upload on its way to Gradio, and the answer on its way back."""

    def __init__(self, scope: Message, receive: Receive, send: Send, most: int) -> None:
        self.refusal: tuple[int, str] | None = None
        """Status and sentence that take the place of Gradio's answer."""
        self.left = False
        """Whether the visitor broke it off."""
        self._receive = receive
        self._send = send
        self._room = most
        found = _BOUNDARY.search(" ".join(values(scope, b"content-type")))
        self._delimiter = b"--" + found[1].strip().encode("latin-1") if found else b""
        self._parts = 0
        self._tail = b""

    @property
    def ended(self) -> bool:
        """Whether Gradio may fail, since there is no more to come or to say."""
        return self.left or self.refusal is not None

    async def receive(self) -> Message:
        if self.ended:
            return GONE
        try:
            message = await asyncio.wait_for(self._receive(), _STALLED)
        except TimeoutError:
            self.refusal = 408, "The upload stopped on its way; send it again."
            return GONE
        self.left = message["type"] == "http.disconnect"
        self._count(message.get("body", b""))
        return GONE if self.ended else message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 500 and self.refusal is None:
            self.refusal = 400, _WRONG  # what it says of itself is for nobody
        if not self.ended:
            await self._send(message)

    def _count(self, body: bytes) -> None:
        self._room -= len(body)
        if self._delimiter:
            seen = self._tail + body  # a delimiter may come in two pieces
            self._parts += seen.count(self._delimiter)
            self._tail = seen[len(seen) - len(self._delimiter) + 1 :]
        if self._room < 0:
            self.refusal = 413, "The upload exceeded maximum allowed size; send smaller files, one by one."
        elif self._parts > _FILES + 1:
            self.refusal = 413, f"The upload has more than {_FILES} parts; send files one by one."
