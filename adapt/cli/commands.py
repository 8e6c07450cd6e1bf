"""Command line of the adaptation room. Heavy imports wait until a command runs."""

import json
from pathlib import Path
from typing import Any, Literal

import click

from adapt.cli.checking import check
from adapt.cli.measuring import evaluate, tau
from adapt.cli.options import FOLDER, Strength, training_options
from adapt.errors import Group, InputError


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
@training_options
@click.option(
    "--resume",
    type=FOLDER,
    metavar="RUN",
    help="Continue an interrupted run; with --source, --target, … if its data has moved.",
)
@click.option("--force", is_flag=True, help="Replace the run folder if it exists.")
def train(
    resume: Path | None, output: Path | None, force: bool, settings: tuple[str, ...], **options: Any
) -> None:
    """Train on the labelled source and the unlabelled target, with balanced learning.

    With --from and without --source, somebody's trained model is adapted to the target alone.

    Data sets are given by their root folder: GTA5, SYNTHIA, Cityscapes, ACDC, Dark Zurich, BDD100K and CamVid
    as they are downloaded, or images/ and labels/ with classes.yaml. Source and target take the train split,
    evaluation takes val; a folder inside (cityscapes/leftImg8bit/val, acdc/rgb_anon/night) takes that part.
    """
    moved = {key: options[key] for key in ("source", "target", "target_labels", "evaluate")}
    if resume is not None and (output or force or any(options[key] for key in options.keys() - moved)):
        raise InputError(
            "--resume continues a run with the settings in its folder; only --set may go with it, and "
            "--source, --target, --target-labels and --evaluate if the data has moved."
        )
    if resume is None and output is None:
        raise InputError("name the run folder to write with -o, or continue one with --resume.")

    from accelerate import PartialState

    from adapt.commands import train as commands
    from adapt.config.presets import AUTO
    from adapt.evaluation.verdict import harm, recorded

    if resume is not None:
        run = commands.resume(resume, settings, **moved)
    else:
        assert output is not None
        options["preset"] = options["preset"] or AUTO
        run = commands.train(output, settings=settings, force=force, **options)
    if not PartialState().is_main_process:  # the first rank speaks for all
        raise SystemExit(0 if run.card.finished else 130)
    if not run.card.finished:
        done = run.card.iterations
        click.echo(f"stopped at iteration {done}; continue with: adapt train --resume {run.path}")
        raise SystemExit(130)
    click.echo(f"wrote {run.path}")
    said = harm(recorded(run.card.evaluation, run.tau))
    if said:
        click.echo(said)
    correct = run.config.method.gathers and not said and run.tau > 0
    correction = "--with-correction" if correct else "--without-correction"
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
    from adapt.config.presets import AUTO, AUTO_ABOUT, PRESETS
    from adapt.config.settings import load_config

    if name == AUTO:
        raise InputError(
            "the preset auto is chosen from data and machine; `adapt check --source A --target B` prints "
            "what it is for them."
        )
    if name is not None:
        click.echo(load_config(name).to_yaml(), nl=False)
        return
    width = max(map(len, PRESETS))
    click.echo(f"{AUTO:<{width}}  {AUTO_ABOUT}")
    for key, preset in PRESETS.items():
        click.echo(f"{key:<{width}}  {preset.about}")


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, help="Labelled folder; without it the bias is the label-free estimate.")
@click.option("--tau", "strength", type=Strength, help="Strength to compare with [default: the run's].")
@click.option("-o", "--output", type=FOLDER, help="Folder for the pictures; by default RUN/report.")
@click.option("--json", "json_path", type=FOLDER, help="Also write the table to this file.")
@click.option("--force", is_flag=True, help="Overwrite the file of --json.")
def bias(
    run: Path,
    data: Path | None,
    strength: float | None,
    output: Path | None,
    json_path: Path | None,
    force: bool,
) -> None:
    """Show which classes a run over- and under-predicts, as a table and as pictures."""
    from serve.media.files import check_outputs

    check_outputs([] if json_path is None else [json_path], force)

    from adapt.commands.inspection import bias_report
    from adapt.run.run import load_run, write_text

    opened = load_run(run)
    chosen = opened.tau if strength is None else strength
    report = bias_report(opened, data, chosen, output or run / "report")
    click.echo(report.table)
    if report.harm:
        click.echo(report.harm)
    for path in report.pictures:
        click.echo(f"wrote {path}")
    if json_path is not None:
        write_text(json_path, json.dumps(report.to_dict()) + "\n")
        click.echo(f"wrote {json_path}")


for command in (check, evaluate, tau):
    main.add_command(command)


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, help="Labelled folder; by default the one the run was evaluated on.")
@click.option("--tau", "strength", type=Strength, help="Strength to compare with [default: the run's].")
@click.option("-o", "--output", type=FOLDER, help="Page to write; by default RUN/report/report.html.")
@click.option("--force", is_flag=True, help="Overwrite the page named with -o.")
def report(run: Path, data: Path | None, strength: float | None, output: Path | None, force: bool) -> None:
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
    write_report(opened, data, opened.tau if strength is None else strength, page)
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
    from adapt.run.cards import read_card

    classes = gather(run, target, source_free, anchors)
    click.echo(f"wrote {run}/model.safetensors")
    chosen = read_card(run).tau
    if chosen is not None:
        click.echo(
            f"tau {chosen:g} was chosen with the former statistics; choose again with `adapt tau {run} "
            "--data LABELLED --write`"
        )
    if classes:
        click.echo(f"too few pixels, so left uncorrected: {', '.join(classes)}")
