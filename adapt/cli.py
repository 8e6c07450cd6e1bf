"""Command line of the adaptation room. Heavy imports wait until a command runs."""

from pathlib import Path
from typing import Any, Literal

import click

from adapt.errors import Group, InputError

FOLDER = click.Path(path_type=Path)
Strength = click.FloatRange(0, 2)


class Size(click.ParamType):  # type: ignore[type-arg]
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        height, _, width = str(value).partition("x")
        if not (height.isdigit() and width.isdigit() and int(height) > 0 and int(width) > 0):
            self.fail(f"{value!r} is not a size such as 512x1024 (height x width).", param, ctx)
        return int(height), int(width)


@click.group(cls=Group)
def main() -> None:
    """Adapt a segmenter to a target domain without labels there."""


@main.command("sample-data")
@click.argument("out", type=FOLDER)
@click.option("--seed", default=0, show_default=True, help="Another seed gives other streets.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def sample_data(out: Path, seed: int, force: bool) -> None:
    """Write two synthetic street domains and a clip to OUT.

    The source is labelled, the target is not; target_eval holds labels for evaluation only.
    """
    from adapt.synthetic.sample import make_sample

    make_sample(out, seed, force=force)
    click.echo(f"wrote {out}/source, {out}/target, {out}/target_eval, {out}/target.mp4, {out}/classes.yaml")
    click.echo(f"next: adapt train --preset demo --source {out}/source --target {out}/target -o run")


@main.command()
@click.option("-o", "--output", type=FOLDER, help="Run folder to write.")
@click.option(
    "--source",
    multiple=True,
    metavar="FOLDER[=SHARE]",
    help="Labelled data set, or a part of it (repeat); =0.3 gives it that share of the draws.",
)
@click.option(
    "--target",
    multiple=True,
    metavar="PATH[=SHARE]",
    help="Data set or folder of images, or videos (repeat); shares as of sources.",
)
@click.option("--classes", type=FOLDER, help="Class file; by default the one that comes with the source.")
@click.option(
    "--label-map", type=FOLDER, help="YAML file `id: class`, if the source's labels have other ids."
)
@click.option("--images", metavar="GLOB", help="Pattern of the source's pictures, below its folder.")
@click.option("--labels", metavar="GLOB", help="Pattern of its label files.")
@click.option("--label-suffix", metavar="TEXT", help="_mask where X_mask.png belongs to X.jpg.")
@click.option(
    "--repair-labels", type=click.Choice(["nearest"]), help="Take odd colours for the nearest ones."
)
@click.option("--evaluate", type=FOLDER, help="Labelled data set of the target domain, for evaluation only.")
@click.option("--preset", help="Named starting point of the settings; `adapt presets` lists them.")
@click.option("--config", type=FOLDER, help="YAML file of settings.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="One setting (repeat).")
@click.option(
    "--resume",
    type=FOLDER,
    metavar="RUN",
    help="Continue an interrupted run; with --source and --target if its data has moved.",
)
@click.option("--force", is_flag=True, help="Replace the run folder if it exists.")
def train(
    resume: Path | None, output: Path | None, force: bool, settings: tuple[str, ...], **options: Any
) -> None:
    """Train on the labelled source and the unlabelled target, with balanced learning.

    Data sets are given by their root folder: GTA5, SYNTHIA, Cityscapes, ACDC, Dark Zurich, BDD100K and CamVid
    as they are downloaded, or images/ and labels/ with classes.yaml. Source and target take the train split,
    evaluation takes val; a folder inside (cityscapes/leftImg8bit/val, acdc/rgb_anon/night) takes that part.
    """
    moved = {"source": options["source"], "target": options["target"]}
    if resume is not None and (output or force or any(options[key] for key in options.keys() - moved)):
        raise InputError(
            "--resume continues a run with the settings in its folder; only --set may go with it, and "
            "--source and --target if the data has moved."
        )
    if resume is None and output is None:
        raise InputError("name the run folder to write with -o, or continue one with --resume.")

    from accelerate import PartialState

    from adapt.commands import train as commands

    if resume is not None:
        run = commands.resume(resume, settings, **moved)
    else:
        assert output is not None
        run = commands.train(output, settings=settings, force=force, **options)
    if not PartialState().is_main_process:  # the first rank speaks for all
        raise SystemExit(0 if run.card.finished else 130)
    if not run.card.finished:
        done = run.card.iterations
        click.echo(f"stopped at iteration {done}; continue with: adapt train --resume {run.path}")
        raise SystemExit(130)
    click.echo(f"wrote {run.path}")
    correction = "--with-correction" if run.config.method.gathers else "--without-correction"
    click.echo(f"next: blda export onnx {run.path} {correction} -o model.onnx")


@main.command()
@click.argument("data", type=FOLDER)
def classes(data: Path) -> None:
    """Print a draft of a class file for DATA, from the values in its label files, with their shares.

    adapt classes DATA > DATA/classes.yaml, then put in the names.
    """
    from adapt.data.finding import find_labelled
    from adapt.data.values.drafts import draft

    click.echo(draft(find_labelled(data, "train")), nl=False)


@main.command()
@click.argument("name", required=False)
def presets(name: str | None) -> None:
    """List the named starting points of `adapt train`, or print the settings of one.

    To change more of a preset than a few --set: adapt presets NAME > settings.yaml, edit it, and train with
    --config settings.yaml.
    """
    from adapt.config.presets import PRESETS
    from adapt.config.settings import load_config

    if name is not None:
        click.echo(load_config(name).to_yaml(), nl=False)
        return
    width = max(map(len, PRESETS))
    for key, preset in PRESETS.items():
        click.echo(f"{key:<{width}}  {preset.about}")


@main.command("eval")
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, required=True, help="Labelled folder.")
@click.option("--tau", "taus", type=Strength, multiple=True, help="Strength of the correction (repeat).")
@click.option("--teacher", is_flag=True, help="Evaluate the EMA teacher instead of the student.")
@click.option("--window", type=Size(), help="Cut pictures into windows of this size and average the logits.")
@click.option(
    "--overlap",
    type=click.FloatRange(0, 0.95),
    help="Share of its side that a window has in common with the next [default: 0.5].",
)
@click.option("--json", "json_path", type=FOLDER, help="Also write the scores to this file.")
@click.option("--confusion", type=FOLDER, help="Also draw the confusion matrices into this PNG.")
@click.option("--force", is_flag=True, help="Overwrite the files to write.")
def evaluate(
    run: Path,
    data: Path,
    taus: tuple[float, ...],
    teacher: bool,
    window: tuple[int, int] | None,
    overlap: float | None,
    json_path: Path | None,
    confusion: Path | None,
    force: bool,
) -> None:
    """Score a run on labelled data: IoU, accuracy and bias, uncorrected and corrected.

    An exported file is scored with `blda export eval`, as it is shipped.
    """
    if run.suffix == ".onnx":
        raise InputError(f"{run} is no run folder; score an exported file with `blda export eval {run}`.")
    if overlap is not None and window is None:
        raise InputError("--overlap is that of windows; give --window HEIGHTxWIDTH too.")
    from serve.media.files import check_outputs

    check_outputs([path for path in (json_path, confusion) if path is not None], force)

    from adapt.commands.inspection import score
    from adapt.model.window import Window
    from adapt.reporting.scorecard import Scorecard
    from adapt.run.run import load_run

    opened = load_run(run)
    cut = None if window is None else Window(window, 0.5 if overlap is None else overlap)
    scores = score(opened, data, taus, "teacher" if teacher else "student", cut)
    Scorecard(opened.classes.names, scores).publish(json_path, confusion)


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, help="Labelled folder; without it the bias is the label-free estimate.")
@click.option("--tau", default=0.2, show_default=True, type=Strength, help="Strength to compare with.")
@click.option("-o", "--output", type=FOLDER, help="Folder for the pictures; by default RUN/report.")
def bias(run: Path, data: Path | None, tau: float, output: Path | None) -> None:
    """Show which classes a run over- and under-predicts, as a table and as pictures."""
    from adapt.commands.inspection import bias_report
    from adapt.run.run import load_run

    report = bias_report(load_run(run), data, tau, output or run / "report")
    click.echo(report.table)
    for path in report.pictures:
        click.echo(f"wrote {path}")


