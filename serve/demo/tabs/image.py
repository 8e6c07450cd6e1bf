"""The demo's Image tab: what one picture becomes."""

import html
import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.card import Card
from serve.demo.options import Limits
from serve.demo.request.files import Results, Upload, Uploads
from serve.demo.request.limits import read_picture
from serve.demo.request.values import choose, class_names, fraction, strength
from serve.demo.request.work import WORK, Stoppable
from serve.errors import InputError
from serve.images.render import Painter, below, legend, present, shares
from serve.inference.segmenter import Labels, Segmenter
from serve.media.images import Image

_REMEMBERED = 8  # pictures whose labels stay in memory, so that opacity and classes change at once


class Seen(NamedTuple):
    """A picture with its labels."""

    image: Image
    labels: Labels
    uncorrected: Labels | None
    """Labels without the correction; None if the graph has no way to tell."""
    seconds: float
    """Time in the model."""


class Answer(NamedTuple):
    """What the page shows and offers, in the order of its components, under the names that the API gives."""

    pictures: tuple[str, str] | None
    legend: str
    labels: str | None
    overlay: str | None
    shares: dict[str, Any] | None


EMPTY = '<p class="hint">Give a picture: drop a file, paste one, take a photo or pick an example.</p>'


class ImageDesk:
    """Segments pictures for many visitors; the last few stay in memory."""

    def __init__(
        self,
        segmenters: Mapping[str, Segmenter],
        uploads: Uploads,
        results: Results,
        limits: Limits,
        opening: Upload | None,
    ) -> None:
        """`opening` is the example that is shown as long as there is no other picture."""
        self._segmenters = segmenters
        self._uploads = uploads
        self._results = results
        self._limits = limits
        self._opening = opening
        self._look = lru_cache(_REMEMBERED)(self._run)

    def segment(
        self,
        model: str,
        picture: dict[str, Any] | None,
        tau: float | None,
        opacity: float,
        shown: list[str],
    ) -> Answer:
        """Segment one picture, before and after the correction.

        Args:
            model: one of the model names of this server.
            picture: the picture file; without one, the page's example, if it has one.
            tau: strength of the correction, 0 to 2; used by models with runtime tau only.
            opacity: of the overlay's colours, 0 to 1.
            shown: names of the classes to paint.

        Returns:
            `pictures`, two of them (before, after); `legend`, as HTML; `labels`, a PNG in which each pixel is
            its class's number; `overlay`, the picture with colours and a legend; and `shares`, the share of
            the pixels per class.
        """
        segmenter = choose(self._segmenters, model)
        tau, opacity = strength(tau, segmenter), fraction(opacity)
        shown = class_names(shown, segmenter.card.classes)
        upload = self._opening if picture is None else self._uploads.find(picture)
        if upload is None:
            return Answer(None, EMPTY, None, None, None)
        try:
            seen = self._look(model, upload, tau)
        except InputError as error:
            raise InputError(error.message.replace(str(segmenter.runtime.path), model)) from error
        card = segmenter.card
        after = paint(card, seen.image, seen.labels, opacity, shown)
        before = seen.image
        if seen.uncorrected is not None:
            before = paint(card, seen.image, seen.uncorrected, opacity, shown)
        strip = legend(present(card, seen.labels), *seen.labels.shape)
        keep = self._results.keep_image
        return Answer(
            (keep(before, f"{upload.stem}-before.jpg"), keep(after, f"{upload.stem}-after.jpg")),
            legend_html(card, seen, shown)
            + _status(seen, segmenter.provider)
            + (_example(upload) if picture is None else ""),
            keep(seen.labels, f"{upload.stem}-labels.png"),
            keep(below(after, strip), f"{upload.stem}-overlay.jpg"),
            _shares(card, seen),
        )

    def _run(self, model: str, upload: Upload, tau: float | None) -> Seen:
        segmenter = Stoppable(self._segmenters[model], WORK.get())
        image = read_picture(upload, self._limits, segmenter.runtime.largest)
        begin = time.perf_counter()
        done = segmenter(image, tau, extras=["uncorrected_labels"])
        seconds = time.perf_counter() - begin
        uncorrected = done.uncorrected_labels
        if uncorrected is None and tau is not None:
            uncorrected = segmenter(image, 0.0).labels  # no correction is the correction of strength 0
        return Seen(image, done.labels, uncorrected, seconds)


