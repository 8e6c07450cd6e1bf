"""What others wrote while a command worked is not replaced unasked, and the command's work is kept."""

from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from onnx_segmenters import card, plain_segmenter, statistics
from serve_graphs import halves

from export import pipeline as build
from export import show
from export.cli.commands import main
from export.deploy import triton
from export.fold.fold import Extras, Strength, fold
from export.statistics import calibrate
from serve.media.images import write_image


@pytest.fixture
def model(tmp_path: Path) -> Path:
    strength = Strength(statistics(3), "random", 0.5, False)
    onnx.save(fold(plain_segmenter(3), card(3, None), strength, Extras()), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output.replace("\n", "")


def before(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, target: Path, folder: bool = False
) -> None:
    """Let somebody else write to `target` just before a function is called."""
    original = getattr(module, name)

    def called(*given: object, **options: object) -> object:
        if folder:
            target.mkdir(parents=True, exist_ok=True)
        (target / "theirs" if folder else target).write_text("theirs")
        return original(*given, **options)

    monkeypatch.setattr(module, name, called)


@pytest.mark.parametrize("command", ["onnx", "show", "triton", "calibrate"])
def test_a_name_that_was_taken_meanwhile(tmp_path, model, monkeypatch, command) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".older.1.partial.onnx").touch()  # of a process that was killed: it is swept away
    for number in range(2):
        write_image(tmp_path / "pictures" / f"{number}.png", halves(64, 64))
    plain = tmp_path / "plain.onnx"
    onnx.save(plain_segmenter(3), plain)
    name, second, arguments, module, function = {
        "onnx": ("m.onnx", "m-2.onnx", (model, "--without-correction"), build, "record_verification"),
        "show": ("m.png", "m-2.png", (model,), show, "draw"),
        "triton": ("m", "m-2", (model, "--name", "m"), triton, "configuration"),
        "calibrate": (
            "m.safetensors",
            "m-2.safetensors",
            (plain, "--target", tmp_path / "pictures", "--mean", "0,0,0", "--std", "1,1,1", "--rounds", "1"),
            calibrate,
            "gather",
        ),
    }[command]
    given = out if command == "triton" else out / name
    before(monkeypatch, module, function, out / name, folder=command == "triton")
    code, said = call(command, *arguments, "-o", given)
    assert code == 2 and f"kept as {out / second}" in said, said
    assert {path.name for path in out.iterdir()} == {name, second}
    theirs = out / name / "theirs" if command == "triton" else out / name
    assert theirs.read_text() == "theirs"
    code, said = call(command, *arguments, "-o", given, "--force")
    assert code == 0, said
    assert not theirs.is_file() or theirs.read_bytes() != b"theirs"
