"""The demo starts and stops: what its options refuse, how many may wait, what is left of it."""

import signal
import subprocess
import sys
import time
from urllib.error import HTTPError

import gradio_client
import pytest
from click.testing import CliRunner
from demo_server import demo, file_data, submit, upload
from serve_graphs import halves, write_clip

from serve.cli.commands import main

pytestmark = pytest.mark.usefixtures("downloads_go_with_the_test")


@pytest.mark.slow
def test_everything_is_gone_after_the_end(graphs, picture, tmp_path):
    with demo(tmp_path / "server", graphs[1]) as running:
        client = gradio_client.Client(running.url, verbose=False)
        client.predict(
            picture=gradio_client.handle_file(picture), tau=0, opacity=1, shown=[], api_name="/segment_image"
        )
        assert any(path.is_file() for path in running.temporary.rglob("*"))
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 0
        assert list(running.temporary.iterdir()) == []
        assert not [path for path in running.home.rglob("*") if path.is_file()]


def _refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["demo", *map(str, arguments)])
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    return result.stderr


def test_options_that_are_refused(graphs, tmp_path):
    accounts = tmp_path / "accounts"
    assert "missing.onnx is not a file" in _refused(tmp_path / "missing.onnx")
    assert f"--auth {accounts} can't be read" in _refused(graphs[0], "--auth", accounts)
    accounts.write_text("")
    assert "is empty" in _refused(graphs[0], "--auth", accounts)
    accounts.write_text("ada:x\nnobody\n")
    assert "not NAME:PASSWORD" in _refused(graphs[0], "--auth", accounts)
    assert "holds no picture or video" in _refused(graphs[0], "--examples", tmp_path)


def test_more_requests_than_may_wait_are_refused(graphs, tmp_path):
    clip = write_clip(tmp_path / "long.mp4", picture=halves(480, 640), times=range(400))
    with demo(tmp_path / "server", graphs[1], "--max-queue", 1) as server:
        request = ("segment_video", "plain.onnx", file_data(upload(server, clip)), None, 0.5, "overlay")
        submit(server, *request)
        for _ in range(100):  # until the first one left the queue for its work
            try:
                submit(server, *request)
                break
            except HTTPError:
                time.sleep(0.05)
        else:
            raise AssertionError("the queue never took a second request")
        with pytest.raises(HTTPError) as refused:
            submit(server, *request)
        assert refused.value.code == 503 and "queue" in refused.value.read().decode().lower()
        assert server.process.poll() is None


def test_a_port_in_use(server, graphs):
    port = server.url.rpartition(":")[2]
    assert f"port {port} of 127.0.0.1 can't be used" in _refused(graphs[1], "--port", port)


def test_without_gradio_one_sentence_says_what_to_install(graphs):
    program = (
        "import sys; sys.modules['gradio'] = None\n"
        f"from serve.cli.commands import main; main(['demo', {str(graphs[0])!r}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'blda[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
