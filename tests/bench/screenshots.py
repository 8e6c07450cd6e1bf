"""Pictures of the web demo for the README, taken in a real Chromium, and an animated before/after of a clip.

    make screenshots, or: python tests/bench/screenshots.py RUN DATA -o docs

Writes demo.jpg (desktop), demo-phone.jpg and before-after.webp, small enough for a repository.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))
from browser import AVAILABLE, MISSING, chromium, resize, until
from demo_server import demo

from serve import Segmenter
from serve.demo.tabs.image import paint
from serve.media.video.reader import Frame, VideoReader

CSS = By.CSS_SELECTOR
FONT = cv2.FONT_HERSHEY_SIMPLEX
PHONE = (390, 844)
DESKTOP = (1280, 900)
LIMITS = {"demo.jpg": 200, "demo-phone.jpg": 120, "before-after.webp": 400}  # kB
TAU = 1.0  # what the pictures show: strong enough to see, and not what the page opens with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("data", type=Path, help="folder of `adapt sample-data`")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs"))
    parser.add_argument("--picture", type=int, default=15, help="which one of target_eval")
    options = parser.parse_args()
    if not AVAILABLE:
        sys.exit(MISSING)
    if not options.run.is_dir():
        sys.exit(f"{options.run} is not there; run `make demo` first")
    options.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "streets.onnx"
        export(options.run, model)
        pictures = sorted((options.data / "target_eval" / "images").iterdir())
        photograph(model, pictures[options.picture], options.out, Path(name))
        animate(model, options.data / "target.mp4", options.out / "before-after.webp")
    for file, kilobytes in LIMITS.items():
        size = (options.out / file).stat().st_size / 1000
        print(f"{options.out / file}: {size:.0f} kB")
        if size > kilobytes:
            sys.exit(f"{file} is larger than {kilobytes} kB")


def export(run: Path, model: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "export", "onnx", run, "--runtime-tau", "--uncorrected-labels", "-o", model],
        check=True,
    )


def photograph(model: Path, picture: Path, out: Path, folder: Path) -> None:
    """The Image tab with a result, at desktop and at phone width."""
    with demo(folder / "server", model, "--examples", picture.parent) as server, chromium(*DESKTOP) as page:
        page.get(server.url)
        until(lambda: page.find_elements(CSS, "#picture input[type=file]"), "page", 60)
        page.find_element(CSS, "#picture input[type=file]").send_keys(str(picture.resolve()))
        shown = f"#result img[src*='{picture.stem}-before']"  # not that of the first example
        until(lambda: page.find_elements(CSS, shown), "result", 60)
        strength = page.find_element(CSS, "#tau input[type=number]")
        before = page.find_element(CSS, "#legend").text
        strength.send_keys(Keys.CONTROL, "a")
        strength.send_keys(str(TAU), Keys.ENTER)
        until(lambda: page.find_element(CSS, "#legend").text != before, "result of the other strength", 60)
        shoot(page, out / "demo.jpg")
        resize(page, *PHONE)
        shoot(page, out / "demo-phone.jpg")


def shoot(page: Chrome, path: Path) -> None:
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    time.sleep(1.5)  # pictures fade in
    data = np.frombuffer(page.get_screenshot_as_png(), np.uint8)
    cv2.imwrite(str(path), cv2.imdecode(data, cv2.IMREAD_COLOR), [cv2.IMWRITE_JPEG_QUALITY, 85])


def animate(model: Path, clip: Path, path: Path, frames: int = 48) -> None:
    """The clip with a line that sweeps across it: uncorrected on its left, corrected on its right."""
    segmenter = Segmenter(model)
    card = segmenter.card
    shots = []
    for number, image in enumerate(every_other(clip, frames)):
        seen = segmenter(image, TAU, extras=["uncorrected_labels"])
        assert seen.uncorrected_labels is not None
        scale = max(1, round(480 / image.shape[1]))
        sides = [
            cv2.resize(paint(card, image, each, 0.55, card.classes), None, fx=scale, fy=scale)
            for each in (seen.uncorrected_labels, seen.labels)
        ]
        width = sides[0].shape[1]
        line = round(width * (0.5 - 0.42 * np.cos(2 * np.pi * number / frames)))
        shot = np.concatenate([sides[0][:, :line], sides[1][:, line:]], axis=1)
        shot[:, max(line - 1, 0) : line + 1] = 255
        for text, x in (("uncorrected", 10), ("corrected", width - 90)):
            (wide, _), _ = cv2.getTextSize(text, FONT, 0.5, 1)
            cv2.rectangle(shot, (x - 6, 4), (x + wide + 6, 26), (24, 24, 27), cv2.FILLED)
            cv2.putText(shot, text, (x, 20), FONT, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        shots.append(Image.fromarray(shot))
    shots[0].save(path, save_all=True, append_images=shots[1:], duration=125, loop=0, quality=60, method=4)


def every_other(clip: Path, frames: int) -> Iterator[np.ndarray]:
    with VideoReader(clip) as reader:
        pictures = [item.pixels for item in reader.items() if isinstance(item, Frame)]
    yield from pictures[:: max(1, len(pictures) // frames)][:frames]


if __name__ == "__main__":
    main()
