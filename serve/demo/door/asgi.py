"""What the parts of the demo's door share: ASGI's words, whole bodies, answers of one sentence."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serve.errors import InputError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

GONE: Message = {"type": "http.disconnect"}


def values(scope: Message, wanted: bytes) -> list[str]:
    """What the headers of that name (in lower case) say."""
    return [value.decode("latin-1").strip() for name, value in scope["headers"] if name.lower() == wanted]


async def body_of(receive: Receive, longest: int) -> bytes | None:
    """The whole body of a request, None if the visitor left before its end.

    Raises:
        InputError: it is longer than `longest` bytes.
    """
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > longest:
            raise InputError(f"The request has more than {longest} bytes; files are uploaded beforehand.")
        if not message.get("more_body", False):
            return body


def again(body: bytes, receive: Receive) -> Receive:
    """`receive` as if `body` had just come."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def replayed() -> Message:
        nonlocal message
        if message is None:
            return await receive()
        come, message = message, None
        return come

    return replayed


async def answer(
    send: Send,
    status: int,
    sentence: str,
    *more: tuple[bytes, bytes],
    kind: str = "text/plain; charset=utf-8",
) -> None:
    """An answer of one sentence, or of another text."""
    body = f"{sentence}\n".encode(errors="replace")
    headers: Headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
