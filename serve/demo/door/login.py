"""Names and passwords of visitors: wrong ones slow down who gives them, and nobody else."""

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

_FREE = 3  # wrong passwords without a wait
_LONGEST = 60.0  # seconds to wait at most
_REMEMBERED = 4096  # places that failed, of which the oldest are forgotten first
_FORGOTTEN = 3600.0  # seconds after which a failure counts no more
_IPV6_SITE = 64  # bits of an address; whoever has one such network has all of it


@dataclass
class Attempt:
    """One request to be let in."""

    address: str
    wait: float = 0.0
    """Seconds to wait before the next one, if this one came too early to be looked at."""


ATTEMPT: ContextVar[Attempt] = ContextVar("attempt")
"""The attempt that the present request is."""


def too_early(attempt: Attempt) -> tuple[str, tuple[bytes, bytes]]:
    """What an attempt that came too early is told, and the header that says when to come again."""
    seconds = f"{attempt.wait:.0f}" if attempt.wait > 1 else "1"
    said = f"Too many wrong passwords; try again in {seconds} s."
    return said, (b"retry-after", seconds.encode())


@dataclass
class _Failures:
    count: int = 0
    again: float = 0.0
    """When the next attempt is looked at, by the clock `time.monotonic`."""


class Accounts:
    """Whom the page lets in; called by Gradio with a name and a password.

    After the third wrong password for one name from one address, that address waits a second before its next
    attempt for that name is looked at, and twice as long after each further one, up to a minute. Others, and
    other names from there, do not wait, so nobody can lock anybody out from elsewhere.
    """

    def __init__(self, accounts: Mapping[str, str]) -> None:
        self._accounts = accounts
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def __call__(self, name: str, password: str) -> bool:
        attempt = ATTEMPT.get()
        place = _site(attempt.address), name if name in self._accounts else ""
        now = time.monotonic()
        failures = self._failures.get(place, _Failures())
        if failures.again > now:
            attempt.wait = failures.again - now
            return False
        expected = self._accounts.get(name, "")
        # Compared for names that there are not, too, so that the time does not tell which there are.
        right = hmac.compare_digest(password.encode(errors="replace"), expected.encode())
        if right and name in self._accounts:
            self._failures.pop(place, None)
            return True
        if now - failures.again > _FORGOTTEN:
            failures = _Failures()
        count = failures.count + 1
        wait = min(2.0 ** min(count - _FREE, 30), _LONGEST) if count >= _FREE else 0.0
        self._failures[place] = _Failures(count, now + wait)
        self._failures.move_to_end(place)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
        return False


def _site(address: str) -> str:
    """Addresses that one person has at will are one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found), _IPV6_SITE), strict=False))
    return str(found)
