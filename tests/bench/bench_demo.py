"""The demo under load: many clients at once, visitors who leave, and files that nobody should have to digest.

Fails if an answer is missing, if requests overtake each other, if memory grows, if work goes on for more than
a second after its visitor left, or if the server falls over.
"""

import argparse
import statistics
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import gradio_client
import numpy as np
import psutil
from PIL import Image

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))
from demo_server import Demo, demo, file_data, listening, result, submit, upload, upload_endlessly
from serve_graphs import halves, write_clip, write_graph, write_slow_graph
from slow_demo import ask_for_picture, ask_for_video

CLIENTS, EACH = 10, 20
SIZE = (720, 1280)
GROWTH = 50.0  # MiB that the second half of the requests may add
LEAVINGS, GONE = 10, 1.0  # visitors who leave, and seconds in which work for one who left must stop
OVERTAKING = 0.5  # seconds: what counts as arriving at the same time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="A graph file; without one, a tiny graph of the tests.")
    parser.add_argument("--only-leaving", action="store_true", help="Only visitors who leave.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tempfile.tempdir = name  # gradio_client leaves a folder there for every file that it fetched
        model = options.model or write_graph(folder / "model.onnx", runtime_tau=True, extras=True)
        failures, alive = leaving(folder), True
        if not options.only_leaving:
            with demo(folder / "server", model) as server:
                failures += load(server, model.name, folder) + refusals(server, folder)
                alive = server.process.poll() is None
    for failure in failures:
        print(f"FAILED: {failure}")
    if failures or not alive:
        sys.exit("the demo does not hold what the README says")


def load(server: Demo, model: str, folder: Path) -> list[str]:
    """CLIENTS clients send EACH pictures, all different, one after the other."""
    rng = np.random.default_rng(0)
    pictures = [folder / f"{i}.jpg" for i in range(CLIENTS * EACH)]
    for path in pictures:
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(path, quality=80)
    process = psutil.Process(server.process.pid)
    ask(gradio_client.Client(server.url, verbose=False), pictures[0])  # what is loaded lazily is loaded now
    spans: list[tuple[float, float]] = []
    errors: list[str] = []
    memory: list[float] = []

    def visit(number: int) -> None:
        mine = pictures[number * EACH : (number + 1) * EACH]
        uploaded = [upload(server, path) for path in mine]  # the order is that of the queue, not of uploads
        gate.wait()
        for path, there in zip(mine, uploaded, strict=True):
            event = submit(server, "segment_image", model, file_data(there), None, 0.5, [])
            begin = time.perf_counter()
            try:
                result(server, "segment_image", event)
            except (OSError, AssertionError) as error:
                errors.append(f"{path.name}: {error}")
            spans.append((begin, time.perf_counter()))
            memory.append(process.memory_info().rss / 2**20)

    gate = threading.Barrier(CLIENTS)
    threads = [threading.Thread(target=visit, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = max(end for _, end in spans) - min(begin for begin, _ in spans)
    waits = sorted(end - begin for begin, end in spans)
    overtaken = overtakings(spans)
    half = len(memory) // 2
    growth = max(memory[half:]) - max(memory[:half])
    print(
        f"{len(spans)} pictures of {SIZE[1]}x{SIZE[0]} from {CLIENTS} clients: "
        f"{len(spans) - len(errors)} answered"
    )
    print(
        f"  {took:.1f} s, {len(spans) / took:.1f} per second; "
        f"wait {statistics.median(waits):.2f} s (median), {waits[-1]:.2f} s (longest)"
    )
    print(f"  overtaken by one that came more than {OVERTAKING} s later: {overtaken}")
    print(f"  memory {max(memory):.0f} MiB at most, {growth:+.1f} MiB in the second half")
    checks = {
        f"{len(errors)} requests were not answered: {errors[:3]}": errors,
        f"{overtaken} requests were overtaken": overtaken,
        f"memory grew by {growth:.0f} MiB": growth > GROWTH,
    }
    return [sentence for sentence, failed in checks.items() if failed]


def leaving(folder: Path) -> list[str]:
    """From a visitor's leaving, with minutes of work begun for him, until the next in line can begin."""
    slow, quick = write_slow_graph(folder / "slow.onnx", 600), write_graph(folder / "quick.onnx")
    Image.fromarray(halves(64, 64)).save(folder / "street.png")
    write_clip(folder / "drive.mp4", times=range(24))
    failures = []
    with demo(folder / "left", quick, slow) as server:
        for ask, endpoint, file in (
            (ask_for_picture, "segment_image", upload(server, folder / "street.png")),
            (ask_for_video, "segment_video", upload(server, folder / "drive.mp4")),
        ):
            freed = sorted(free_after(server, endpoint, ask, file, slow.name, quick.name))
            said = f"{statistics.median(freed):.2f} s (median), {freed[-1]:.2f} s (longest)"
            print(f"a visitor leaves {endpoint}: it is free for the next one after {said}")
            if statistics.median(freed) > GONE:
                failures.append(f"work for a visitor who left goes on for {said}")
    return failures


def free_after(
    server: Demo, endpoint: str, ask: Callable[[Demo, str, str], str], file: str, slow: str, quick: str
) -> Iterator[float]:
    """Seconds until the next in line had his answer, less those that he waits for it where he is alone."""

    def answered() -> float:
        begin = time.perf_counter()
        result(server, endpoint, ask(server, quick, file))
        return time.perf_counter() - begin

    answered()  # what is loaded lazily is loaded now
    alone = statistics.median(answered() for _ in range(LEAVINGS))
    for _ in range(LEAVINGS):
        with ThreadPoolExecutor(1) as pool:
            with listening(server, endpoint, ask(server, slow, file)):
                time.sleep(1)  # it is at work
                answer = pool.submit(answered)
                time.sleep(0.5)
            begin = time.perf_counter()
            answer.result()
            yield time.perf_counter() - begin - alone


def overtakings(spans: list[tuple[float, float]]) -> int:
    """How many requests were answered after one that came clearly later, by as clear a margin."""
    return sum(any(b > begin + OVERTAKING and e < end - OVERTAKING for b, e in spans) for begin, end in spans)


def refusals(server: Demo, folder: Path) -> list[str]:
    """Each is answered by a message, at once, and the next picture is segmented as ever."""
    client = gradio_client.Client(server.url, verbose=False)
    (folder / "renamed.png").write_text("no picture")
    huge_png(folder / "huge.png", 50_000, 50_000)
    write_clip(folder / "long.mp4", times=range(121), time_base=Fraction(60))
    failures = []
    # The client library would refuse it by itself.
    status, text, sent = upload_endlessly(server, 4 * 2**30)
    print(f"4 GB: cut off after {sent} MiB with status {status}: {text}")
    if status != 413:
        failures.append("an upload of 4 GB was not refused")
    for name in ("renamed.png", "huge.png", "long.mp4"):
        begin = time.perf_counter()
        try:
            (watch if name.endswith("mp4") else ask)(client, folder / name)
        except Exception as error:
            print(f"{name}: refused after {time.perf_counter() - begin:.2f} s: {error}")
        else:
            failures.append(f"{name} was not refused")
    ask(client, folder / "0.jpg")
    return failures


def ask(client: gradio_client.Client, path: Path) -> None:
    client.predict(picture=gradio_client.handle_file(path), api_name="/segment_image")


def watch(client: gradio_client.Client, path: Path) -> None:
    client.predict(video=gradio_client.handle_file(path), api_name="/segment_video")


def huge_png(path: Path, width: int, height: int) -> None:
    """A real picture, all black, of a few megabytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(1)
    line = bytes(1 + 3 * width)
    body = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


if __name__ == "__main__":
    main()
