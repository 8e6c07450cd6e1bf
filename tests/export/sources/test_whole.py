"""A run made from somebody else's model: exported, verified and served like any other."""

import cv2
import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from serve_commands import serve
from transformers_folder import write_segformer

from adapt.cli import main as adapt
from adapt.evaluation.prediction import predict
from adapt.run.run import load_run
from export.cli.commands import main as export
from serve.media.images import read_image

SETTINGS = [s for s in tiny.SETTINGS if not s.startswith(("model.", "method.rare_class"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run and its corrected file."""
    root = tmp_path_factory.mktemp("whole")
    domains = tiny.make_domains(root)
    theirs = write_segformer(root / "theirs", image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.2, 0.3])
    words = ["train", "--from", str(theirs), "--target", str(domains / "target"), "-o", str(root / "run")]
    sets = [word for each in SETTINGS for word in ("--set", each)]
    result = CliRunner().invoke(adapt, [*words, *sets])
    assert result.exit_code == 0, result.output
    file = root / "model.onnx"
    result = CliRunner().invoke(
        export, ["onnx", str(root / "run"), "--with-correction", "--uncorrected-labels", "-o", str(file)]
    )
    assert result.exit_code == 0, result.output
    return root / "run", file


def test_the_file_is_verified_against_the_run(made):
    run, file = made
    result = CliRunner().invoke(export, ["verify", str(file), "--against", str(run)])
    assert result.exit_code == 0, result.output
    assert "segformer" in CliRunner().invoke(export, ["show", str(file)]).output


def test_served_labels_are_those_of_the_run(made, tmp_path):
    run, _ = made
    file, picture = tmp_path / "plain.onnx", tmp_path / "pictures" / "one.png"
    result = CliRunner().invoke(export, ["onnx", str(run), "--without-correction", "-o", str(file)])
    assert result.exit_code == 0, result.output
    picture.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    cv2.imwrite(str(picture), cv2.resize(noise, (150, 100)))  # neither side is a multiple of the stride
    result = serve("image", file, picture.parent, "-o", tmp_path / "labels")
    assert result.exit_code == 0, result.output
    wanted = predict(load_run(run).segmenter(), read_image(picture))
    found = cv2.imread(str(next((tmp_path / "labels").rglob("one*.png"))), cv2.IMREAD_UNCHANGED)
    assert len(np.unique(wanted)) > 1
    assert (found == wanted).mean() > 0.999
    assert serve("info", file).exit_code == 0
