"""The page of a run: complete, readable by machines, and in need of nothing from outside."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result

from adapt.cli import main
from adapt.evaluation.prediction import predict
from adapt.evaluation.scores import confusion_matrix
from adapt.reporting.picks import ends
from adapt.run.run import load_run

VOID = {"meta", "img", "br", "path", "circle", "text", "title", "svg"}


class Page(HTMLParser):
    """Collects what is asked about; fails on tags that don't match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.anchors: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.charts = 0
        self.feed(text)
        self.close()
        assert not self.open, f"{self.open} are left open"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        assert tag not in ("script", "link", "iframe", "object"), f"a <{tag}> would fetch or run something"
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(named)
        if tag == "svg":
            assert named["role"] == "img" and named["aria-label"]
            self.charts += 1
        if "id" in named:
            self.ids.append(named["id"] or "")
        if "href" in named:
            self.links.append(named["href"] or "")
        for name in ("src", "href"):
            value = named.get(name)
            assert value is None or value.startswith(("data:image/", "#")), value

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


@pytest.fixture(scope="module")
def run(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Online balancing, evaluated twice on the way."""
    folder = tmp_path_factory.mktemp("report") / "run"
    words = tiny.train_arguments(domains, folder, "training.evaluate_every=3")
    result = adapt(*words, "--evaluate", str(domains / "target_eval"))
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    result = adapt("report", str(run), "--tau", "0.5")  # so short a training is doubted
    assert result.exit_code == 0, result.output
    file = run / "report" / "report.html"
    assert str(file) in result.output
    return file


def test_the_page_is_whole_and_needs_nothing_from_outside(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert len(text) < 5e6
    assert not re.search(r"https?://|@import|url\(", text), "not even a name space"
    assert all(image["alt"] and image["width"] and image["height"] for image in parsed.images)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)


def test_every_class_and_every_section_is_there(page: Path) -> None:
    parsed = Page(page.read_text())
    words = " ".join(parsed.text)
    for name in ("ground", "sky", "box"):
        assert words.count(name) >= 4, "in the table, the logits, a legend and the confusion"
    expected = ["settings", "training", "evaluations", "classes", "logits", "mixed"]
    assert [i for i in parsed.ids if not i.endswith("-title")] == [
        *expected,
        *("best-pictures", "worst-pictures", "confusion", "next"),
    ]
    curves = {"source: cross-entropy", "mixed: density", "learning rates", "iterations per second", "mIoU, %"}
    assert curves <= set(parsed.text)
    assert parsed.charts >= 7 + 4 + 3


def test_pictures_are_those_of_the_album_and_of_both_ends(page: Path) -> None:
    alts = [image["alt"] or "" for image in Page(page.read_text()).images]
    album = [alt for alt in alts if alt.startswith("Pictures, labels and confidence, iteration")]
    assert len(album) == 6
    for kind in ("input", "uncorrected", "corrected, tau 0.5", "ground truth"):
        assert sum(alt.endswith(f", {kind}") for alt in alts) == 6


def test_numbers_are_those_of_adapt_eval(domains: Path, run: Path, page: Path) -> None:
    words = ("--data", str(domains / "target_eval"), "--tau", "0", "--tau", "0.5")
    said = adapt("eval", str(run), *words).output.splitlines()
    mean = next(line.split()[1:] for line in said if line.startswith("mIoU"))
    text = " ".join(Page(page.read_text()).text)
    assert f"{mean[0]} %  {mean[1]} % at tau 0.5" in text
    for line in said:
        if line.split()[:1] == ["box"]:
            for cell in line.split()[1:]:
                assert f" {cell} " in text


def test_the_confusion_is_shown_in_per_cent_of_the_true_class(domains: Path, run: Path, page: Path) -> None:
    from adapt.data.domains import open_labelled

    opened = load_run(run)
    segmenter = opened.segmenter()
    pictures = open_labelled(domains / "target_eval", opened.classes, None)
    confusion = sum(
        confusion_matrix(truth, predict(segmenter, image), 3)
        for image, truth in (pictures[index] for index in range(len(pictures)))
    )
    shares = (100 * confusion / confusion.sum(1, keepdims=True)).round().astype(int)
    rows = re.findall(r"<tr><th scope=\"row\">\w+</th>((?:<td[^>]*>\d*</td>){3})</tr>", page.read_text())
    assert [[int(c or 0) for c in re.findall(r">(\d*)</td>", row)] for row in rows[:3]] == shares.tolist()


def test_what_is_there_is_not_overwritten_unasked(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.html"
    file.write_text("mine")
    refused = adapt("report", str(run), "-o", str(file))
    assert refused.exit_code == 2 and "--force" in refused.output and file.read_text() == "mine"


def test_a_run_without_labels_statistics_or_target(domains: Path, tmp_path: Path) -> None:
    """The source alone, unbalanced: a page all the same, judged by confidence on the pictures it keeps."""
    run = tmp_path / "<b>&run"
    words = tiny.train_arguments(domains, run, "method.host=source", "method.balance=off")
    target = words.index("--target")
    assert adapt(*words[:target], *words[target + 2 :]).exit_code == 0
    shutil.rmtree(run / "report" / "album")
    result = adapt("report", str(run))
    assert result.exit_code == 0, result.output
    parsed = Page((run / "report" / "report.html").read_text())
    text = " ".join(parsed.text)
    assert "<b>&run: source, balance off" in text, "names are escaped"
    assert "mean confidence" in text and "mIoU, uncorrected" not in text
    assert {"settings", "training", "best-pictures", "worst-pictures", "next"} <= set(parsed.ids)
    assert not {"classes", "confusion", "mixed", "logits"} & set(parsed.ids)
    assert len(parsed.images) == 2 * 4, "the four pictures that are in the run, with what it says of them"


def test_a_posthoc_run_shows_its_final_logits_and_the_estimated_bias(domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert adapt(*tiny.train_arguments(domains, run, "method.balance=posthoc")).exit_code == 0
    assert adapt("report", str(run), "--tau", "0.7").exit_code == 0
    parsed = Page((run / "report" / "report.html").read_text())
    text = " ".join(parsed.text)
    assert "Logits against the anchors" in text and "estimated from the logits' distributions" in text
    assert "corrected, tau 0.7" in text


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 50])
def test_ends_are_the_highest_and_the_lowest_and_never_the_same(count: int) -> None:
    values = np.random.default_rng(0).random(count)
    best, worst = ends(values)
    assert not set(best) & set(worst) and len(best) + len(worst) == min(count, 6)
    order = np.argsort(values).tolist()
    assert best == order[::-1][: len(best)] and worst == order[: len(worst)]


def test_pictures_without_a_value_are_at_neither_end() -> None:
    best, worst = ends(np.array([0.2, np.nan, 0.9]))
    assert (best, worst) == ([2], [0])


@pytest.mark.skipif(not browser.AVAILABLE, reason=browser.MISSING)
def test_in_a_browser_at_any_width_by_day_and_by_night(page: Path) -> None:
    """Nothing is fetched, nothing is wider than the page, and text can be told from its ground."""
    backgrounds = []
    for dark in (False, True):
        with browser.chromium(390, 844, dark) as driver:
            driver.get(page.absolute().as_uri())
            for width in (360, 1280):
                browser.resize(driver, width, 844)
                wide = driver.execute_script("return document.documentElement.scrollWidth")
                assert wide <= width, f"the page is {wide} wide in a window of {width}"
            broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
            assert driver.execute_script(broken) == 0
            assert browser.requested_hosts(driver) == set()
            colors = driver.execute_script(
                "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
            )
            ink, paper = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in colors)
            assert abs(ink - paper) > 450
            backgrounds.append(paper)
    assert backgrounds[0] > 700 > 200 > backgrounds[1]
