"""The whole page, in a real Chromium: on a phone, by keys, and without a network."""

import time

import pytest
from browser import AVAILABLE, MISSING, requested_hosts, resize, until
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from serve_graphs import halves
from visitor import CSS, PHONE, open_tab, show, value_of, wait_for_the_example

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=MISSING)


def test_a_phone_shows_everything_in_one_column(page, files):
    resize(page, *PHONE)
    show(page, files / "street.png")
    for name in ("Image", "Video", "Model"):
        open_tab(page, name)
        time.sleep(0.2)
        assert value_of(page, "document.documentElement.scrollWidth") <= PHONE[0], name
    open_tab(page, "Image")
    places = ["picture", "result", "tau", "legend", "downloads", "classes"]
    tops = [until(lambda p=place: page.find_element(CSS, f"#{p}").rect, place) for place in places]
    assert [top["y"] for top in tops] == sorted(top["y"] for top in tops)
    assert all(top["x"] >= 0 and top["x"] + top["width"] <= PHONE[0] for top in tops)


@pytest.mark.parametrize("size", [(60, 120), (120, 160), (300, 150)])
def test_on_a_phone_the_strength_is_in_sight_of_the_picture(page, size, tmp_path):
    """Wide pictures, and ones that fill the window."""
    Image.fromarray(halves(*size)).save(tmp_path / "mine.png")
    resize(page, *PHONE)
    show(page, tmp_path / "mine.png")
    page.execute_script("window.scrollTo(0, document.querySelector('#result').offsetTop)")
    box = "document.querySelector('#%s').getBoundingClientRect()"
    top, bottom = (value_of(page, f"{box % 'tau'}.{side}") for side in ("top", "bottom"))
    assert top > 0 and bottom <= PHONE[1]
    assert value_of(page, f"{box % 'result'}.top") < top


def test_everything_is_reached_by_the_tab_key(page, files):
    show(page, files / "street.png")
    page.execute_script("document.body.focus(); window.scrollTo(0, 0)")
    wanted = {"tab", "picture", "tau", "opacity", "classes", "result", "labels", "overlay", "slider"}
    reached = set()
    for _ in range(60):
        if wanted <= reached:
            break
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached |= set(
            value_of(
                page,
                "(() => { let e = document.activeElement, found = [e.getAttribute('role') || e.type || ''];"
                " for (; e; e = e.parentElement) if (e.id) found.push(e.id); return found; })()",
            )
        )
    assert wanted <= reached, wanted - reached


def test_no_request_leaves_the_machine(page, files):
    requested_hosts(page), page.get_log("browser")  # forget what came before
    page.refresh()
    wait_for_the_example(page)
    show(page, files / "street.png")
    for name in ("Video", "Model"):
        open_tab(page, name)
        time.sleep(0.3)
    assert requested_hosts(page) == {"127.0.0.1"}
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
