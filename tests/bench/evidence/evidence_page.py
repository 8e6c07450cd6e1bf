"""docs/evidence.md from the results: every number on the page is made here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evidence_arms import ARMS, SEEDS, TITLES, default_of
from evidence_results import RESULTS, read_results
from evidence_shifts import ORDER, load_shift
from evidence_signals import estimates, few_labels, foretold, outcome, ruled, watched
from evidence_summary import (
    Differences,
    Runs,
    after_training,
    at_equal,
    between_arms,
    by_default,
    by_key,
    over_seeds,
    shipped,
)
from evidence_tables import (
    HARM,
    MISSING,
    OURS,
    QUALITY,
    STRENGTHS,
    VARIANTS,
    WORDS,
    both,
    ranged,
    signed,
    table,
    text,
)

PAGE = Path(__file__).parents[3] / "docs" / "evidence.md"
BASELINE_STRENGTHS = ("0.1", "0.2", "0.3", "0.5", "1")
BASELINES = {
    "label shares": "logit adjustment, pseudo-label shares",
    "mean softmax": "logit adjustment, mean softmax",
}
PAIRS = [
    ("dacs", "source"),
    ("dacs-logit-adjustment", "dacs"),
    ("dacs-online", "dacs"),
    ("dacs-online-no-density", "dacs"),
    ("dacs-online", "dacs-online-no-density"),
    ("dacs-source-start", "dacs"),
    ("dacs-source-start", "source"),
    ("dacs-class-confidence", "dacs"),
    ("dacs-few-labels", "dacs"),
    ("dacs-online-0.5", "dacs"),
    ("dacs-online-0.5", "dacs-online-0.5-momentum-0.9"),
    ("dacs-logit-adjustment-0.5", "dacs"),
    ("dacs-online", "source"),
    ("dacs-logit-adjustment", "source"),
    ("dacs-logit-adjustment-0.5", "source"),
    ("dacs-online-0.5", "source"),
    ("daformer", "source"),
    ("daformer", "dacs"),
    ("daformer-logit-adjustment", "daformer"),
    ("daformer-online", "daformer"),
    ("daformer-online-0.5", "daformer"),
    ("daformer-logit-adjustment-0.5", "daformer"),
    ("daformer-logit-adjustment-0.5", "source"),
    ("daformer-logit-adjustment-0.5", "dacs-logit-adjustment-0.5"),
    ("daformer-online-no-density", "daformer"),
    ("daformer-online", "daformer-online-no-density"),
    ("mic", "source"),
    ("mic-online", "mic"),
    ("source-free", "source"),
    ("source-free-start", "source"),
    ("source-free", "source-free-start"),
]


def made_page(runs: Runs) -> str:
    """The whole page, as Markdown."""
    shifts = [name for name in ORDER if any(shift == name for shift, _, _ in runs)]
    parts = ["# Evidence", text(WORDS["introduction"]), text(WORDS["convention"])]
    parts += [*there(runs), *trained(runs, shifts), *in_training(runs, shifts), *after(runs, shifts)]
    parts += [*by_arm(runs), *few_labels(runs, shifts), *watched(runs, shifts), *foretold(runs)]
    parts += [
        *ruled(runs, shifts),
        *by_themselves(runs, shifts),
        *estimates(runs, shifts),
        *cost(runs, shifts),
    ]
    return "\n\n".join(parts) + "\n"


def there(runs: Runs) -> Iterator[str]:
    """Which runs there are, and what is missing."""
    yield "## What there is"
    yield text(
        f"{len(runs)} of {len(ARMS) * len(ORDER) * len(SEEDS)} runs are finished. Each cell names "
        "the seeds that are; the missing ones are what `make evidence` trains next."
    )
    rows = [[title, *(_seeds_there(runs, shift, arm) for shift in ORDER)] for arm, title in TITLES.items()]
    yield table(["trained with", *ORDER], rows)


def _seeds_there(runs: Runs, shift: str, arm: str) -> str:
    found = [str(seed) for seed in SEEDS if (shift, arm, seed) in runs]
    if not found:
        return MISSING
    return ", ".join(found) + ("" if len(found) == len(SEEDS) else f", others {MISSING}")


def trained(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """Scores without a correction after training."""
    for name in shifts:
        shift = load_shift(name)
        yield f"## {shift.title}"
        about = shift.recipe["about"].strip()
        yield text(f"The shift `{name}`: {about} Without a correction after training:")
        rows = []
        for arm, title in TITLES.items():
            found = [over_seeds(runs, name, arm, m) for m in (*QUALITY, "std_iou")]
            bias = over_seeds(runs, name, arm, "sum_abs_bias")
            if bias is not None:
                cells = [ranged(one) for one in found if one is not None]
                rows.append([title, *cells, ranged(bias, 1, 2), str(len(bias.values))])
        yield table(["trained with", "mIoU", "mAcc", "std of IoU", "sum of abs Bias", "seeds"], rows)


def in_training(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """Differences between arms."""
    yield "## What a change of the training changes"
    yield text(WORDS["in training"])
    rows = []
    for arm, against in PAIRS:
        found = [between_arms(runs, shifts, arm, against, m) for m in QUALITY]
        pairs = "0" if found[0] is None else str(len(found[0].all.values))
        rows.append([f"{TITLES[arm]} less {TITLES[against]}", *difference_cells(found, shifts), pairs])
    yield table(["change", *shifts, "mean", "worst mIoU", "pairs"], rows)
    yield "### As it is shipped"
    yield text(WORDS["shipped"])
    rows = []
    for arm, title in TITLES.items():
        found = [shipped(runs, shifts, arm, "source", m) for m in QUALITY]
        if found[0] is not None:
            rows.append([title, *difference_cells(found, shifts), str(len(found[0].all.values))])
    yield table(["trained with", *shifts, "mean", "worst mIoU", "pairs"], rows)


def after(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """Corrections of finished networks: ours, the baselines, and variants of ours."""
    titles = ["way", "strength", *shifts, "mean", "worst mIoU", "harmed"]
    yield "## What a correction after training changes"
    yield text(WORDS["after"])
    rows = [row for way, title in OURS.items() for row in _ours(runs, shifts, way, f"ours, {title}")]
    for way, title in BASELINES.items():
        rows += [[*_after(runs, shifts, way, title, strength), ""] for strength in BASELINE_STRENGTHS]
    yield table([*titles, "logit adjustment at equal mAcc"], rows)
    yield "### Variants"
    yield text(WORDS["varied"])
    rows = [row for way, title in VARIANTS.items() for row in _ours(runs, shifts, way, title)]
    yield table([*titles, "logit adjustment at equal mAcc"], rows)


def _ours(runs: Runs, shifts: Sequence[str], way: str, title: str) -> Iterator[list[str]]:
    for strength in STRENGTHS:
        equal = equal_adjustment(runs, shifts, way, strength)
        yield [*_after(runs, shifts, way, title, strength), "-" if equal is None else signed(equal)]


def _after(runs: Runs, shifts: Sequence[str], way: str, title: str, strength: str) -> list[str]:
    found = [after_training(runs, shifts, way, strength, m) for m in QUALITY]
    iou = found[0]
    harmed = "" if iou is None else f"{sum(v <= HARM for v in iou.all.values)} of {len(iou.all.values)}"
    return [title, strength, *difference_cells(found, shifts), harmed]


def equal_adjustment(runs: Runs, shifts: Sequence[str], way: str, strength: str) -> float | None:
    """Mean change of mIoU by the better logit adjustment, where it raises mAcc as `way` does."""
    return _adjustment_at(runs, shifts, after_training(runs, shifts, way, strength, "mean_accuracy"))


def _adjustment_at(runs: Runs, shifts: Sequence[str], accuracy: Differences | None) -> float | None:
    if accuracy is None:
        return None
    met = [at_equal(baseline_curve(runs, shifts, baseline), accuracy.all.mean) for baseline in BASELINES]
    return max((y for y in met if y is not None), default=None)


def baseline_curve(runs: Runs, shifts: Sequence[str], way: str) -> list[tuple[float, float]]:
    """(mean change of mAcc, mean change of mIoU) by strength, from (0, 0)."""
    curve = [(0.0, 0.0)]
    for strength in BASELINE_STRENGTHS:
        iou, accuracy = (after_training(runs, shifts, way, strength, m) for m in QUALITY)
        if iou is not None and accuracy is not None:
            curve.append((accuracy.all.mean, iou.all.mean))
    return curve


def by_themselves(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """What exports have where nobody chooses a strength, by whether training had evened the classes out."""
    yield "### The default"
    yield text(WORDS["default"])
    kinds: dict[str, list[str]] = {}
    for arm in TITLES:
        kinds.setdefault(default_of(arm)[1], []).append(arm)
    rows = []
    for title, arms in [
        *((f"corrected at {t}" if t != "0" else "not corrected", arms) for t, arms in kinds.items()),
        ("all", list(TITLES)),
    ]:
        cells = []
        for seeds in (SEEDS[:1], SEEDS[1:]):
            some = {key: run for key, run in runs.items() if key[1] in arms and key[2] in seeds}
            cells.append(outcome([by_default(some, shifts, m) for m in QUALITY]))
        rows.append([title, *cells])
    yield table(["networks", "seed 0", "other seeds"], rows)
    equal = _adjustment_at(runs, shifts, by_default(runs, shifts, "mean_accuracy"))
    if equal is not None:
        yield text(
            "The better of the two logit adjustments, at one strength for all networks, changes mIoU by "
            f"{signed(equal)} where it raises mAcc as much as the default does for all of them."
        )


def by_arm(runs: Runs) -> Iterator[str]:
    """The first way, by what was trained."""
    yield "### By what was trained"
    yield text(WORDS["by arm"])
    rows = []
    for arm, title in TITLES.items():
        of_arm = {key: run for key, run in runs.items() if key[1] == arm}
        found = [[after_training(of_arm, ORDER, "posthoc", t, m) for m in QUALITY] for t in STRENGTHS]
        cells = [both(*(None if one is None else one.all for one in pair)) for pair in found]
        rows.append([title, *cells, str(len(of_arm))])
    yield table(["trained with", *STRENGTHS, "runs"], rows)


def cost(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """Seconds of one iteration."""
    yield "## Cost"
    yield text(WORDS["cost"])
    rows = []
    for arm, title in TITLES.items():
        cells = []
        for shift in shifts:
            each = [
                r.processor_seconds / r.iterations for (s, a, _), r in runs.items() if (s, a) == (shift, arm)
            ]
            cells.append(f"{sum(each) / len(each):.2f}" if each else MISSING)
        rows.append([title, *cells])
    yield table(["trained with", *shifts], rows)
    total = sum(run.processor_seconds for run in runs.values())
    yield text(
        f"All {len(runs)} runs together took {total / 3600:.1f} hours of one core, without their scoring."
    )


def difference_cells(found: Sequence[Differences | None], shifts: Sequence[str]) -> list[str]:
    """A cell per shift, then mean and worst."""
    iou, accuracy = found
    if iou is None or accuracy is None:
        return [MISSING for _ in shifts] + ["", ""]
    cells = [both(iou.by_shift.get(shift), accuracy.by_shift.get(shift)) for shift in shifts]
    return [*cells, f"**{both(iou.all, accuracy.all)}**", signed(iou.all.low)]


def write_page(folder: Path = RESULTS, page: Path = PAGE) -> None:
    page.write_text(made_page(by_key(read_results(folder))))
