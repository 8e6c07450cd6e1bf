"""The commands of `export` that start from a deployable graph: tensorrt, triton, show."""

from pathlib import Path
from typing import Any

import click

from adapt.errors import InputError
from export.cli.options import BATCH, FORCE, PATH, SIDES


@click.command("tensorrt")
@click.argument("file", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Engine to write, with its card beside it.")
@click.option("--rtx", is_flag=True, help="Build for TensorRT for RTX, which needs no GPU to build.")
@click.option("--min", "least", type=BATCH, help="Smallest batch [default: one of the smallest pictures].")
@click.option("--opt", "best", type=BATCH, help="Batch to tune for [default: the largest of 512x1024].")
@click.option("--max", "most", type=BATCH, help="Largest batch [default: one of 1088x1920].")
@click.option("--workspace", type=click.IntRange(1), help="Memory for the kernels, in MiB.")
@click.option("--timing-cache", type=PATH, help="File of kernel timings, read and written.")
@FORCE
def tensorrt(
    file: Path,
    output: Path,
    rtx: bool,
    least: Any,
    best: Any,
    most: Any,
    workspace: int | None,
    timing_cache: Path | None,
    force: bool,
) -> None:
    """Build a TensorRT engine from FILE, a graph made by `export onnx`.

    It computes in the precision of the graph: export that with --precision fp16. An engine runs on GPUs of
    the kind that it was built on; one built with --rtx runs on RTX GPUs of several generations.
    """
    if output.suffix != ".engine":
        raise InputError(f"{output} must end in .engine, by which `serve` knows what it is.")
    from serve.media.files import check_outputs

    check_outputs([output, output.with_name(output.name + ".json")], force)

    from export.deploy.tensorrt import Options, build_engine, profile_for
    from export.fold.folded import graph_info
    from export.sources.source import read_model

    model = read_model(file)
    profile = profile_for(graph_info(model, str(file)).card, least, best, most)
    click.echo(f"building for {profile.words()}", err=True)
    options = Options(rtx, workspace, timing_cache)
    built = build_engine(model, output, profile, options, overwrite=force)
    click.echo(f"wrote {output} and {output}.json")
    click.echo(built.report())
    click.echo("next:")
    click.echo(f"  blda serve image {output} PICTURES -o labels/")
    click.echo(f"  blda export triton {output} -o models/")


@click.command("triton")
@click.argument("file", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Model repository, a folder.")
@click.option("--name", help="Name of the model [default: the file's].")
@click.option("--max-batch", type=click.IntRange(1), help="Most pictures of one run [default: 8].")
@click.option("--warm-up", type=SIDES, help="Size of the first, empty picture [default: 512x1024].")
@FORCE
def triton(
    file: Path, output: Path, name: str | None, max_batch: int | None, warm_up: Any, force: bool
) -> None:
    """Put FILE, a graph or an engine, into a model repository of Triton Inference Server."""
    name = name or file.stem
    from serve.media.files import check_outputs

    check_outputs([output / name], force, folders=True)

    from export.deploy.triton import open_model, write_repository

    model = open_model(file, max_batch, warm_up)
    target = write_repository(model, output, name, overwrite=force)
    click.echo(f"wrote {target}")
    if profiles := [each.name for each in model.info.profiles]:
        click.echo(
            f"  it serves the profile {profiles[0]}, not {', '.join(profiles[1:])}: see docs/runtimes.md"
        )
    click.echo("next:")
    click.echo(f"  tritonserver --model-repository={output.absolute()}")


@click.command("show")
@click.argument("file", type=PATH)
@click.option("-o", "--output", type=PATH, help="PNG to draw the folded shifts in.")
@click.option("--size", type=SIDES, help="Picture to measure the latency with [default: 512x1024].")
@click.option("--profile", metavar="NAME", help="Draw this correction, of a FILE that holds several.")
@FORCE
def show(file: Path, output: Path | None, size: Any, profile: str | None, force: bool) -> None:
    """Say what is inside FILE, and draw the shifts that are folded into it."""
    from serve.media.files import check_outputs
    from serve.media.whole import replacing

    if output is not None:
        if output.suffix != ".png":
            raise InputError(f"{output} must end in .png.")
        check_outputs([output], force)

    from export.show import describe, draw
    from export.sources.source import read_model

    model = read_model(file)
    click.echo(describe(file, model, size))
    if output is not None:
        with replacing(output, overwrite=force) as temporary:
            draw(model, str(file), temporary, profile)
        click.echo(f"wrote {output}")
