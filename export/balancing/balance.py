"""What `export balance` does: anybody's model and footage in, a balanced file and a page about it out.

It is `export calibrate` and `export onnx --stats` in one, by the same functions: the file is the one that
these would write, checked on pictures of the footage. Between the two it looks at what was found, chooses the
strength, and counts what changes.
"""

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx

from adapt.data.classes import IGNORE, ClassList
from adapt.data.datasets import UnlabelledImages, check_labels
from adapt.data.domains import open_labelled
from adapt.errors import InputError
from adapt.run.cards import DEFAULT_TAU
from export.balancing.found import found
from export.balancing.page import Told, page
from export.balancing.seen import Change, Pair, at_borders, change, pairs, shown, uncorrected
from export.balancing.strength import Chosen, choose_strength
from export.fold.folded import metadata_of
from export.fold.tables import MAX_TAU
from export.foreign.convention import ChannelOrder, Layout, Triple
from export.pipeline import Exported, export_onnx
from export.sources.statistics_file import write_statistics
from export.sources.trained import as_onnx, named
from export.statistics.calibrate import Looked, Request, calibrate_on, look, open_footage, told_of
from serve.card import Key, Upsampled
from serve.media.files import check_outputs
from serve.media.images import write_image
from serve.media.whole import replacing, scratch

CHECKED_WORK, CHECKED_ROWS = 2**31, 128
"""Most terms C^2 P of the P pixels of a picture that the file is checked on, and the fewest rows for that."""
CHECKED = "the footage"
"""Folder of the pictures that the file is checked on; its name goes into the file."""


@dataclass(frozen=True, eq=False)
class Balanced:
    """What was made."""

    exported: Exported
    report: Path
    """The page."""
    chosen: Chosen
    change: Change
    uncorrected: dict[str, str]
    """Why, by class."""
    commands: tuple[str, ...]
    """That come next."""
    at_borders: float | None = None
    """Of a model that upsamples probabilities itself, the share of the labels of the shown pictures that are
    others, before any correction, where scores are upsampled; None of a model that does not."""


