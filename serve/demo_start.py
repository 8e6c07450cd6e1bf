"""Starts the demo in an environment of its own: a folder that goes with it, and nobody told about it."""

import ipaddress
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from serve.demo_gate import canonical, host_name
from serve.demo_options import Limits, Server, find_examples, read_accounts
from serve.errors import InputError
from serve.runtime import Provider

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
) -> None:
    """Open the models and serve the page until stopped; see `serve demo --help`."""
    names = tuple(map(host_name, allow_host))
    server = Server(host, port, names, () if auth is None else read_accounts(auth))
    offered = find_examples(examples)
    os.environ.update(_SILENT)  # before the libraries are imported, as some look only then
    with tempfile.TemporaryDirectory(prefix="blda-demo-", ignore_cleanup_errors=True) as made:
        folder = os.path.realpath(made)  # as requests must name files in it
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise InputError("Gradio is not installed; run `pip install 'blda[demo]'`.") from error
        from serve.demo import serve_demo
        from serve.segmenter import Segmenter

        segmenters = [Segmenter(model, provider=provider, threads=threads) for model in models]
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
