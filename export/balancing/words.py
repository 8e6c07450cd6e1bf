"""What the command says when all is done."""

from export.balancing.balance import Balanced

SHOWN = 3
"""Classes that a line names."""


def summary(made: Balanced) -> str:
    """The files, what changes on the footage, what does not, and what to do next, for a person."""
    names = made.exported.info.card.classes
    before, after = made.change.before, made.change.after
    order = sorted(range(len(names)), key=lambda c: -abs(after[c] - before[c]))
    moved = [
        f"{names[c]} {100 * before[c]:.1f} -> {100 * after[c]:.1f} %"
        for c in order[:SHOWN]
        if after[c] != before[c]
    ]
    most = f", most: {', '.join(moved)}" if moved else ""
    lines = [
        f"wrote {made.exported.path} ({made.exported.size / 1e6:.1f} MB) and {made.report}",
        f"  strength: {made.chosen.why}",
        f"  {100 * made.change.changed:.2g} % of the labels change{most}",
        *(f"  not corrected: {name}: {why}" for name, why in made.uncorrected.items()),
        *_borders(made),
        made.exported.verification.report(),
    ]
    if table := made.chosen.table():
        lines.append(table)
    return "\n".join([*lines, "next:", *(f"  {command}" for command in made.commands)])


def _borders(made: Balanced) -> list[str]:
    """What upsampling alone changes, where the model upsamples probabilities."""
    if made.at_borders is None:
        return []
    return [
        "  the model upsamples probabilities, the balanced file scores, which keep the margins of both sides "
        f"of a border: that alone makes {100 * made.at_borders:.2g} % of the labels others"
    ]
