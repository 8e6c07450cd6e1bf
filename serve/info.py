"""What `serve info` says about a graph file."""

import dataclasses
from typing import Any

from serve.inference.runtime import Runtime, Tensor


def describe(runtime: Runtime) -> dict[str, Any]:
    """Everything that the file says about itself, ready for JSON."""
    info = runtime.info
    return {
        "file": str(runtime.path),
        "bytes": runtime.path.stat().st_size,
        "provider": runtime.provider,
        "inputs": [dataclasses.asdict(tensor) for tensor in runtime.inputs],
        "outputs": [dataclasses.asdict(tensor) for tensor in runtime.outputs],
        "card": dataclasses.asdict(info.card),
        "correction": dataclasses.asdict(info.correction) if info.correction else None,
        "verification": info.verification,
    }


def to_text(runtime: Runtime) -> str:
    """The same for a person."""
    info = runtime.info
    card, correction = info.card, info.correction
    size = f"{card.size[0]}x{card.size[1]} (height x width), others are resized" if card.size else "any size"
    lines = [
        f"{runtime.path}  ({runtime.path.stat().st_size / 1e6:.1f} MB, runs on {runtime.provider})",
        _row("model", card.model or "not named"),
        _row("licence", card.license_note or "not stated"),
        _row("pictures", f"RGB, {size}"),
        _row("classes", ", ".join(card.classes)),
        _row("inputs", "; ".join(_tensor(t) for t in runtime.inputs)),
        _row("outputs", "; ".join(_tensor(t) for t in runtime.outputs)),
    ]
    if correction is None:
        lines.append(_row("correction", "none"))
    else:
        when = "set at run time, by default" if correction.runtime_tau else "folded in"
        lines.append(_row("correction", f"tau = {correction.tau:g}, {when}"))
        lines.append(_row("", f"statistics from {correction.statistics}"))
        slides = " at tau = 0.2, in proportion to tau" if correction.runtime_tau else ""
        lines.append(_row("", f"error of the fold at most {correction.error_bound:.2g} logits{slides}"))
        if correction.uncorrected:
            lines.append(_row("", f"without statistics, so uncorrected: {', '.join(correction.uncorrected)}"))
    verified = [f"{key.replace('_', ' ')}: {_value(value)}" for key, value in info.verification.items()]
    for label, text in zip(["verified"] + [""] * len(verified), verified or ["never"], strict=False):
        lines.append(_row(label, text))
    return "\n".join(lines)


def _row(label: str, text: str) -> str:
    return f"  {label:<11}{text}"


def _tensor(tensor: Tensor) -> str:
    shape = f" [{', '.join(map(str, tensor.shape))}]" if tensor.shape else ""
    return f"{tensor.name} {tensor.dtype}{shape}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(each)}" for key, each in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
