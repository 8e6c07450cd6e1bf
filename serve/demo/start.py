"""Starts the demo in an environment of its own: a folder that goes with it, and nobody told about it."""

import ipaddress
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import click

from serve.demo.door.gate import canonical, host_name
from serve.demo.options import Limits, Server, find_examples, read_accounts
from serve.demo.request import memory as demo_memory
from serve.errors import InputError
from serve.inference.runtime import Provider
from serve.media.whole import scratch

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and how containers and services are stopped
_PATIENCE = 1.8  # seconds from a signal to the end, whatever is being done
_SILENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def run(
    models: Sequence[Path],
    provider: Provider,
    threads: int | None,
    *,
    host: str,
    port: int,
    allow_host: Sequence[str],
    auth: Path | None,
    examples: Sequence[str],
    limits: Limits,
    gather: Any = None,
    profile: str | None = None,
) -> None:
    """Open the models and serve the page until stopped; see `serve demo --help`.

    The process ends with it: threads in the middle of a frame, or of a library, are not waited for.
    """
    if gather is not None and len(models) > 1:
        raise InputError(f"--gather is for one model, but {len(models)} are given; start a demo for each.")
    names = tuple(map(host_name, allow_host))
    server = Server(host, port, names, () if auth is None else read_accounts(auth))
    offered = find_examples(examples)
    demo_memory.keep_little()
    most = {"OPENCV_IO_MAX_IMAGE_PIXELS": str(int(limits.megapixels * 1e6))}  # for headers that lie
    with (
        scratch("blda-demo") as made,
        _ending(made),
        _environment(_SILENT | most | {"GRADIO_TEMP_DIR": os.path.realpath(made)}),
        ExitStack() as stack,
    ):
        folder = os.path.realpath(made)  # as requests must name files in it
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise InputError("Gradio is not installed; run `pip install 'blda[demo]'`.") from error
        from serve.demo.page import serve_demo
        from serve.inference.segmenter import Segmenter

        opening = {"provider": provider, "threads": threads, "gather": gather, "profile": profile}
        opened = [stack.enter_context(closing(Segmenter(model, **opening))) for model in models]
        segmenters = every_profile(opened)
        if not server.accounts and not _is_local(host):
            click.echo(
                f"Everybody who reaches {host} may use this page; --auth asks for a password.", err=True
            )
        if not names and _is_wildcard(host):
            click.echo(
                "It answers to localhost, 127.0.0.1 and [::1]; name what else visitors will type with "
                "--allow-host NAME.",
                err=True,
            )
        serve_demo(segmenters, Path(folder), server, limits, offered)


def every_profile(opened: Sequence[Any]) -> list[Any]:
    """Segmenters with, behind each, those of the other corrections of its file.

    What is seen under these is not gathered: a file of counts is of one profile.
    """
    return [
        each if name == each.profile else each.under(name)
        for each in opened
        for name in dict.fromkeys((each.profile, *each.profiles))
    ]


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set them before the libraries are imported, as some look only then."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _ending(folder: Path) -> Iterator[None]:
    """Ctrl-C and its like end what is done inside, and the process, in time and with `folder` removed."""

    def end(*_: Any) -> None:
        for number in _SIGNALS:
            # It is ending. Of SIG_IGN, Python complains if another one has come already.
            signal.signal(number, lambda *_: None)
        watch = threading.Timer(_PATIENCE, _leave, [folder])
        watch.daemon = True
        watch.start()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        _leave(folder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(folder: Path) -> None:
    """End the process as it was told to, with nothing left of it."""
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(canonical(host)).is_loopback
    except ValueError:
        return host == "localhost"


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(canonical(host)).is_unspecified
    except ValueError:
        return False
