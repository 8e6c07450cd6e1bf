"""What a graph file says about itself: for programs, and in one wording for the commands and the web page."""

import dataclasses
from typing import Any

from serve.card import Correction, GraphInfo
from serve.inference.runtime import Runtime, Tensor
from serve.words import verification_sentences


def describe(runtime: Runtime) -> dict[str, Any]:
    """Everything that the file says about itself, ready for JSON."""
    info = runtime.info
    return {
        "file": str(runtime.path),
        "bytes": runtime.size,
        "provider": runtime.provider,
        "inputs": [dataclasses.asdict(tensor) for tensor in runtime.inputs],
        "outputs": [dataclasses.asdict(tensor) for tensor in runtime.outputs],
        "card": dataclasses.asdict(info.card),
        "correction": dataclasses.asdict(info.correction) if info.correction else None,
        "profiles": [dataclasses.asdict(each) for each in info.profiles],
        "scores": info.scores if info.correction else "logits",
        "verification": info.verification,
    }


def facts(runtime: Runtime) -> dict[str, str]:
    """Names and values of what takes one line each."""
    card = runtime.info.card
    size = "any size" if card.size is None else f"{card.size[0]}x{card.size[1]}, others are resized"
    if runtime.largest is not None and card.size is None:
        size = f"up to {runtime.largest[0]}x{runtime.largest[1]}, larger ones are made smaller"
    return {
        "file": f"{runtime.path.name} ({runtime.size / 1e6:.1f} MB)",
        "model": card.model or "not named",
        "licence": card.license_note or "not stated",
        "pictures": f"RGB, {size} (height x width)",
        "runs on": runtime.provider,
    }


def corrections_of(info: GraphInfo) -> list[str]:
    """What is folded in: one correction, or several profiles."""
    if not info.profiles:
        return correction_sentences(info.correction)
    names = [each.name for each in info.profiles]
    first = (
        f"{len(names)} profiles, of which --profile chooses one: {', '.join(names)}; {names[0]} if none is."
    )
    return [
        first,
        *(f"{each.name}: {' '.join(correction_sentences(each.correction))}" for each in info.profiles),
    ]


def correction_sentences(correction: Correction | None) -> list[str]:
    """What is folded in, and how exactly."""
    if correction is None:
        return ["None: this file was exported without one."]
    when = "set at run time, by default" if correction.runtime_tau else "folded in"
    slides = " at tau 0.2, in proportion above" if correction.runtime_tau else ""
    sentences = [
        f"Strength tau = {correction.tau:g}, {when}.",
        f"Its statistics come from {correction.statistics}.",
        f"Its curves have at most {correction.knots} knots for a class; scores are exact to "
        f"{correction.error_bound:.2g} logits, proven{slides}.",
    ]
    if correction.uncorrected:
        sentences.append(f"Left as they are, for want of statistics: {', '.join(correction.uncorrected)}.")
    if correction.excluded:
        sentences.append(f"No part in it, and no pixel more or less, have: {', '.join(correction.excluded)}.")
    return sentences


def verified_sentences(info: GraphInfo) -> list[str]:
    """What was checked."""
    return verification_sentences(info.verification) or ["Never; `blda export verify` does it."]


def to_text(runtime: Runtime) -> str:
    """All of it for a person."""
    info = runtime.info
    lines = [_row(name, value) for name, value in facts(runtime).items()]
    lines += [
        _row("classes", ", ".join(info.card.classes)),
        _row("inputs", "; ".join(_tensor(t) for t in runtime.inputs)),
        _row("outputs", "; ".join(_tensor(t) for t in runtime.outputs)),
    ]
    lines += _rows("correction", corrections_of(info))
    return "\n".join(lines + _rows("verified", verified_sentences(info)))


def _rows(label: str, sentences: list[str]) -> list[str]:
    return [_row(label if i == 0 else "", sentence) for i, sentence in enumerate(sentences)]


def _row(label: str, text: str) -> str:
    return f"  {label:<11}{text}"


def _tensor(tensor: Tensor) -> str:
    shape = f" [{', '.join(map(str, tensor.shape))}]" if tensor.shape else ""
    return f"{tensor.name} {tensor.dtype}{shape}"
