"""The sections of docs/evidence.md on what is said without labels, or with few, and what became of it."""

from collections.abc import Iterator, Sequence

from evidence_arms import SEEDS, TITLES
from evidence_premise import SIGNS
from evidence_summary import (
    Differences,
    Key,
    Runs,
    after_training,
    by_chosen,
    by_rule,
    doubted,
    estimate_of,
    spread,
    value,
    worth_of,
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
    number,
    signed,
    table,
    text,
)
from evidence_watch import judged_watch

RULED = (
    *(("posthoc", strength) for strength in STRENGTHS),
    *(("class anchors", strength) for strength in STRENGTHS),
    *(("source-free", strength) for strength in STRENGTHS),
    *(("source-free, class anchors", strength) for strength in STRENGTHS),
)
"""Corrections that the rule of adapt/balance/bias.py is tried on."""
JUDGED = (("posthoc", "0.5"), ("eps 0.1", "1"))
"""Corrections whose harm the signs should foretell: a moderate one, and one that does harm."""


def few_labels(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """The strength that a few labelled pictures choose, beside fixed ones."""
    yield "## A few labelled pictures"
    yield text(WORDS["few"])
    rows = []
    for title, chosen in [("chosen by the 16 pictures", None), *((f"{t} for all", t) for t in STRENGTHS)]:
        found = [by_chosen(runs, shifts, chosen, measure) for measure in QUALITY]
        if found[0] is None or found[1] is None:
            rows.append([title, MISSING, "", "", "", ""])
            continue
        iou, accuracy = (one.all for one in found if one is not None)
        harmed = f"{sum(v <= HARM for v in iou.values)} of {len(iou.values)}"
        means = [signed(iou.mean), signed(accuracy.mean), signed(iou.low)]
        rows.append([title, *means, signed(min(one.mean for one in found[0].by_shift.values())), harmed])
    yield table(["strength", "mIoU", "mAcc", "worst mIoU", "mIoU on the worst shift", "harmed"], rows)


def watched(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """Whether the watch's warnings and choices were right."""
    yield "## Was the watch right?"
    yield text(WORDS["watch"])
    rows = []
    for name, chosen in [*((shift, (shift,)) for shift in shifts), ("all", tuple(shifts))]:
        found = judged_watch(runs, chosen)
        gain = found.kept_gain
        kept = "-" if gain is None else f"{signed(gain.mean)} ({signed(gain.low)})"
        rows.append(
            [
                name,
                str(found.runs),
                f"{found.warned_below} of {found.below}",
                f"{found.warned_above} of {found.runs - found.below}",
                f"{found.kept_better} of {found.kept}",
                kept,
                number(found.agreement),
            ]
        )
    titles = ["shift", "runs", "warned of those below", "warned of the others", "kept weights better"]
    yield table([*titles, "by mean mIoU (worst)", "agreement with gain"], rows)


def foretold(runs: Runs) -> Iterator[str]:
    """What signs without labels are worth."""
    yield "## Does it foretell harm?"
    yield text(WORDS["foretold"])
    changes = [_changes(runs, way, strength) for way, strength in JUDGED]
    rows = []
    for name, about in SIGNS.items():
        sign = {key: value for key, run in runs.items() if (value := run.signs.get(name)) is not None}
        cells = []
        for change in changes:
            worth = worth_of(sign, change, HARM)
            cells += [number(worth.over_all), number(worth.within), number(worth.told, "")]
        rows.append([f"{name}: {about}", *cells, str(len(sign))])
    titles = [f"{what}, {way} {strength}" for way, strength in JUDGED for what in ("all", "within", "told")]
    yield table(["sign", *titles, "networks"], rows)
    for (way, strength), change in zip(JUDGED, changes, strict=True):
        harmed = sorted(key for key, value in change.items() if value <= HARM)
        listed = ", ".join(f"{shift} {TITLES[arm]} ({seed})" for shift, arm, seed in harmed)
        yield text(
            f"Harmed by {OURS.get(way) or VARIANTS[way]} at {strength}: {len(harmed)} of {len(change)} "
            f"networks{': ' if harmed else ''}{listed}."
        )


def _changes(runs: Runs, way: str, strength: str) -> dict[Key, float]:
    """Change of mIoU by a correction, of every network that has it."""
    pairs = {
        key: (value(run, "mean_iou", way, strength), value(run, "mean_iou")) for key, run in runs.items()
    }
    return {key: a - b for key, (a, b) in pairs.items() if a is not None and b is not None}


def ruled(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """What the rule makes of the corrections, on the networks it was chosen on and on the others."""
    yield "### The rule"
    failing = sorted(key for key, run in runs.items() if doubted(run))
    listed = ", ".join(f"{shift} {TITLES[arm]} ({seed})" for shift, arm, seed in failing)
    yield text(f"{WORDS['rule']} It leaves {len(failing)} of {len(runs)} networks alone: {listed or 'none'}.")
    rows = []
    for way, strength in RULED:
        cells = [OURS.get(way) or VARIANTS[way], strength]
        for apply in (after_training, by_rule):
            for seeds in (SEEDS[:1], SEEDS[1:]):
                some = {key: run for key, run in runs.items() if key[2] in seeds}
                cells.append(outcome([apply(some, shifts, way, strength, m) for m in QUALITY]))
        rows.append(cells)
    titles = [f"{how}, {which}" for how in ("all", "by the rule") for which in ("seed 0", "other seeds")]
    yield table(["way", "strength", *titles], rows)


def outcome(found: Sequence[Differences | None]) -> str:
    """Means of mIoU and mAcc, the worst mIoU, and how many networks are harmed."""
    iou, accuracy = (None if one is None else one.all for one in found)
    if iou is None:
        return MISSING
    harmed = sum(v <= HARM for v in iou.values)
    return f"{both(iou, accuracy)}, {signed(iou.low)}, {harmed} of {len(iou.values)}"


def estimates(runs: Runs, shifts: Sequence[str]) -> Iterator[str]:
    """What the estimate of the bias is worth."""
    yield "## The estimate without labels"
    yield text(WORDS["estimated"])
    rows = []
    for shift in shifts:
        found = [
            one for key, run in runs.items() if key[0] == shift and (one := estimate_of(run)) is not None
        ]
        columns = (
            [getattr(one, name) for one in found] for name in ("size", "over_strengths", "over_classes")
        )
        spreads = [spread(v for v in column if v == v) for column in columns]
        cells = [MISSING if one is None else f"{one.mean:.2f} ({one.low:.2f})" for one in spreads]
        rows.append([shift, *cells, str(len(found))])
    yield table(["shift", "size", "over strengths", "over classes", "networks"], rows)