@main.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--data", type=FOLDER, help="Labelled folder; without it only the label-free estimate is shown."
)
@click.option("-o", "--output", type=FOLDER, help="Picture to write; by default RUN/report/tau.png.")
@click.option("--force", is_flag=True, help="Overwrite the picture named with -o.")
def tau(run: Path, data: Path | None, output: Path | None, force: bool) -> None:
    """Help to choose the strength of the post-hoc correction: a table and a picture over a range of it.

    With labels: mIoU, mAcc, std of IoU and the measured sum of |Bias|, and how far the label-free estimate
    agrees. Always: the estimate of that sum, from the statistics in the run.
    """
    from serve.media.files import check_outputs

    check_outputs([] if output is None else [output], force)

    from adapt.commands.inspection import strengths
    from adapt.reporting.pictures import draw_sweep
    from adapt.run.run import load_run

    opened = load_run(run)
    picture = output or run / "report" / "tau.png"
    picture.parent.mkdir(exist_ok=True)
    check_outputs([picture], force=True)
    sweep = strengths(opened, data)
    click.echo(sweep.table())
    click.echo(sweep.advice())
    draw_sweep(sweep, picture)
    click.echo(f"wrote {picture}")


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, help="Labelled folder; by default the one the run was evaluated on.")
@click.option("--tau", default=0.2, show_default=True, type=Strength, help="Strength to compare with.")
@click.option("-o", "--output", type=FOLDER, help="Page to write; by default RUN/report/report.html.")
@click.option("--force", is_flag=True, help="Overwrite the page named with -o.")
def report(run: Path, data: Path | None, tau: float, output: Path | None, force: bool) -> None:
    """Show a run on one HTML page that needs nothing else: no network, no scripts, pictures inside.

    Curves, scores and bias per class, logits against the anchors over training, the pictures it was trained
    on, the best and the worst ones, the confusion matrix, and what to do next.
    """
    from serve.media.files import check_outputs

    check_outputs([] if output is None else [output], force)

    from adapt.reporting.web_report import write_report
    from adapt.run.run import load_run

    opened = load_run(run)
    page = output or run / "report" / "report.html"
    page.parent.mkdir(exist_ok=True)
    write_report(opened, data, tau, page)
    click.echo(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB); open it in a browser")


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--target", type=FOLDER, multiple=True, help="Images or videos; default: the run's own.")
@click.option("--source-free", is_flag=True, help="Pool the anchors from the target; needs no source data.")
@click.option(
    "--anchors",
    type=click.Choice(["pixels", "classes"]),
    help="Pool the anchors over pixels, as the paper does, or over classes; default: as the run was set.",
)
def statistics(
    run: Path, target: tuple[Path, ...], source_free: bool, anchors: Literal["pixels", "classes"] | None
) -> None:
    """Gather the post-hoc correction's statistics anew, without training.

    Balances a finished run for another place: give that place's footage as --target.
    """
    from adapt.commands.inspection import gather

    classes = gather(run, target, source_free, anchors)
    click.echo(f"wrote {run}/model.safetensors")
    if classes:
        click.echo(f"too few pixels, so left uncorrected: {', '.join(classes)}")
