"""What `/metrics` of the demo says: requests, the queue, and what is gathered."""

from serve.demo.request.blocks import Page
from serve.demo.request.tally import EDGES
from serve.gathering.counts import LEVELS
from serve.gathering.gatherer import Seen
from serve.inference.segmenter import Segmenter
from serve.prometheus import histogram, metric, text


def metrics(page: Page, segmenter: Segmenter) -> str:
    """Prometheus' text; of gathering, only while `segmenter` gathers."""
    lines = _requests(page)
    if (seen := segmenter.gathered) is not None:
        lines += _gathered(seen)
    return text(lines)


def _requests(page: Page) -> list[str]:
    outcomes, times, at_work = page.tally.counted()
    by_outcome = [
        ({"handler": handler, "outcome": outcome}, count) for (handler, outcome), count in outcomes.items()
    ]
    by_handler = [({"handler": name}, each.bins, each.seconds) for name, each in times.items()]
    return [
        *metric("counter", "blda_demo_requests_total", "Requests by what became of them.", by_outcome),
        *histogram("blda_demo_request_seconds", "Time of requests, after their wait.", EDGES, by_handler),
        *metric("gauge", "blda_demo_requests_at_work", "Requests that are worked on.", [({}, at_work)]),
        *metric("gauge", "blda_demo_requests_waiting", "Requests in the queue.", [({}, page.waiting())]),
    ]


def _gathered(seen: Seen) -> list[str]:
    """All of it is of the whole file, so that counters go on where the last process stopped."""
    edges = [(level + 1) / LEVELS for level in range(LEVELS - 1)]
    middle = [(level + 0.5) / LEVELS for level in range(LEVELS)]
    sure = [
        ({"class": name}, row.tolist(), float(row @ middle))
        for name, row in zip(seen.classes, seen.confidence, strict=True)
    ]
    lines = []
    for name, about, of_class in (
        ("pixels", "Counted pixels by the label that was given.", seen.labels),
        ("uncorrected_pixels", "Counted pixels by the best logit, before the correction.", seen.plain),
        ("agreed_pixels", "Those that the correction left as they were.", seen.agreed),
    ):
        samples = [({"class": of}, int(n)) for of, n in zip(seen.classes, of_class, strict=True)]
        lines += metric("counter", f"blda_gathered_{name}_total", about, samples)
    lines += histogram(
        "blda_gathered_confidence", "Softmax of the best logit; sums are of 20 levels.", edges, sure
    )
    for name, about, count in (
        ("frames", "Counted frames.", seen.frames),
        ("outside", "Logits beyond the bins.", seen.outside),
    ):
        lines += metric("counter", f"blda_gathered_{name}_total", about, [({}, count)])
    for name, about, value in (
        ("last_frame_timestamp_seconds", "When the last frame was counted.", seen.last),
        ("saved_timestamp_seconds", "When the file was written.", seen.saved),
        ("failed", "1 if the file can't be written any more.", float(seen.failed)),
    ):
        lines += metric("gauge", f"blda_gathered_{name}", about, [({}, value)])
    return lines
