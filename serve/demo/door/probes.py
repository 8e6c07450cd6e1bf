"""/health and /metrics: what programs ask that watch over the page."""

import asyncio
import base64
import binascii
import ipaddress
from collections.abc import Callable

from serve.demo.door.asgi import Message, Send, answer, values
from serve.demo.door.login import ATTEMPT, Accounts, Attempt, too_early
from serve.prometheus import KIND

HEALTH, METRICS = "/health", "/metrics"
_LONGEST = 2**10  # characters of an Authorization header
_FRESH = (b"cache-control", b"no-store")
_ASK = (b"www-authenticate", b'Basic realm="blda demo", charset="UTF-8"')


class Probes:
    """Answers them.

    * /health says that the page answers, to everybody: who probes has no password, and learns nothing else.
    * /metrics tells of what all visitors ask, and of what a picture shows by counts before and after it. With
      accounts it takes one of them (HTTP Basic), and wrong passwords slow down as at the page; without, it
      answers to this machine alone.

    Args:
        metrics: Prometheus' text.
        accounts: whom the page lets in; None lets everybody.
    """

    def __init__(self, metrics: Callable[[], str], accounts: Accounts | None) -> None:
        self._metrics = metrics
        self._accounts = accounts

    def has(self, path: str) -> bool:
        """Whether a path is one of the two."""
        return path in (HEALTH, METRICS)

    async def __call__(self, scope: Message, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await answer(send, 405, "This can be read only.", (b"allow", b"GET, HEAD"))
        elif scope["path"] == HEALTH:
            await answer(send, 200, "ok", _FRESH)
        elif refusal := self._refusal(scope):
            await answer(send, *refusal)
        else:  # counting a frame, and packing the counts of one, hold up whoever asks for them
            said = await asyncio.to_thread(self._metrics)
            await answer(send, 200, said.rstrip("\n"), _FRESH, kind=KIND)

    def _refusal(self, scope: Message) -> tuple[int, str, tuple[bytes, bytes]] | None:
        """Status, sentence and a header for who may not read the metrics."""
        address = (scope.get("client") or ("", 0))[0]
        if self._accounts is None:
            return (
                None
                if _is_this_machine(address)
                else (
                    403,
                    "Metrics are for this machine only; to read them from elsewhere, start the demo with "
                    "--auth and ask with a name and a password.",
                    _FRESH,
                )
            )
        given = _name_and_password(values(scope, b"authorization"))
        attempt = Attempt(address)
        token = ATTEMPT.set(attempt)
        try:
            if given is not None and self._accounts(*given):
                return None
        finally:
            ATTEMPT.reset(token)
        if attempt.wait:
            return (429, *too_early(attempt))
        return 401, "Metrics need a name and a password of this page.", _ASK


def _is_this_machine(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _name_and_password(headers: list[str]) -> tuple[str, str] | None:
    """Of HTTP Basic (RFC 7617); None if they are not given so."""
    scheme, _, rest = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
    if scheme.lower() != "basic" or len(rest) > _LONGEST:
        return None
    try:
        name, colon, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon else None
