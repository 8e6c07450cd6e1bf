"""kill -9 at moments spread over whole commands: what is there loads, and the next run leaves nothing."""

from pathlib import Path

import onnx
import pytest
import tiny
from click.testing import CliRunner
from clips import make_video
from folded_graphs import folded
from foreign_segmenters import write_segmenter
from kill_moments import killed
from small_network import smooth_pictures, write_pictures

from adapt.cli import main
from adapt.data.classes import load_classes
from adapt.run.run import load_run
from adapt.synthetic.sample import make_sample
from export.sources.source import read_model
from export.sources.statistics_file import read_statistics

TRAIN = """
import torch.utils.tensorboard
from adapt.commands import start
from adapt.model.build import build
from adapt.cli import main
from adapt.config.settings import load_config
arguments = {arguments!r}
build(load_config(assignments=[word for word in arguments if word.startswith("model.")]).model, 3)
def work(folder):
    main([*arguments, "-o", str(folder / "run")], standalone_mode=False)
"""


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


@pytest.mark.slow
def test_training(tmp_path: Path) -> None:
    tiny.make_domains(tmp_path, images=3)
    more = ("training.iterations=4", "method.statistics_warmup=1")
    arguments = tiny.train_arguments(tmp_path, tmp_path / "whole", *more)
    assert CliRunner().invoke(main, arguments).exit_code == 0
    whole = load_run(tmp_path / "whole")
    named = [word for word in arguments if word not in ("-o", str(tmp_path / "whole"))]
    # while it is made, before the first checkpoint, during both, at the end
    moments = (2, 15, 26, 40, 52, 75, 90)
    folders = killed(TRAIN.format(arguments=named), tmp_path / "kills", moments)
    assert len(folders) >= 5
    assert any(hidden(folder) for folder in folders)
    states = set()
    for folder in folders:
        run = folder / "run"
        if run.exists():
            opened = load_run(run)
            assert opened.segmenter().num_classes == 3
            states.add(opened.card.iterations)
            again = ["train", "--resume", str(run)]
        else:
            again = [*named, "-o", str(run)]
            states.add(-1)
        result = CliRunner().invoke(main, again)
        assert result.exit_code == 0, result.output
        assert hidden(folder) == []
        assert all((whole.tensors[name] == value).all() for name, value in load_run(run).tensors.items())
    assert states >= {-1, 0, 2}


SAMPLE = """
from adapt.synthetic.sample import make_sample
def work(folder):
    for seed in (1, 2):
        make_sample(folder / "data", seed, **{small}, force=True)
"""
SMALL = {"source": 1, "target": 1, "target_eval": 1, "seconds": 0.1, "size": (32, 64)}


def test_sample_data(tmp_path: Path) -> None:
    folders = killed(SAMPLE.format(small=SMALL), tmp_path / "kills", range(1, 60, 7))
    assert len(folders) > 5 and any(hidden(folder) for folder in folders)
    for folder in folders:
        out = folder / "data"
        assert not out.exists() or len(load_classes(out / "classes.yaml")) == 11
        assert len(list(folder.glob("data/*/images/*"))) == (3 if out.exists() else 0)
        (folder / "other").mkdir()
    for folder in folders:
        make_sample(folder / "other", **SMALL)
        assert hidden(folder) == []


# ---- export ----------------------------------------------------------------------------------------------

EXPORT = """
import os, tempfile
from export.cli.commands import main
import export.statistics.calibrate, export.verification.check, export.precision.gates
import export.show, export.deploy.triton, matplotlib.figure
def work(folder):
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    for line in {lines!r}:
        words = [word.replace("HERE", str(folder)) for word in line.split()]
        main([*words, "--force"] if words[0] != "verify" else words, standalone_mode=False)
"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    onnx.save(folded(), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


@pytest.mark.slow
def test_exports(graph: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    write_pictures(pictures, smooth_pictures(2))
    lines = [
        f"onnx {graph} --data {pictures} -o HERE/model.onnx",
        f"verify HERE/model.onnx --data {pictures}",
        "show HERE/model.onnx -o HERE/shifts.png",
        "triton HERE/model.onnx -o HERE/models",
    ]
    folders = killed(EXPORT.format(lines=lines), tmp_path / "kills", range(1, 40, 5))
    assert len(folders) > 4 and any(hidden(folder) for folder in folders)
    for folder in folders:
        for model in folder.rglob("[!.]*.onnx"):
            if not any(part.endswith(".partial") for part in model.parts):
                read_model(model)
        assert not (folder / "models" / "model").exists() or (folder / "models/model/config.pbtxt").exists()
    ending = killed(EXPORT.format(lines=lines), tmp_path / "whole", [100000])
    assert ending == [] and hidden(tmp_path / "whole") == []


def test_calibration(tmp_path: Path) -> None:
    """Its frames, which may be gigabytes, lie in the system's folder for temporary files."""
    model, clip = write_segmenter(tmp_path / "model.onnx"), make_video(tmp_path / "clip.mp4")
    words = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --frames 2"
    line = f"calibrate {model} --target {clip} {words} -o HERE/stats.safetensors"
    folders = killed(EXPORT.format(lines=[line]), tmp_path / "kills", range(1, 20, 3))
    assert len(folders) > 2 and any(hidden(folder) for folder in folders)
    for folder in folders:
        if (folder / "stats.safetensors").exists():
            read_statistics(folder / "stats.safetensors")