def paint(card: Card, image: Image, labels: Labels, opacity: float, shown: Collection[str]) -> Image:
    """The picture with the colours of the classes in `shown` over it, uint8 [H, W, 3]."""
    painted = Painter(card.palette).overlay(image, labels, opacity)
    if len(shown) == len(card.classes):
        return painted
    visible: NDArray[np.uint8] = np.array([name in shown for name in card.classes], np.uint8)
    mask = np.append(visible, np.zeros(256, np.uint8))[labels]
    return np.asarray(cv2.copyTo(painted, mask, image.copy()))


def legend_html(card: Card, seen: Seen, shown: Collection[str]) -> str:
    """A row per class that occurs: colour, name, share, and what the correction changed about it.

    Bars are drawn to the largest share.
    """
    after = shares(seen.labels, len(card.classes))
    before = after if seen.uncorrected is None else shares(seen.uncorrected, len(card.classes))
    longest = after.max()
    rows, absent = [], []
    for name, color, new, old in zip(card.classes, card.palette, after, before, strict=True):
        if new == old == 0:
            absent.append(name)
            continue
        rows.append(
            f'<tr class="{"" if name in shown else "off"}" data-class="{html.escape(name)}">'
            f'<th scope="row"><i style="background:rgb{color}"></i>{html.escape(name)}</th>'
            f'<td class="bar"><b style="width:{100 * new / longest:.2f}%;background:rgb{color}"></b></td>'
            f"<td>{100 * new:.1f}&thinsp;%</td>"
            + ("" if seen.uncorrected is None else f"<td>{_change(new - old)}</td>")
            + "</tr>"
        )
    change = "" if seen.uncorrected is None else '<th scope="col" title="percentage points">correction</th>'
    head = f'<tr><th scope="col">class</th><th></th><th scope="col">share</th>{change}</tr>'
    missing = f'<p class="hint">Not in this picture: {html.escape(", ".join(absent))}.</p>' if absent else ""
    return f'<table class="legend"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>{missing}'


def _change(difference: float) -> str:
    """In percentage points; a change too small to print is none."""
    points = round(100 * difference, 1)
    if points == 0:
        return '<span class="same">0.0</span>'
    kind, sign = ("more", "+") if points > 0 else ("less", "−")
    return f'<span class="{kind}">{sign}{abs(points):.1f}</span>'


def _status(seen: Seen, provider: str) -> str:
    height, width = seen.labels.shape
    changed = ""
    if seen.uncorrected is not None:
        changed = f" · correction changed {np.mean(seen.labels != seen.uncorrected):.1%} of the pixels"
    return f'<p class="hint">{width} × {height} · {1000 * seen.seconds:.0f} ms on {provider}{changed}</p>'


def _example(upload: Upload) -> str:
    return (
        f'<p class="hint">This is an example, {html.escape(upload.name)}. Give a picture of your own: drop a '
        "file, paste one or take a photo.</p>"
    )


def _shares(card: Card, seen: Seen) -> dict[str, Any]:
    after = shares(seen.labels, len(card.classes))
    answer: dict[str, Any] = {"corrected": dict(zip(card.classes, after.round(6).tolist(), strict=True))}
    if seen.uncorrected is not None:
        before = shares(seen.uncorrected, len(card.classes))
        answer["uncorrected"] = dict(zip(card.classes, before.round(6).tolist(), strict=True))
    return answer
