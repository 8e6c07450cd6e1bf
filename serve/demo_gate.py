"""The door of the demo: Gradio is reached under a known name, by the page itself, for what the page needs."""

import ipaddress
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from serve.demo_files import Uploads
from serve.errors import InputError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::\d{1,5})?", re.IGNORECASE)
_NAME = re.compile(r"[0-9a-z._-]+|[0-9a-f:.]+", re.IGNORECASE)

# Gradio has more: a fetcher of addresses, editors, recordings through ffmpeg, other people's spaces. What the
# page does not use is not there, so that a fault in it is none of ours.
_PAGES = re.compile(
    r"/|/config|/login|/theme\.css|/manifest\.json|/favicon\.ico|/(?:assets|static)/.+"
    r"|/gradio_api/(?:info|openapi\.json|app_id|token|user|login_check|startup-events|theme\.css"
    r"|upload|upload_progress|run/[\w-]+|call/(?:v2/)?[\w-]+(?:/[\w-]+)?|queue/(?:join|data|status)|cancel|reset"
    r"|heartbeat/[\w-]+)/?",
    re.ASCII,
)
_FILE = "/gradio_api/file="
_INFO = "/gradio_api/info"
_OF_A_FILE = frozenset(
    b"content-type content-length content-range content-disposition content-encoding accept-ranges etag"
    b" last-modified cache-control vary".split()
)
"""Headers of an answer with a file and of no request for one: of a part, Gradio sends a request's back."""


class Authority(NamedTuple):
    """Host and port in a header, as RFC 3986 calls the two."""

    host: str
    port: int | None
    """None: that of the scheme."""


def host_name(given: str) -> str:
    """A name or address for `--allow-host`, as it is compared: lower case, without brackets.

    Raises:
        InputError: it is more than a name, such as a URL, or a pattern.
    """
    name = canonical(given)
    if not _NAME.fullmatch(name):
        raise InputError(
            f"--allow-host {given} is no host name; give a name or address alone, such as demo.example.org."
        )
    return name


def canonical(host: str) -> str:
    """Lower case, without the brackets and needless zeros of IPv6: as browsers write it."""
    name = host.lower().removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        return name


class Gate:
    """ASGI middleware that answers for Gradio what must not come to it.

    * A `Host` that is not one of `hosts` is refused: a page elsewhere whose name was made to point at this
      machine (DNS rebinding) would otherwise be of one origin with the demo. Headers by which a proxy tells
      under which name it was asked are dropped unless it is known, too: Gradio writes it into the page.
    * An `Origin` that is not the page's is refused, and so is what a browser says was caused by another page,
      except for a link to the page itself; no other page may frame it. Pages elsewhere may not upload,
      request or press buttons here in the name of their visitor.
    * Paths that the page does not need are not there; files are given out from the upload folder only, and
      as nothing that could act.

    Args:
        app: what is behind the door.
        host: what `--host` says; known beside the names of this machine.
        extra: names that visitors use beside these; the page may also be shown under them by a proxy that
            asks under another `Host`.
        uploads: the files that may be asked for.
    """

    def __init__(self, app: Application, host: str, extra: Iterable[str], uploads: Uploads) -> None:
        self._app = app
        self._extra = frozenset(extra)
        self._hosts = LOOPBACK | {canonical(host)} | self._extra
        self._uploads = uploads

    @classmethod
    def before(cls, **options: Any) -> Callable[[Any], AbstractAsyncContextManager[None]]:
        """A lifespan that puts a gate before all of an application, its other middleware included."""

        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[None]:
            app.middleware_stack = cls(app.middleware_stack, **options)  # the server takes no request before
            yield

        return lifespan

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # the page opens none
            await send({"type": "websocket.close"})
        elif refusal := self._refusal(scope):
            await _answer(send, *refusal)
        else:
            is_file = scope["path"].startswith(_FILE)
            unwanted = _OF_A_FILE if is_file else frozenset()
            kept = [h for h in scope["headers"] if h[0] not in unwanted and self._may_pass(*h)]
            scope = {**scope, "headers": kept}
            if scope["path"].rstrip("/") == _INFO:
                # Of the whole site, Gradio remembers the first answer, with the name by which that visitor
                # came; of a page (ours has one, without a name) it makes each anew.
                scope["query_string"] += b"&page="
            await self._app(scope, receive, _guarded(send, is_file))

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        asked = _authority(hosts[0]) if len(hosts) == 1 else None
        if asked is None:
            return 400, "The request must say with one Host header which page it is for."
        if asked.host not in self._hosts:
            return 403, (
                f"This page is not known as {asked.host}. Whoever runs it can add --allow-host {asked.host}."
            )
        if _sent_by_others(scope) or not all(self._is_own(origin, asked) for origin in origins):
            return 403, "This page takes requests from itself only, not from other web pages."
        return self._path_refusal(scope["path"])

    def _is_own(self, origin: str, asked: Authority) -> bool:
        """Whether a page of this origin is the one that is asked, or this one under another known name."""
        scheme, _, rest = origin.partition("://")
        named = _authority(rest)
        if scheme not in ("http", "https") or named is None:
            return False  # "null", the origin of sandboxed frames and local files, among others
        if asked.host in self._extra or named.host == asked.host:
            # Schemes may differ: behind a proxy that ends TLS, the origin says https and the request http.
            return named == asked
        return named.host in self._extra and named.port is None  # a proxy that asks under a name of its own

    def _path_refusal(self, path: str) -> tuple[int, str] | None:
        if path.startswith(_FILE):
            if self._uploads.holds(path.removeprefix(_FILE)):
                return None
            return 403, "That file is not one of this page's, or was cleaned up."
        return None if _PAGES.fullmatch(path) else (404, "This page has nothing of that name.")

    def _may_pass(self, name: bytes, value: bytes) -> bool:
        if name.lower() == b"x-forwarded-host":
            first = value.decode("latin-1").partition(",")[0]  # of several proxies, the one that was asked
            named = _authority(first.strip())
            return named is not None and named.host in self._hosts
        return name.lower() != b"x-gradio-server"


def _values(scope: Message, wanted: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for name, value in scope["headers"] if name.lower() == wanted]


def _authority(host: str) -> Authority | None:
    """What a Host header names; None if it is no name or address."""
    if not _HOST.fullmatch(host):
        return None
    try:
        parts = urlsplit(f"//{host}")
        return Authority(parts.hostname or "", parts.port)
    except ValueError:  # brackets without an address, a port that there is not
        return None


def _sent_by_others(scope: Message) -> bool:
    """Whether the browser says that another page caused this, and not by a link to the page itself."""
    site, mode, dest = (_values(scope, b"sec-fetch-" + kind) for kind in (b"site", b"mode", b"dest"))
    linked = (mode, dest) == (["navigate"], ["document"])
    return bool({"cross-site", "same-site"} & set(site)) and not (linked and scope["path"] == "/")


def _guarded(send: Send, is_file: bool) -> Send:
    """`send` with headers by which a browser lets no other page frame the answer, and no file act."""
    policy = b"sandbox; frame-ancestors 'self'" if is_file else b"frame-ancestors 'self'"

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Headers = [
                (name, value)
                for name, value in message["headers"]
                if not is_file or name.lower() in _OF_A_FILE
            ]
            headers += [(b"x-content-type-options", b"nosniff"), (b"content-security-policy", policy)]
            message = {**message, "headers": headers}
        await send(message)

    return guarded


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = f"{sentence}\n".encode()
    headers: Headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
