"""From a run folder, or a graph of ours, to a verified file: what the command line calls."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from adapt.errors import InputError
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info, record_verification
from export.sources.source import Source
from export.verification.parity import verify
from export.verification.result import Verification
from serve.media.images import Image
from serve.media.whole import replacing


def build(
    source: Source, strength: Strength | None, size: tuple[int, int] | None, extras: Extras
) -> onnx.ModelProto:
    """The deployable graph.

    Raises:
        InputError: a size too small, or what `fold` refuses.
    """
    card = source.card
    if size is not None and min(size) < card.minimum_size:
        raise InputError(
            f"--size is {size[0]}x{size[1]}, but both sides must have at least {card.minimum_size} pixels."
        )
    made_from = source.network.made_from
    return fold(source.logits_graph, replace(card, size=size), strength, extras, made_from)


def write_verified(
    model: onnx.ModelProto,
    output: Path,
    source: Source,
    frames: Sequence[Image],
    pictures: str,
    *,
    overwrite: bool = True,
) -> Verification:
    """Check the graph, store the result in it and write it; nothing appears at `output` if the check fails.

    Args:
        overwrite: replace what is at `output` by then; else it is kept, see `serve.media.whole.unfinished`.

    Raises:
        InputError: the check failed, or the graph is not valid ONNX.
    """
    with replacing(output, overwrite=overwrite) as temporary:
        onnx.save(model, temporary)
        written = onnx.load(temporary)
        onnx.checker.check_model(written, full_check=True)
        faults = source.unlike(graph_info(written, str(output)).card)
        reference = source.reference()
        result = verify(written, str(output), reference, source.words, frames, pictures, faults=faults)
        if not result.passed:
            raise InputError(f"nothing was written to {output}, because the check {result.report()}")
        record_verification(model, result.record(), str(output))
        onnx.save(model, temporary)
    return result
