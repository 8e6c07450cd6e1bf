"""A real browser for the tests: headless Chromium from the distribution, driven through its WebDriver."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

Found = TypeVar("Found")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
MISSING = "Chromium and its driver are not installed; on Debian: apt-get install chromium chromium-driver"
AVAILABLE = bool(CHROMIUM and DRIVER)
_SWITCHES = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",  # the browser's own calls home, which are not the page's
    "--disable-component-update",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--use-fake-device-for-media-stream",  # a camera that shows a test picture
    "--use-fake-ui-for-media-stream",
    "--hide-scrollbars",
)


@contextmanager
def chromium(
    width: int = 1280, height: int = 900, dark: bool = False, names: Sequence[str] = ()
) -> Iterator[Chrome]:
    """A browser window whose page area is `width` x `height` pixels.

    `names` are host names that it finds at 127.0.0.1, as if a name server said so.
    """
    options = Options()
    options.binary_location = CHROMIUM or ""
    for switch in _SWITCHES:
        options.add_argument(switch)
    if names:
        rules = ", ".join(f"MAP {name} 127.0.0.1" for name in names)
        options.add_argument(f"--host-resolver-rules={rules}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses its sandbox to root, as in containers
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    try:
        resize(driver, width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


def resize(driver: Chrome, width: int, height: int) -> None:
    """Give the page this size, also below the least width of a window (a phone's)."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def until(look: Callable[[], Found], what: str, seconds: float = 60) -> Found:
    """The first truthy result of `look`; exceptions while the page changes count as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = look()
        except Exception as error:
            found, reason = None, f" ({error})"
        else:
            reason = ""
        if found:
            return found
        assert time.monotonic() < deadline, f"no {what} within {seconds} s{reason}"
        time.sleep(0.05)


def requested_hosts(driver: Chrome) -> set[str]:
    """Hosts of all network requests since the last call, from the browser's own record."""
    hosts = set()
    for entry in driver.get_log("performance"):
        message: dict[str, Any] = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = urlsplit(message["params"]["request"]["url"])
            if url.scheme in ("http", "https", "ws", "wss"):
                hosts.add(url.hostname or "")
    return hosts
