"""A camera for the tests: a stream on this machine that sends, falls silent, hangs up and comes back."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

RATE = 25


class Take(NamedTuple):
    """What one connection gets."""

    data: bytes
    seconds: float = 0.0
    """How long sending takes, from the first byte to the last; 0 is at once."""
    silent: float = 0.0
    """How long the line stays open then, without a word."""
    away: float = 0.0
    """How long nobody answers then."""


def write_stream(
    path: Path,
    frames: int,
    *,
    first: int = 0,
    sound: str | None = None,
    size: int = 64,
    layout: str = "mono",
) -> bytes:
    """A clip at 25 frames/s in the format that the suffix says; grey tells a frame's number, 2 per frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "5", "crf": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = size, size, "yuv420p"
        audio = container.add_stream(sound, rate=48000, layout=layout) if sound else None
        for number in range(frames):
            grey = np.full((size, size, 3), 2 * (first + number) % 250, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            if audio is not None:
                samples = 48000 // RATE
                when = np.arange(number * samples, (number + 1) * samples, dtype=np.float32)
                wave = np.repeat(np.sin(when / 20)[None] / 2, audio.layout.nb_channels, 0)
                part = av.AudioFrame.from_ndarray(wave, format="fltp", layout=layout)
                part.sample_rate, part.pts = 48000, number * samples
                part.time_base = Fraction(1, 48000)
                container.mux(audio.encode(part))
        container.mux(stream.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))
    return path.read_bytes()


@contextmanager
def camera(*takes: Take) -> Iterator[str]:
    """The address of a camera that gives each connection the next of `takes`, then stays away."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    over = threading.Event()
    thread = threading.Thread(target=_play, args=(server, port, takes, over))
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        over.set()
        thread.join(60)


def _play(server: socket.socket, port: int, takes: Sequence[Take], over: threading.Event) -> None:
    for position, take in enumerate(takes):
        if position:
            server = socket.create_server(("127.0.0.1", port))
        connection = _accept(server, over)
        server.close()  # who comes meanwhile is turned away
        if connection is None:
            return
        with connection, suppress(ConnectionError):  # whoever watches may leave
            _send(connection, take, over)
            over.wait(take.silent)
        over.wait(take.away)


def _accept(server: socket.socket, over: threading.Event) -> socket.socket | None:
    server.settimeout(0.1)
    while not over.is_set():
        with suppress(TimeoutError):
            connection, _ = server.accept()
            connection.settimeout(60)
            return connection
    return None


def _send(connection: socket.socket, take: Take, over: threading.Event) -> None:
    pieces = max(round(take.seconds * 50), 1)
    begin = time.monotonic()
    for piece in range(pieces):
        start, end = (len(take.data) * n // pieces for n in (piece, piece + 1))
        connection.sendall(take.data[start:end])
        if over.wait(max(begin + (piece + 1) / 50 - time.monotonic(), 0) if take.seconds else 0):
            return
