"""Weights of other programs are told without being unpickled."""

import json
import zipfile
from pathlib import Path

import pytest
from serve_commands import expect_refusal, serve

from serve.media.checkpoints import describe_checkpoint


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return path


def transformers(folder: Path, kind: str, weights: str = "model.safetensors") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "segformer", "architectures": [kind]}))
    (folder / weights).write_bytes(b"")
    return folder


def test_what_torch_saves_is_told_by_what_is_inside(tmp_path: Path) -> None:
    saved = archive(tmp_path / "a.pth", "a/data.pkl", "a/data/0")
    script = archive(tmp_path / "b.pt", "b/data.pkl", "b/code/__torch__.py")
    assert describe_checkpoint(saved).startswith(f"{saved} is a PyTorch checkpoint")
    assert "TorchScript" in describe_checkpoint(script)
    assert describe_checkpoint(archive(tmp_path / "c.zip", "pictures/a.png")) is None


@pytest.mark.parametrize("version", ["new", "old"])
def test_what_torch_itself_writes_is_told(tmp_path: Path, version: str) -> None:
    import torch

    file = tmp_path / "weights.ckpt"
    torch.save({"w": torch.ones(2)}, file, _use_new_zipfile_serialization=version == "new")
    assert "a PyTorch checkpoint" in describe_checkpoint(file)
    assert "`blda export balance" in describe_checkpoint(file)


def test_a_folder_of_transformers_names_the_command_that_takes_it(tmp_path: Path) -> None:
    encoder = transformers(tmp_path / "e", "ConvNextForImageClassification", "pytorch_model.bin")
    whole = transformers(tmp_path / "s", "SegformerForSemanticSegmentation")
    command = f"`adapt train --set 'model.encoder={{pretrained: {encoder}}}'`"
    assert command in describe_checkpoint(encoder) and "balance" not in describe_checkpoint(encoder)
    assert f"`blda export balance {whole} --target" in describe_checkpoint(whole)
    assert f"`adapt train --from {whole}`" in describe_checkpoint(whole)
    assert str(whole) in describe_checkpoint(whole / "model.safetensors")


def test_serve_says_what_it_was_given(tmp_path: Path) -> None:
    saved = archive(tmp_path / "a.pth", "a/data.pkl")
    whole = transformers(tmp_path / "s", "SegformerForSemanticSegmentation")
    expect_refusal(serve("info", saved), "PyTorch checkpoint", "blda export balance")
    expect_refusal(serve("info", whole), "a checkpoint of transformers", "adapt train --from")


def test_weights_of_a_run_lead_to_the_run(tmp_path: Path) -> None:
    run = transformers(tmp_path / "run", "X")
    (run / "card.json").write_text("{}")
    assert describe_checkpoint(run) is None
    assert describe_checkpoint(run / "model.safetensors").endswith(f"give the run folder itself, {run}.")


def test_other_files_are_not_taken_for_weights(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07\x12\x04")
    (tmp_path / "p.png").write_bytes(b"\x89PNG")
    (tmp_path / "x.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert describe_checkpoint(tmp_path / "m.onnx") is None
    assert describe_checkpoint(tmp_path / "p.png") is None
    assert describe_checkpoint(tmp_path) is None and describe_checkpoint(tmp_path / "none") is None
    assert "safetensors" in describe_checkpoint(tmp_path / "x.safetensors")
