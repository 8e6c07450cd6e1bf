"""Training without a source: from a run, a folder of transformers or a function, on the target alone."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from refusals import expect_refusal
from safetensors.torch import load_file, save_file
from training_runs import adapt, trace
from transformers_folder import NAMES, write_segformer

from adapt.commands.beginning import without_source
from adapt.config.settings import load_config
from adapt.run.run import load_run
from adapt.training.trainer import Trainer
from adapt.training.watching import guard

LEFT = ("model.", "method.rare_class", "method.balance")
SETTINGS = tuple(s for s in tiny.SETTINGS if not s.startswith(LEFT))
"""Those that are of use without a source."""


def adapt_from(model: Path | str, domains: Path, out: Path, *more: str) -> list[str]:
    """Arguments of a training from a model on the target alone; `more` are settings."""
    words = ("train", "--from", str(model), "--target", str(domains / "target"), "-o", str(out))
    return [*words, *(word for each in (*SETTINGS, *more) for word in ("--set", each))]


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    """A guard that looks and ends nothing: random weights drift at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "MOST_BIAS", 2.0)
        patch.setattr(guard, "FALL", 2.0)
        yield


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


@pytest.fixture(scope="module")
def finished(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ours, with a source."""
    run = tmp_path_factory.mktemp("finished") / "run"
    result = adapt(*tiny.train_arguments(domains, run))
    assert result.exit_code == 0, result.output
    return run


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segformer(tmp_path_factory.mktemp("theirs") / "segformer")


@pytest.fixture(scope="module")
def adapted(theirs: Path, domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SegFormer of transformers after some iterations on the target."""
    run = tmp_path_factory.mktemp("adapted") / "run"
    result = adapt(*adapt_from(theirs, domains, run), "--evaluate", str(domains / "target_eval"))
    assert result.exit_code == 0, result.output
    return run


def test_a_model_of_transformers_becomes_a_run(adapted: Path, theirs: Path) -> None:
    run = load_run(adapted)
    assert run.classes.names == NAMES
    assert run.card.finished and run.card.iterations == 6 and run.card.evaluation
    assert run.config.source_free and run.config.method.rare_class_temperature is None
    assert run.shift_statistics().seen.any()
    theirs_head = load_file(theirs / "model.safetensors")["decode_head.classifier.weight"]
    ours = run.tensors["student.encoder.model.decode_head.classifier.weight"]
    assert ours.shape == theirs_head.shape and not torch.equal(ours, theirs_head)
    losses = trace(adapted)
    assert set(losses[-1]) == {"iteration", "mixed", "confident"}
    data = json.loads((adapted / "data.json").read_text())
    assert data["source"] == [] and len(data["target"][0]["files"]) == 6
    assert not (adapted / "class_pixels.npy").exists()


def test_check_looks_at_the_target_alone(theirs: Path, domains: Path, tmp_path: Path) -> None:
    """Without a source: it says what a training would begin with, and the command does it."""
    record, page = tmp_path / "found.json", tmp_path / "page.html"
    words = adapt_from(theirs, domains, tmp_path / "x", "training.iterations=2")
    words = ["check", *words[1 : words.index("-o")], *words[words.index("-o") + 2 :]]
    result = adapt(*words, "--json", str(record), "-o", str(page))
    assert result.exit_code == 0, result.output
    assert f"source: none; the model has {len(NAMES)} classes" in result.output
    assert "evaluation: none" in result.output and "light: target brightness" in result.output
    found = json.loads(record.read_text())
    assert found["data"]["labelled"] == [] and found["problems"] == []
    assert found["expected"]["seconds_per_iteration"] > 0
    program, *words = shlex.split(found["command"])
    assert (program, words[:3]) == ("adapt", ["train", "--from", str(theirs)])
    words[words.index("-o") + 1] = str(tmp_path / "run")
    trained = adapt(*words)
    assert trained.exit_code == 0, trained.output
    assert "source: none; the model has" in trained.output
    assert load_run(tmp_path / "run").card.iterations == 2


def test_check_says_what_a_model_cannot_be_begun_with(domains: Path) -> None:
    expect_refusal(adapt("check", "--target", str(domains / "target")), "--source", "--from")
    words = ("check", "--from", str(domains / "none"), "--target", str(domains / "target"))
    expect_refusal(adapt(*words), "none")


def test_the_run_begins_with_the_labels_that_its_makers_see(
    theirs: Path, domains: Path, tmp_path: Path
) -> None:
    """An untrained iteration's weights are those of the folder, normalised as it says."""
    from transformers import SegformerForSemanticSegmentation

    said = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "do_normalize": True}
    folder = write_segformer(tmp_path / "normalised", **said)
    model = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    from adapt.model.foreign import open_foreign

    segmenter = open_foreign(str(folder), None, (32, 32)).built.segmenter.eval()
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8))
    pixels = image.permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(said[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    with torch.no_grad():
        wanted = model(((pixels - mean) / std).float()).logits
        torch.testing.assert_close(segmenter.logits(image), wanted, atol=1e-5, rtol=1e-4)


def test_a_run_is_resumed_where_it_was_interrupted(
    theirs: Path, domains: Path, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, choice of classes and guard included."""
    run = tmp_path / "run"
    step, interrupted = Trainer._step, []

    def stopping(self: Trainer, pairs: list) -> dict[str, float]:
        if self.iteration == 3 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return step(self, pairs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stopping)
        adapt(*adapt_from(theirs, domains, run), "--evaluate", str(domains / "target_eval"))
    assert interrupted and not load_run(run).card.finished
    result = adapt("train", "--resume", str(run))
    assert result.exit_code == 0, result.output
    assert trace(run) == trace(adapted)
    mine, whole = load_run(run).tensors, load_run(adapted).tensors
    assert mine.keys() == whole.keys()
    assert all(torch.equal(mine[key], whole[key]) for key in mine)


def test_a_run_of_ours_is_gone_on_with_without_its_source(
    finished: Path, domains: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    sets = ("method.balance=online", "method.anchors=" + str(finished))
    result = adapt(*adapt_from(finished, domains, run, *sets))
    assert result.exit_code == 0, result.output
    before, after = load_run(finished), load_run(run)
    assert after.classes == before.classes and after.card.recipe == before.card.recipe
    assert after.config.model.encoder == before.config.model.encoder  # the report names it
    kept, given = after.shift_statistics().anchors, before.shift_statistics().anchors
    assert all(torch.equal(a, b) for a, b in zip(kept, given, strict=True))
    running = after.tensors["statistics.anchors.means"][:, 0]
    assert torch.equal(running, given.means)
    # without them, the anchors are the target's
    result = adapt(*adapt_from(finished, domains, tmp_path / "other"))
    assert result.exit_code == 0, result.output
    assert not torch.equal(load_run(tmp_path / "other").shift_statistics().anchors.means, given.means)
    for command in ("report", "statistics", "bias"):
        done = adapt(command, str(run))
        assert done.exit_code == 0, done.output
    page = (run / "report" / "report.html").read_text()
    assert "none" in page


OWN = """
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    classes = ("ground", "sky", "box")

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        logits = self.head(self.backbone(x))
        return {"out": F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)}

build = Net
"""


def test_a_function_with_a_state_dict(domains: Path, tmp_path: Path) -> None:
    file, weights = tmp_path / "own.py", tmp_path / "weights.pth"
    file.write_text(OWN)
    space: dict = {}
    exec(OWN, space)
    torch.manual_seed(3)
    state = space["Net"]().state_dict()
    torch.save({"state_dict": state, "epoch": 3}, weights)
    run = tmp_path / "run"
    arguments = adapt_from(f"{file}:build", domains, run, "training.iterations=2")
    result = adapt(*arguments, "--weights", str(weights))
    assert result.exit_code == 0, result.output
    opened = load_run(run)
    segmenter = opened.segmenter()
    assert segmenter.output_stride == 4  # taken before its own upsampling
    assert segmenter.slow == ("encoder.model.backbone.",)
    assert opened.classes.names == ("ground", "sky", "box")
    trained = opened.tensors["student.encoder.model.head.weight"]
    assert 0 < (trained - state["head.weight"]).abs().max() < 0.05

    save_file(state, tmp_path / "weights.safetensors")
    again = adapt_from(f"{file}:build", domains, tmp_path / "again", "training.iterations=2")
    assert adapt(*again, "--weights", str(tmp_path / "weights.safetensors")).exit_code == 0
    same = load_run(tmp_path / "again").tensors["student.encoder.model.head.weight"]
    assert torch.equal(trained, same)


def test_what_cannot_be_begun_with_is_said(theirs: Path, domains: Path, tmp_path: Path) -> None:
    def refused(
        model: Path | str, *words: str, more: tuple[str, ...] = (), sets: tuple[str, ...] = ()
    ) -> None:
        result = adapt(*adapt_from(model, domains, tmp_path / "run", *sets), *more)
        expect_refusal(result, *words)
        assert not (tmp_path / "run").exists()

    scripted = tmp_path / "model.pt"
    scripted.write_bytes(b"PK")  # a TorchScript file is an archive
    refused(scripted, "TorchScript", "file.py:function")
    refused(tmp_path / "nowhere", "nowhere", "could not be loaded")
    file = tmp_path / "own.py"
    file.write_text(OWN)
    refused(f"{file}:nothing", "no function 'nothing'")
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    refused(f"{file}:build", "not the state dict", more=("--weights", str(other)))
    other.write_bytes(b"nothing")
    refused(f"{file}:build", "no state dict", more=("--weights", str(other)))
    refused(theirs, "model.weights", "file.py:function", more=("--weights", str(other)))
    refused(theirs, "model.width=3", "brings its network", sets=("model.width=3",))
    refused(theirs, "rare_class_temperature", "there is no source", sets=("method.rare_class_temperature=1",))
    refused(theirs, "method.host=dacs", sets=("method.host=source",))
    classes = tmp_path / "classes.yaml"
    classes.write_text(
        "classes:\n  - {id: 0, name: a, color: [1, 1, 1]}\n  - {id: 1, name: b, color: [2, 2, 2]}\n"
    )
    refused(theirs, "2 classes", "3 logits", more=("--classes", str(classes)))
    refused(theirs, "holds no anchors", sets=(f"method.anchors={file}",))
    broken = write_segformer(tmp_path / "broken", image_mean="IMAGENET", do_normalize=True)
    refused(broken, "preprocessor_config.json", "three numbers")
    kind = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(
        json.dumps(kind | {"architectures": ["SegformerForImageClassification"]})
    )
    refused(broken, "SegformerForImageClassification", "ForSemanticSegmentation")


def test_a_source_beside_the_model_must_have_its_classes(theirs: Path, domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = adapt_from(theirs, domains, run, "training.iterations=2")
    result = adapt(*arguments, "--source", str(domains / "source"))
    assert result.exit_code == 0, result.output
    assert (run / "class_pixels.npy").exists()
    assert "source" in trace(run)[-1]
    (tmp_path / "other").mkdir()
    other = tiny.make_domains(tmp_path / "other")
    file = other / "classes.yaml"
    file.write_text(file.read_text().replace("sky", "car"))
    refused = adapt(*adapt_from(theirs, domains, tmp_path / "no"), "--source", str(other / "source"))
    expect_refusal(refused, "ground, sky, box", "ground, car, box")


def test_a_run_that_saw_to_the_shares_is_not_adjusted_again(finished: Path, tmp_path: Path) -> None:
    balanced = Path(shutil.copytree(finished, tmp_path / "run"))
    before = (balanced / "config.yaml").read_text()
    (balanced / "config.yaml").write_text(before.replace("balance: online", "balance: logit-adjustment"))
    assert (balanced / "config.yaml").read_text() != before

    def strength(run: Path, *sets: str) -> float:
        config = load_config(None, None, sets, {"model": {"start": str(run)}})
        return without_source(config).method.start_adjustment

    assert (strength(finished), strength(balanced)) == (0.5, 0)
    assert strength(balanced, "method.start_adjustment=0.5") == 0.5
