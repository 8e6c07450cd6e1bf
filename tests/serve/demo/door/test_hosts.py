"""Other web pages, and names that are not the own: what they must not get of a demo."""

import http.client
import json
import socket
from pathlib import Path

import pytest
from attacked import ALSO, KNOWN_AS, answer_to, ask
from click.testing import CliRunner
from demo_server import demo
from serve_graphs import write_graph

from serve.cli.commands import main
from serve.demo.door.gate import host_name
from serve.errors import InputError

FOREIGN = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "localhost.evil.example:{port}",
    "evil.example#localhost",
    "evil.example/localhost",
    "localhost@evil.example",
    "evil.example:80@localhost",
    "localhost:80:80",
    "localhost.",
    "127.0.0.2",
    "2130706433",
    "0x7f.1",
    "[::2]",
    "[::1",
    "127.0.0.1, evil.example",
    "[.]",
    "[:::::]",
    "localhost:99999",
    f"other.{KNOWN_AS}",
    f"{KNOWN_AS}.evil.example",
    "*",
    "",
]

OWN = [
    "127.0.0.1:{port}",
    "127.0.0.1",
    "localhost:{port}",
    "LOCALHOST",
    "[::1]:{port}",
    KNOWN_AS,
    KNOWN_AS + ":443",
]

ASKED = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/assets/index.js"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/gradio_api/info"),
    ("POST", "/gradio_api/call/segment_image"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused(site, host):
    for method, path in ASKED:
        body = b'{"data": []}' if method == "POST" else None
        status, text = ask(site, method, path, body, Host=host.format(port=site.port))
        assert status in (400, 403), (path, text)
        assert not any(word in text for word in ("components", "event_id", "blda_", "ok\n"))


def test_the_refusal_says_what_to_do(site):
    status, text = ask(site, "GET", "/", Host="street.local:7860")
    assert status == 403
    assert (
        text == "This page is not known as street.local. Whoever runs it can add --allow-host street.local.\n"
    )


@pytest.mark.parametrize(
    "lines", [[], ["Host: localhost", "Host: evil.example"], ["Host: evil.example", "Host: localhost"]]
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_exactly_one_host_is_named(site, lines, version):
    head = [f"GET /config HTTP/{version}", *lines, "Connection: close", "", ""]
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall("\r\n".join(head).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] == b"400" and b"components" not in answer


@pytest.mark.parametrize("host", OWN)
def test_known_names_are_answered(site, host):
    status, text = ask(site, "GET", "/config", Host=host.format(port=site.port))
    assert status == 200 and "components" in text


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "127.0.0.1:{port}"),
        ("https://evil.example", KNOWN_AS),
        ("http://evil.example:{port}", "evil.example:{port}"),
        ("null", "127.0.0.1:{port}"),
        ("", "127.0.0.1:{port}"),
        ("file://", "127.0.0.1:{port}"),
        ("http://127.0.0.1:1", "127.0.0.1:{port}"),  # another server of this machine
        ("http://127.0.0.1", "127.0.0.1:{port}"),
        ("http://localhost:{port}", "127.0.0.1:{port}"),
        ("http://127.0.0.1:{port}@evil.example", "127.0.0.1:{port}"),
        ("http://evil.example@127.0.0.1:{port}", "127.0.0.1:{port}"),
        ("http://127.0.0.1:{port}.evil.example", "127.0.0.1:{port}"),
        ("http://127.0.0.1:x", "127.0.0.1:{port}"),
        (f"https://{KNOWN_AS}.evil.example", KNOWN_AS),
        ("chrome-extension://abcdefgh", "127.0.0.1:{port}"),
        ("chrome-extension://127.0.0.1:{port}", "127.0.0.1:{port}"),
        ("127.0.0.1:{port}", "127.0.0.1:{port}"),
        (f"http://{KNOWN_AS}:9999", KNOWN_AS + ":{port}"),  # another server of a machine whose name is known
        (f"http://{KNOWN_AS}", KNOWN_AS + ":{port}"),
        (f"https://{KNOWN_AS}:9999", "127.0.0.1:{port}"),
        (f"http://{ALSO}", KNOWN_AS + ":{port}"),
        (f"http://{ALSO}", KNOWN_AS),
        ("http://127.0.0.1:{port}", KNOWN_AS),
        ("http://127.0.0.1:{port}/path", "127.0.0.1:{port}"),
        ("http://localhost", "localhost:65535"),
    ],
)
def test_a_foreign_origin_is_refused(site, picture, origin, host):
    """A request with such a body, or without any, needs no permission of the browser's to be sent."""
    before = site.files()
    headers = {"Origin": origin.format(port=site.port), "Host": host.format(port=site.port)}
    for method, path in ASKED:
        body = b'{"data": []}' if method == "POST" else None
        assert ask(site, method, path, body, **headers)[0] == 403, path
    form = b'--e\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n--e--\r\n'
    kind = {"Content_Type": "multipart/form-data; boundary=e"}
    assert ask(site, "POST", "/gradio_api/upload", form, **headers, **kind)[0] == 403
    assert site.files() == before


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:{port}", "127.0.0.1:{port}"),
        ("http://[::1]:{port}", "[::1]:{port}"),
        ("https://localhost:{port}", "localhost:{port}"),
        (f"https://{KNOWN_AS}", KNOWN_AS),  # a proxy that ends TLS and hands the name on
        (f"https://{KNOWN_AS}", "127.0.0.1:{port}"),  # one that does not
    ],
)
def test_the_pages_own_origin_is_taken(site, origin, host):
    headers = {"Origin": origin.format(port=site.port), "Host": host.format(port=site.port)}
    assert ask(site, "GET", "/config", **headers)[0] == 200


