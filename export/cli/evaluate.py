"""The command of `export` that scores a graph file."""

from pathlib import Path

import click

from adapt.errors import InputError
from export.cli.options import PATH, SIDES


@click.command("eval")
@click.argument("file", type=PATH)
@click.option("--data", type=PATH, required=True, help="Labelled folder.")
@click.option(
    "--tau",
    "taus",
    type=click.FloatRange(0, 2),
    multiple=True,
    help="Strength of the correction (repeat) [default: 0 and the folded one, as far as FILE has them].",
)
@click.option("--stats", type=PATH, help="From `calibrate`: then FILE may be any segmenter.")
@click.option("--profile", metavar="NAME", help="Correction to score, of a FILE that holds several.")
@click.option("--other-model", is_flag=True, help="--stats is of the same weights, exported another time.")
@click.option("--size", type=SIDES, help="Size that pictures are brought to first; labels keep theirs.")
@click.option(
    "--baselines",
    is_flag=True,
    help="Also score plain logit adjustment by the shares of the classes on --target.",
)
@click.option(
    "--target", type=PATH, multiple=True, help="Unlabelled pictures or videos, for --baselines (repeat)."
)
@click.option("--json", "json_path", type=PATH, help="Also write the scores to this file.")
@click.option("--confusion", type=PATH, help="Also draw the confusion matrices into this PNG.")
@click.option("--force", is_flag=True, help="Overwrite the files to write.")
def evaluate(
    file: Path,
    data: Path,
    taus: tuple[float, ...],
    stats: Path | None,
    profile: str | None,
    other_model: bool,
    size: tuple[int, int] | None,
    baselines: bool,
    target: tuple[Path, ...],
    json_path: Path | None,
    confusion: Path | None,
    force: bool,
) -> None:
    """Score FILE on labelled data, as it is shipped: IoU, accuracy and bias.

    Where the correction lowers the scores, a sentence says so. For a run trained with data.size, give the
    same --size to compare.
    """
    if other_model and stats is None:
        raise InputError("--other-model is of --stats; give both, or leave it out.")
    if profile is not None and stats is not None:
        raise InputError("--profile is of a FILE that holds several corrections, --stats another; give one.")
    if baselines != bool(target):
        raise InputError(
            "--baselines and --target belong together: plain logit adjustment takes the classes' shares from "
            "unlabelled pictures of the target, the same that the statistics are of; give both or neither."
        )
    from serve.media.files import check_outputs

    check_outputs([path for path in (json_path, confusion) if path is not None], force)

    from export.evaluate import score_file

    scored = score_file(file, data, taus, stats, size, other_model, target, profile)
    scored.publish(json_path, confusion)
