"""The door of the demo: Gradio is reached under a known name, by the page itself, for what the page needs."""

import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from serve.demo.door.asgi import Application, Headers, Message, Receive, Send, again, answer, body_of, values
from serve.demo.door.login import ATTEMPT, Attempt, too_early
from serve.demo.door.probes import Probes
from serve.demo.door.requests import Requests
from serve.demo.door.uploads import UploadDoor
from serve.demo.request.files import Uploads
from serve.demo.request.work import Visitors
from serve.errors import InputError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::\d{1,5})?", re.IGNORECASE)
_NAME = re.compile(r"[0-9a-z._-]+|[0-9a-f:.]+", re.IGNORECASE)

# Gradio has more: a fetcher of addresses, editors, recordings through ffmpeg, other people's spaces. What the
# page does not use is not there, so that a fault in it is none of ours.
_PAGES = re.compile(
    r"/|/config|/login|/theme\.css|/manifest\.json|/favicon\.ico|/(?:assets|static)/.{1,200}"
    r"|/gradio_api/(?:info|openapi\.json|app_id|token|user|login_check|startup-events|theme\.css"
    r"|upload|upload_progress|run/[\w-]+|call/(?:v2/)?[\w-]+(?:/[\w-]+)?|queue/(?:join|data|status)|cancel|reset"
    r")/?",
    re.ASCII,
)
_STREAM = re.compile(r"/gradio_api/(?:call/(?:v2/)?[\w-]+/([\w-]+)|(queue/data))/?", re.ASCII)
_WITH_QUERY = re.compile(r"/gradio_api/(?:upload|upload_progress|queue/data)/?", re.ASCII)
"""Paths whose query says what is asked for; of others, Gradio's answer would only depend on it."""
_UPLOAD = "/gradio_api/upload"
_LOGIN = "/login"
_LONGEST_LOGIN = 2**14  # bytes
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
    * Requests to handlers have the right form, and uploads are bounded as a whole.
    * Of each answer that is waited for, `visitors` learn how long somebody does.

    Args:
        app: what is behind the door.
        host: what `--host` says; known beside the names of this machine.
        extra: names that visitors use beside these; the page may also be shown under them by a proxy that
            asks under another `Host`.
        uploads: the files that may be asked for.
        upload_door: takes in what is uploaded.
        requests: judges what handlers are asked.
        visitors: who listens for answers.
        probes: answers to programs that watch over the page.
    """

    def __init__(
        self,
        app: Application,
        host: str,
        extra: Iterable[str],
        uploads: Uploads,
        upload_door: UploadDoor,
        requests: Requests,
        visitors: Visitors,
        probes: Probes,
    ) -> None:
        self._app = app
        self._probes = probes
        self._upload_door = upload_door
        self._requests = requests
        self._visitors = visitors
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
            await answer(send, *refusal)
        elif self._probes.has(scope["path"]):
            await self._probes(scope, send)
        else:
            is_file = scope["path"].startswith(_FILE)
            unwanted = _OF_A_FILE if is_file else frozenset()
            kept = [h for h in scope["headers"] if h[0] not in unwanted and self._may_pass(*h)]
            scope = {**scope, "headers": kept}
            if not _WITH_QUERY.fullmatch(scope["path"]):
                # Of the whole site, Gradio remembers the first description of the API, with the name by which
                # that visitor came; of a page (ours has one, without a name) it makes each anew.
                scope["query_string"] = b"page=" if scope["path"].rstrip("/") == _INFO else b""
            try:
                await self._enter(scope, receive, _guarded(send, is_file))
            except InputError as error:
                await answer(send, 400, error.message)

    async def _enter(self, scope: Message, receive: Receive, send: Send) -> None:
        """What is let in, by the way that it takes."""
        path = scope["path"].rstrip("/")
        if scope["method"] == "GET" and (stream := _STREAM.fullmatch(path)):
            sessions = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
            with self._visitors.listening(stream[1] or sessions[-1]):
                await self._stream(scope, receive, send)
        elif scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif path == _UPLOAD:
            await self._upload_door(self._app, scope, receive, send)
        elif path == _LOGIN:
            await self._log_in(scope, receive, send)
        else:
            await self._app(scope, await self._requests.checked(path, receive), send)

    async def _stream(self, scope: Message, receive: Receive, send: Send) -> None:
        """A stream of answers; for a number that there is not, Gradio says so in it and then fails."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if getattr(error.__cause__, "status_code", None) != 404:
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _log_in(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await body_of(receive, _LONGEST_LOGIN)
        if body is None:
            return
        client = scope.get("client") or ("", 0)
        attempt = Attempt(client[0])
        token = ATTEMPT.set(attempt)

        async def unless_too_early(message: Message) -> None:
            if not attempt.wait:
                await send(message)

        try:
            await self._app(scope, again(body, receive), unless_too_early)
        finally:
            ATTEMPT.reset(token)
        if attempt.wait:
            await answer(send, 429, *too_early(attempt))

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        hosts, origins = values(scope, b"host"), values(scope, b"origin")
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
        if self._probes.has(path) or (_PAGES.fullmatch(path) and self._requests.has(path)):
            return None
        return 404, "This page has nothing of that name."

    def _may_pass(self, name: bytes, value: bytes) -> bool:
        if name.lower() == b"x-forwarded-host":
            first = value.decode("latin-1").partition(",")[0]  # of several proxies, the one that was asked
            named = _authority(first.strip())
            return named is not None and named.host in self._hosts
        return name.lower() != b"x-gradio-server"


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
    site, mode, dest = (values(scope, b"sec-fetch-" + kind) for kind in (b"site", b"mode", b"dest"))
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