@pytest.mark.parametrize("site_header", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("method", "path", "mode", "dest", "status"),
    [
        ("GET", "/", "navigate", "document", 200),  # a link to the page
        ("GET", "/", "navigate", "iframe", 403),
        ("GET", "/", "no-cors", "image", 403),
        ("GET", "/config", "navigate", "document", 403),
        ("GET", "/metrics", "navigate", "document", 403),
        ("GET", "/health", "no-cors", "image", 403),
        ("GET", "/gradio_api/file={uploaded}", "no-cors", "image", 403),
        ("GET", "/gradio_api/file={uploaded}", "navigate", "document", 403),
        ("POST", "/gradio_api/cancel", "no-cors", "empty", 403),
    ],
)
def test_what_another_page_causes_is_refused(site, site_header, method, path, mode, dest, status):
    """Requests that have no Origin, but of which browsers say where they come from."""
    headers = {"Sec_Fetch_Site": site_header, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
    body = b"{}" if method == "POST" else None
    assert ask(site, method, path.format(uploaded=site.uploaded), body, **headers)[0] == status


def test_no_other_page_may_frame_it(site):
    assert answer_to(site, "GET", "/")[2]["content-security-policy"] == "frame-ancestors 'self'"


@pytest.mark.parametrize("host", ["evil.example", KNOWN_AS + ".evil.example"])
def test_the_question_before_a_request_is_refused_too(site, host):
    headers = {"Host": host, "Origin": f"http://{host}", "Access_Control_Request_Method": "POST"}
    for path in ("/gradio_api/upload", "/monitoring"):
        status, _, got = answer_to(site, "OPTIONS", path, **headers)
        assert status == 403 and "access-control-allow-origin" not in got


@pytest.mark.parametrize("header", ["X_Forwarded_Host", "X_Gradio_Server"])
@pytest.mark.parametrize(
    "value", ["evil.example", "http://evil.example/x", f"evil.example, {KNOWN_AS}", "[.]"]
)
def test_one_visitors_name_for_the_page_is_not_shown_to_others(site, header, value):
    for path in ("/gradio_api/info", "/config", "/", "/gradio_api/openapi.json"):
        for headers in ({header: value}, {}):  # nor to himself: a cache on the way may keep it
            status, text = ask(site, "GET", path, **headers)
            assert status == 200 and "evil.example" not in text


@pytest.mark.parametrize(
    "name", ["PWN%20%24(id)%22%27%60%3b", "%1b]0;PWNED%07%1b[31mEVIL", "%C2%9b31m", "a/b/c"]
)
@pytest.mark.parametrize("way", ["call/", "call/v2/", "run/"])
def test_names_of_handlers_are_names(site, way, name):
    """Others came back in everybody's description of the API as shell code, or to the operator's terminal."""
    assert ask(site, "POST", f"/gradio_api/{way}{name}", b'{"data": []}')[0] == 404
    log = site.server.home.with_name("log.txt").read_text()
    assert not any(part in log for part in ("PWN", "\x1b", "\u009b"))


def test_everybody_sees_the_api_under_the_own_name(site):
    """Gradio remembers the answer that it gave first."""
    hosts = [f"127.0.0.1:{site.port}", "localhost:9999", KNOWN_AS, f"127.0.0.1:{site.port}"]
    for host in hosts:
        _, text = ask(site, "GET", "/gradio_api/info", Host=host)
        assert f"http://{host}/" in text and not any(f"http://{h}/" in text for h in set(hosts) - {host})


def test_a_proxys_name_is_taken_if_it_is_known(site):
    _, text = ask(site, "GET", "/config", X_Forwarded_Host=KNOWN_AS, X_Forwarded_Proto="https")
    assert json.loads(text)["root"] == f"https://{KNOWN_AS}"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Demo.Example.ORG", "demo.example.org"),
        ("[::1]", "::1"),
        ("FE80:0::1", "fe80::1"),
        ("10.0.0.7", "10.0.0.7"),
    ],
)
def test_names_are_compared_as_browsers_write_them(given, name):
    assert host_name(given) == name


@pytest.mark.parametrize("given", ["http://x", "x:80", "*", "*.example.org", "a b", "", "x/y", "x,y"])
def test_what_is_no_name_is_refused(given, tmp_path):
    with pytest.raises(InputError, match="is no host name; give a name or address alone"):
        host_name(given)
    graph = write_graph(tmp_path / "m.onnx")
    done = CliRunner().invoke(main, ["demo", str(graph), "--allow-host", given])
    assert done.exit_code == 2 and "is no host name" in done.output


def test_an_address_of_ipv6(tmp_path):
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text().strip():
        pytest.skip("this machine has no IPv6")
    with demo(tmp_path / "server", write_graph(tmp_path / "m.onnx"), "--host", "::1", host="::1") as running:
        connection = http.client.HTTPConnection("::1", int(running.url.rpartition(":")[2]), timeout=30)
        connection.request("GET", "/config")
        assert connection.getresponse().status == 200
