"""The tab for videos, in a real Chromium."""

import pytest
from browser import AVAILABLE, MISSING, until
from selenium.webdriver import Chrome
from visitor import CSS, give, open_tab, toast_of, value_of

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=MISSING)


def test_the_video_tab_says_what_to_do(page):
    open_tab(page, "Video")
    until(lambda: "Give a video" in page.find_element(CSS, "#video-status").text, "hint")
    page.find_element(CSS, "#start").click()
    assert "no video yet" in toast_of(page)


def _is_inside(page: Chrome, inner: str, outer: str) -> bool:
    """Whether nothing of an element is cut off by the one around it."""
    top, box = page.find_element(CSS, inner).rect, page.find_element(CSS, outer).rect
    return bool(top["y"] >= box["y"] - 1 and top["y"] + top["height"] <= box["y"] + box["height"] + 1)


def test_a_video_plays(page, files):
    open_tab(page, "Video")
    give(page, "video", files / "clip.mp4")
    until(lambda: page.find_elements(CSS, "#video video"), "preview")
    assert _is_inside(page, "#video video", "#video") and _is_inside(
        page, "#video .source-selection", "#video"
    )
    page.find_element(CSS, "#start").click()
    until(lambda: page.find_elements(CSS, "#video-result video"), "result", 60)
    assert "36 frames in" in page.find_element(CSS, "#video-status").text
    video = "document.querySelector('#video-result video')"
    until(lambda: value_of(page, f"{video}.readyState") >= 3, "decoded frames")
    page.execute_script(f"{video}.play()")
    until(lambda: value_of(page, f"{video}.currentTime") > 0.3, "playing")
    assert value_of(page, f"{video}.videoWidth") >= 192 and value_of(page, f"{video}.error") is None
    until(lambda: value_of(page, f"{video}.webkitAudioDecodedByteCount") > 0, "sound")


def test_a_video_is_stopped(page, files, server):
    open_tab(page, "Video")
    give(page, "video", files / "long.mp4")
    until(lambda: page.find_elements(CSS, "#video video"), "preview")
    page.find_element(CSS, "#start").click()
    until(lambda: "/900 frames" in page.find_element(CSS, "#video-result").text, "progress")
    page.find_element(CSS, "#stop").click()
    until(lambda: "Stopped" in page.find_element(CSS, "#video-status").text, "word of it")
    until(lambda: not list(server.temporary.rglob("*.partial.mp4")), "the unfinished file's end")
    assert not list(server.temporary.rglob("long-segmented.mp4"))
