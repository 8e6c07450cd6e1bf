"""What a visitor does and sees in a browser."""

from pathlib import Path
from typing import Any
from urllib.request import urlopen

import cv2
import numpy as np
from browser import until
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from serve_graphs import halves

PHONE = (390, 844)

STREET = halves(120, 160)

STREET[:, :40, 0] = 60  # so faintly red that the graph's own tau, 0.25, makes it blue

CSS = By.CSS_SELECTOR


def wait_for_the_example(page: Chrome) -> None:
    """With what the page opens; a result that comes later is of something else."""
    until(lambda: page.find_elements(CSS, "#picture input[type=file]"), "upload field", 60)
    until(lambda: legend_of(page) and "mirrored" in sources_of(page)[0], "result for the example", 60)


def give(page: Chrome, place: str, file: Path) -> None:
    page.find_element(CSS, f"#{place} input[type=file]").send_keys(str(file))


def legend_of(page: Chrome) -> dict[str, str]:
    """Row texts of the legend by class."""
    rows = page.find_elements(CSS, "#legend tbody tr")
    return {str(row.get_attribute("data-class")): " ".join(row.text.split()) for row in rows}


def sources_of(page: Chrome) -> list[str]:
    """Addresses of the before and the after picture."""
    return [str(i.get_attribute("src")) for i in page.find_elements(CSS, "#result .slider-wrap img")]


def show(page: Chrome, street: Path) -> dict[str, str]:
    """Upload the picture and wait for its legend."""
    give(page, "picture", street)
    until(lambda: f"{street.stem}-before" in sources_of(page)[0] and legend_of(page), "result")
    return legend_of(page)


def open_tab(page: Chrome, name: str) -> None:
    tabs = page.find_elements(CSS, "button[role=tab]")
    next(tab for tab in tabs if tab.text == name and tab.is_displayed()).click()


def range_of(page: Chrome, name: str) -> WebElement:
    return page.find_element(CSS, f"#{name} input[type=range]")


def fetched(url: str) -> np.ndarray:
    with urlopen(url, timeout=10) as answer:
        return cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_UNCHANGED)


def toast_of(page: Chrome) -> str:
    return until(lambda: page.find_element(CSS, ".toast-body.error").text, "message")


def value_of(page: Chrome, script: str) -> Any:
    return page.execute_script(f"return {script}")
