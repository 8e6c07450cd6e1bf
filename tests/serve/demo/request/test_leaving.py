"""Visitors who leave: their work stops, and what it held is free."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from browser import AVAILABLE, MISSING, chromium, until
from demo_server import listening, log, result
from selenium.webdriver.common.by import By
from serve_graphs import halves, write_clip, write_graph
from slow_demo import AT_ONCE, ask_for_picture, ask_for_video

from serve.demo.request import work as demo_work
from serve.demo.request.work import Stoppable, Visitors, Work
from serve.errors import InputError
from serve.inference import large
from serve.inference.memory import Need
from serve.inference.opening import open_runtime
from serve.inference.runtime import Runtime
from serve.inference.segmenter import Segmenter


@pytest.mark.parametrize("kind", ["segment_image", "segment_video"])
def test_a_client_that_leaves_frees_the_slot(server, picture, clip, kind):
    ask, file = (ask_for_picture, picture) if kind == "segment_image" else (ask_for_video, clip)
    with listening(server, kind, ask(server, "slow.onnx", file)):
        time.sleep(1)  # it is at work
    begin = time.monotonic()
    assert result(server, kind, ask(server, "quick.onnx", file))
    assert time.monotonic() - begin < AT_ONCE
    until(lambda: not list(server.temporary.rglob("*.partial.mp4")), "the unfinished file's end")
    assert "Traceback" not in log(server)


@pytest.mark.skipif(not AVAILABLE, reason=MISSING)
def test_a_visitor_who_closes_the_page_frees_the_slot(server, clip, tmp_path):
    drive = write_clip(tmp_path / "mine.mp4", times=range(24))
    with chromium() as window:
        window.get(server.url)
        until(lambda: window.find_elements(By.CSS_SELECTOR, "#model input"), "page", 60)
        window.find_element(By.CSS_SELECTOR, "#model input").click()
        until(lambda: window.find_elements(By.CSS_SELECTOR, "[role=option]"), "models")[1].click()
        tabs = window.find_elements(By.CSS_SELECTOR, "button[role=tab]")
        next(tab for tab in tabs if tab.text == "Video").click()
        until(lambda: window.find_elements(By.CSS_SELECTOR, "#video input[type=file]"), "tab")[0].send_keys(
            str(drive)
        )
        until(lambda: window.find_elements(By.CSS_SELECTOR, "#video video"), "preview")
        window.find_element(By.CSS_SELECTOR, "#start").click()
        until(lambda: "mine.mp4" in log(server), "work")
        with listening(server, "segment_video", ask_for_video(server, "quick.onnx", clip)) as answer:
            time.sleep(1)
            window.switch_to.new_window("tab")  # the browser itself goes on
            window.switch_to.window(window.window_handles[0])
            begin = time.monotonic()
            window.close()
            assert b"event: complete" in answer.read()
            assert time.monotonic() - begin < AT_ONCE
    assert "Traceback" not in log(server)


def test_the_answer_comes_to_a_visitor_whose_stream_broke_off_for_a_moment():
    async def visit() -> bool:
        visitors = Visitors()
        with visitors.working(["session", "request"]) as work:
            with visitors.listening("session"):
                pass
            with visitors.listening("request"):
                await asyncio.sleep(3 * demo_work._BACK_WITHIN)
                work.check()
        return True

    assert asyncio.run(visit())


@pytest.mark.parametrize("heard", [False, True])
def test_work_that_nobody_listens_for_is_stopped(monkeypatch, heard):
    monkeypatch.setattr(demo_work, "_BACK_WITHIN", 0.05)
    monkeypatch.setattr(demo_work, "_THERE_WITHIN", 0.2)

    async def visit() -> None:
        visitors = Visitors()
        with visitors.working(["session"]) as work, visitors.working(["other"]) as others:
            others.at_stop(lambda: pytest.fail("somebody else's work was stopped")) if heard else None
            with visitors.listening("other"):
                if heard:
                    with visitors.listening("session"):
                        await asyncio.sleep(0.4)
                        work.check()
                await asyncio.sleep(0.1 if heard else 0.4)
                with pytest.raises(InputError, match="Stopped"):
                    work.check()

    asyncio.run(visit())


def _in_another_session(monkeypatch: pytest.MonkeyPatch, folder: Path, free: float) -> None:
    """Treat pictures as large: so many bytes of memory are free, of which a pixel takes a thousand."""

    def opened(runtime: Runtime, threads: int | None, callers: int) -> tuple[Runtime, Need]:
        frugal = open_runtime(runtime.path, "cpu", threads, callers, record=str(folder / "runs"))
        return frugal, Need(np.array([1000.0]), np.array([0.0]))

    monkeypatch.setattr(large, "open_frugal", opened)
    monkeypatch.setattr(large, "available", lambda: free)


@pytest.mark.parametrize("free", [None, 1e9, 3e8], ids=["as it is", "large", "in tiles"])
def test_a_run_is_stopped_in_its_midst(tmp_path, monkeypatch, slow_graph, free):
    if free is not None:
        _in_another_session(monkeypatch, tmp_path, free)
    work = Work()
    slow = Stoppable(Segmenter(slow_graph), work)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(slow, halves(600, 800))
        time.sleep(0.5)
        assert not running.done(), "the graph is too quick for this machine: it was not stopped in its midst"
        work.stop()
        with pytest.raises(InputError, match="Stopped; nothing was kept"):
            running.result(AT_ONCE)
    told = []
    work.at_stop(lambda: told.append("at once"))
    assert told == ["at once"]
    assert bool(slow.notice) == (free == 3e8)


def test_an_answer_that_came_after_all_is_not_kept(tmp_path, monkeypatch):
    """An engine can't be stopped, and a run may end before it notices."""
    work = Work()
    quick = Stoppable(Segmenter(write_graph(tmp_path / "quick.onnx")), work)
    whole = Segmenter.__call__

    def stopped_meanwhile(*arguments, **options):
        found = whole(*arguments, **options)
        work.stop()
        return found

    monkeypatch.setattr(Segmenter, "__call__", stopped_meanwhile)
    with pytest.raises(InputError, match="Stopped; nothing was kept"):
        quick(halves())