def balance(
    model: Path | str,
    target: Sequence[Path | str],
    output: Path | str,
    *,
    labels: Path | None = None,
    report: Path | None = None,
    tau: float | None = None,
    gather: bool = False,
    weights: Path | None = None,
    classes: Path | None = None,
    frames: int = 200,
    logits: str | None = None,
    layout: Layout | None = None,
    channel_order: ChannelOrder | None = None,
    size: tuple[int, int] | None = None,
    stride: int | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    range: int | None = None,
    inputs: Sequence[str] = (),
    leave: Sequence[str] = (),
    upsample: Upsampled | None = None,
    force: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Balanced:
    """Balance any segmenter for the footage it meets, without labels and without training.

    Nothing is at `output` before the file passed its check; the page follows it.

    Args:
        model: an ONNX file; or a network in torch, as `export.sources.trained.as_onnx` takes it.
        target: folders of pictures and videos; no labels are needed.
        output: the balanced file.
        labels: a folder of a few labelled pictures: they choose the strength, if another than the default is
            better than noise, and give a table of before and after.
        report: the page; None is `output` with the ending .html.
        tau: strength in [0, 2]; None chooses it.
        gather: also output the logits, for `serve --gather` to count.
        weights: state dict for what a file.py:function returns.
        classes: class file of the model's outputs, in their order; None takes what the model says of itself.
        frames: frames per video.
        logits: name of the logits in the graph; None is its one float output.
        layout, channel_order, size, stride, mean, std, range, inputs, leave, upsample: see `calibrate`.
        force: replace what is at `output` and `report`.
        say: called with each step and finding, in words.

    Raises:
        InputError: a model, footage or labels that can't be used, or a check that failed.
        UnknownError: something that only the person can tell.
    """
    model, output = Path(model), Path(output)
    report = output.with_suffix(".html") if report is None else report
    told = told_of(layout, channel_order, size, stride, mean, std, range, inputs, upsample)
    _check_outputs(model, output, report, tau, force)
    targets = tuple(map(Path, target))
    with ExitStack() as stack:
        place = stack.enter_context(scratch())
        say(f"[1/5] looking at {model}")
        file = as_onnx(model, weights, size, place)
        stack.enter_context(named(file, model))
        request = Request(file, targets, None, classes, 1, frames, logits, told, tuple(leave))
        looked = look(request)
        facts = found(looked, file)
        for name, words in facts.items():
            say(f"  {name + ':':<15}{words}")
        _check_early(looked, labels)
        footage = open_footage(request, looked, place / "frames")
        say(f"[2/5] running it on {len(footage)} pictures of the footage")
        outcome = calibrate_on(footage, request, looked)
        stats = place / "stats.safetensors"
        write_statistics(stats, outcome.calibration.statistics, outcome.calibrated)
        say("[3/5] choosing the strength")
        chosen = choose_strength(file, stats, looked.network.intake.size, tau, labels)
        say(f"  {chosen.why}")
        say("[4/5] folding and checking")
        checked, seen = _checked_on(footage, place / CHECKED, looked), list[Pair]()
        exported = export_onnx(
            file,
            output,
            tau=chosen.tau,
            data=checked,
            stats=stats,
            gather=gather,
            upsample=upsample,
            force=force,
            say=lambda step: say(f"  {step.replace(str(file), str(model))}"),
            use=lambda file: seen.extend(pairs(looked.network, footage, file)),
        )
        say(f"[5/5] writing {report}")
        made = Balanced(
            exported,
            report,
            chosen,
            change(outcome, chosen.tau),
            uncorrected(outcome, chosen.tau),
            _commands(output, chosen.tau, labels),
            at_borders(seen),
        )
        _write_page(made, looked, facts, seen, force)
    return made


def _check_outputs(model: Path, output: Path, report: Path, tau: float | None, force: bool) -> None:
    """What can be said before anything is opened."""
    if output.suffix.lower() != ".onnx":
        raise InputError(
            f"-o is {output}, but the balanced file is an ONNX file; give a name that ends in .onnx."
        )
    if output.resolve() == model.resolve():
        raise InputError(f"-o is {model} itself, which is read; give another name.")
    if report.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--report is {report}, but the page is HTML; give a name that ends in .html.")
    if tau is not None and not 0 <= tau <= MAX_TAU:
        raise InputError(
            f"--tau is {tau:g}, but must lie in [0, {MAX_TAU:g}]; leave it out to have it chosen."
        )
    check_outputs([output, report], force)


def _check_early(looked: Looked, labels: Path | None) -> None:
    """What would otherwise fail after the footage was read: labels of no use."""
    if labels is not None:
        numbers = tuple(range(len(looked.names)))
        listed = ClassList(looked.names, numbers, looked.palette, ignore=(IGNORE,))
        check_labels(open_labelled(labels, listed, looked.network.intake.size))


def _checked_on(footage: UnlabelledImages, folder: Path, looked: Looked) -> Path:
    """A folder of the pictures that the page shows, for `export_onnx` to check the file on.

    Of many classes, middle rows of these, if the model takes pictures of any size: the file takes C^2
    numbers a pixel.
    """
    folder.mkdir()
    for place in shown(len(footage)):
        height, width = footage[place].shape[:2]
        rows = max(CHECKED_ROWS, CHECKED_WORK // (len(looked.names) ** 2 * width))
        if looked.network.intake.size is None and rows < height:
            top = (height - rows) // 2
            write_image(folder / f"{place:06d}.png", footage[place][top : top + rows])
            continue
        path = footage.paths[place].resolve()
        (folder / f"{place:06d}{path.suffix}").symlink_to(path)
    return folder


def _commands(output: Path, tau: float, labels: Path | None) -> tuple[str, ...]:
    """What to do next."""
    file = shlex.quote(str(output))
    other = tau / 2 if tau else DEFAULT_TAU
    few = "FEW" if labels is None else shlex.quote(str(labels))
    return (
        f"blda serve info {file}",
        f"blda serve image {file} PICTURES -o labels/",
        f"blda serve video {file} VIDEO -o video.mp4",
        f"blda export onnx {file} --tau {other:g} -o other.onnx    # another strength, of the same",
        f"blda export eval {file} --data {few}    # scores, with labels",
    )


def _write_page(
    made: Balanced, looked: Looked, facts: dict[str, str], seen: Sequence[Pair], force: bool
) -> None:
    output, info = made.exported.path, made.exported.info
    assert info.correction is not None
    told = Told(
        title=f"{looked.network.path.name}, balanced",
        found=facts,
        card=info.card,
        correction=info.correction,
        curves=metadata_of(onnx.load(output, load_external_data=False))[Key.CURVES],
        chosen=made.chosen,
        change=made.change,
        uncorrected=made.uncorrected,
        pairs=seen,
        checked=made.exported.verification.report(),
        commands=made.commands,
    )
    with replacing(made.report, overwrite=force) as temporary:
        temporary.write_text(page(told), encoding="utf-8")
