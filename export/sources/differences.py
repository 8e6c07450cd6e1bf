"""In what two cards differ, in words."""

from dataclasses import fields

from serve.card import Card


def differences(theirs: Card, ours: Card, name: str) -> list[str]:
    """In what the card of a graph differs from that of the source called `name`, apart from its size."""
    names = [f.name for f in fields(Card) if f.name not in ("size", "model", "license_note")]
    values = [(each, getattr(theirs, each), getattr(ours, each)) for each in names]
    return [
        f"its card says {each} {_shown(first)}, {name} has {_shown(second)}"
        for each, first, second in values
        if first != second
    ]


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