@pytest.mark.parametrize("free", [None, 1e9, 3e8], ids=["as it is", "large", "in tiles"])
def test_what_is_not_stopped_is_as_ever(tmp_path, monkeypatch, free):
    if free is not None:
        _in_another_session(monkeypatch, tmp_path, free)
    segmenter = Stoppable(Segmenter(write_graph(tmp_path / "quick.onnx")), Work())
    labels = segmenter(halves(600, 800)).labels
    assert (labels[:, :400] == 0).all() and (labels[:, 400:] == 1).all()


def _held() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_run_gives_its_memory_back(tmp_path, monkeypatch):
    """Of ONNX Runtime's own stock, which keeps that of the largest run."""
    monkeypatch.setattr(large, "available", lambda: None)  # one session for all sizes
    picture = halves(2000, 2000)
    segmenter = Segmenter(write_graph(tmp_path / "quick.onnx"))
    before = _held()
    Stoppable(segmenter, Work())(picture)
    given_back = _held()
    segmenter(picture)
    assert given_back - before < (_held() - before) / 2


def test_what_is_stopped_gives_way_before_the_next_begins():
    """A task that is cancelled waits for its thread."""

    async def serve() -> float:
        work = Work()

        def in_thread() -> None:
            with work.in_thread():
                time.sleep(0.3)

        begin = time.monotonic()
        running = asyncio.get_running_loop().run_in_executor(None, in_thread)
        await asyncio.sleep(0.05)
        await work.ended()
        await running
        return time.monotonic() - begin

    assert asyncio.run(serve()) >= 0.3
