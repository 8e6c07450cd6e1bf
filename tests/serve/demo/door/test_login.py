"""Wrong passwords slow down who gives them, and nobody else."""

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlencode

import gradio_client
import pytest
from demo_server import Demo, demo, log
from serve_graphs import write_graph

from serve.demo.door import login as demo_login
from serve.demo.door.login import ATTEMPT, Accounts, Attempt

ACCOUNTS = {"ada": "let me in", "bob": "x"}


class Clock:
    """Time that passes when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1e6
        monkeypatch.setattr(demo_login.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def _try(accounts: Accounts, password: str, name: str = "ada", address: str = "192.0.2.1") -> str | float:
    """What comes of it; or how long to wait before such an attempt is looked at."""
    attempt = Attempt(address)
    token = ATTEMPT.set(attempt)
    try:
        return "let in" if accounts(name, password) else attempt.wait or "wrong"
    finally:
        ATTEMPT.reset(token)


def test_right_ones_are_let_in(clock):
    accounts = Accounts(ACCOUNTS)
    for name, password in ACCOUNTS.items():
        assert _try(accounts, password, name) == "let in"
    for name, password in (("ada", ""), ("nobody", ""), ("bob", "\ud800é")):
        assert _try(accounts, password, name) == "wrong"


def test_the_wait_doubles_up_to_a_minute(clock):
    accounts = Accounts(ACCOUNTS)
    assert [_try(accounts, "wrong") for _ in range(3)] == ["wrong"] * 3
    waits = []
    for _ in range(100):
        wait = _try(accounts, "let me in")  # not even the right one is looked at
        assert isinstance(wait, float)
        waits.append(wait)
        clock.now += wait
        assert _try(accounts, "wrong") == "wrong"
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60] and max(waits) == 60
    clock.now += 60
    assert _try(accounts, "let me in") == "let in"
    assert [_try(accounts, "wrong") for _ in range(3)] == ["wrong"] * 3  # all is forgiven


def test_failures_of_an_hour_ago_are_forgotten(clock):
    accounts = Accounts(ACCOUNTS)
    for _ in range(3):
        _try(accounts, "wrong")
    clock.now += 3700
    assert [_try(accounts, "wrong") for _ in range(3)] == ["wrong"] * 3


def test_nobody_locks_anybody_out(clock):
    accounts = Accounts(ACCOUNTS)
    for _ in range(10):
        _try(accounts, "wrong")
        _try(accounts, "wrong", address="2001:db8:1:2::1")
    assert _try(accounts, "let me in", address="192.0.2.2") == "let in"
    assert _try(accounts, "x", "bob") == "let in"
    assert _try(accounts, "let me in", address="2001:db8:1:3::1") == "let in"
    # Whoever has an address of IPv6 has 2^64 of them.
    assert _try(accounts, "let me in", address="2001:db8:1:2:3:4:5:6") == 1


def test_names_that_there_are_not_are_one(clock):
    accounts = Accounts(ACCOUNTS)
    for number in range(3):
        _try(accounts, "wrong", f"nobody {number}")
    assert _try(accounts, "wrong", "another") == 1
    assert _try(accounts, "let me in") == "let in"


def test_memory_is_bounded(clock):
    accounts = Accounts(ACCOUNTS)
    for number in range(6000):
        _try(accounts, "wrong", address=f"10.0.{number // 256}.{number % 256}")
    assert len(accounts._failures) == 4096
    first, last = "10.0.0.0", "10.0.23.111"
    for address, expected in ((first, "let in"), (last, 1.0)):
        for _ in range(2):
            _try(accounts, "wrong", address=address)
        assert _try(accounts, "let me in", address=address) == expected


def _log_in(server: Demo, address: str = "192.0.2.1", **form: str) -> tuple[int, str, str | None]:
    """From an address that a proxy on this machine says."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    kind = {"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-For": address}
    connection.request("POST", "/login", urlencode(form), kind)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.getheader("retry-after")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("login")
    (folder / "accounts").write_text("ada:let me in\n\nbob:x\n")
    graph = write_graph(folder / "m.onnx")
    with demo(folder / "server", graph, "--auth", folder / "accounts") as running:
        yield running


def test_visitors_with_a_password_only(server):
    with pytest.raises(Exception, match=r"(?i)auth|login|401|credentials"):
        gradio_client.Client(server.url, verbose=False)
    with pytest.raises(Exception, match=r"(?i)incorrect|auth|login|400|credentials"):
        gradio_client.Client(server.url, auth=("ada", "wrong"), verbose=False)
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("POST", "/gradio_api/upload", body=b"")
    assert connection.getresponse().status == 401
    assert gradio_client.Client(server.url, auth=("ada", "let me in"), verbose=False)


def test_the_page_says_to_wait(server):
    status, text, _ = _log_in(server, username="ada", password="wrong")
    assert (status, json.loads(text)) == (400, {"detail": "Incorrect credentials."})
    while status != 429:
        status, text, _ = _log_in(server, username="ada", password="wrong")
    status, text, wait = _log_in(server, username="ada", password="let me in")
    assert status == 429 and text == f"Too many wrong passwords; try again in {wait} s.\n"
    assert _log_in(server, username="bob", password="x")[0] == 200
    assert _log_in(server, "192.0.2.2", username="ada", password="let me in")[0] == 200
    assert _log_in(server, username="a" * 20_000, password="x")[0] == 400
    assert _log_in(server)[0] < 500
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/gradio_api/heartbeat/x")  # it needed no password
    assert connection.getresponse().status == 404
    assert "Traceback" not in log(server)
