"""Every preset parses and builds, and says what it is for."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from click.testing import CliRunner

from adapt.cli import main
from adapt.config.presets import PRESETS
from adapt.config.settings import Model, load_config
from adapt.model.build import build
from adapt.model.hrda import HrdaSegmenter

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "nvidia/mit-b5": {
        "model_type": "segformer",
        "hidden_sizes": [64, 128, 320, 512],
        "depths": [3, 6, 40, 3],
        "decoder_hidden_size": 768,
    },
    "microsoft/resnet-101": {"model_type": "resnet", "depths": [3, 4, 23, 3]},
    "facebook/dinov2-base": {"model_type": "dinov2", "image_size": 518},
    "facebook/dinov2-large": {
        "model_type": "dinov2",
        "image_size": 518,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
    "facebook/dinov3-vitb16-pretrain-lvd1689m": {
        "model_type": "dinov3_vit",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}
"""What is downloaded under these names, without the weights."""
PARAMETERS = {
    "daformer-blda": 85e6,
    "dacs-blda": 47e6,
    "dinov2-large-blda": 307e6,
    "dinov3-vitb16-blda": 88e6,
}
"""About; of the whole network."""


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name: str) -> None:
    config = load_config(name)
    model = config.model
    if model.encoder.pretrained is not None:
        encoder = {"config": ARCHITECTURES[model.encoder.pretrained]}
        model = Model.model_validate(model.model_dump() | {"encoder": encoder})
    with torch.device("meta"):  # shapes alone: a large encoder takes no memory and no time
        segmenter = build(model, PRESETS[name].classes or 11).segmenter
        assert all(side % segmenter.stride == 0 for side in config.data.crop)
        pixels = torch.zeros(1, 3, *config.data.crop)
        logits = segmenter(pixels)
    grid = tuple(side // segmenter.output_stride for side in config.data.crop)
    assert logits.shape == (1, PRESETS[name].classes or 11, *grid)
    assert isinstance(segmenter, HrdaSegmenter) == ("hrda" in name or name.startswith(("mic", "synthia-mic")))
    if name in PARAMETERS:
        count = sum(p.numel() for p in segmenter.parameters())
        assert count == pytest.approx(PARAMETERS[name], rel=0.1)


def test_the_papers_settings() -> None:
    config = load_config("daformer-blda")
    method, training = config.method, config.training
    assert (method.tau, method.density_weight, method.components, method.em_steps) == (0.1, 0.2, 5, 3)
    assert (method.momentum, method.min_pixels, method.eps) == (0.99, 100, 0.01)
    assert (method.confidence, method.teacher_momentum, method.rare_class_temperature) == (0.968, 0.999, 0.01)
    assert method.feature_distance == 0.005 and method.balance == "online"
    assert (training.iterations, training.batch, training.warmup) == (40_000, 2, 1500)
    assert (training.encoder_lr, training.decoder_lr, training.weight_decay) == (6e-5, 6e-4, 0.01)
    assert (config.data.source_size, config.data.size, config.data.crop) == (
        (720, 1280),
        (512, 1024),
        (512, 512),
    )
    assert load_config("daformer").method == method.model_copy(update={"balance": "posthoc", "tau": 0.5})
    assert load_config("synthia-daformer-blda").data.source_size == (760, 1280)
    assert load_config("hrda").data.crop == (1024, 1024)
    mic = load_config("mic-blda").method
    assert (mic.mask_patch, mic.mask_ratio, mic.masked_consistency) == (64, 0.7, 1.0)


def test_presets_are_listed_and_printed_as_settings(tmp_path: Path) -> None:
    listed = CliRunner().invoke(main, ["presets"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()] == ["auto", *PRESETS]
    printed = CliRunner().invoke(main, ["presets", "mic-blda"])
    (tmp_path / "mine.yaml").write_text(printed.output)
    assert yaml.safe_load(printed.output)["method"]["host"] == "mic"
    assert load_config(path=tmp_path / "mine.yaml") == load_config("mic-blda")
    assert CliRunner().invoke(main, ["presets", "nothing"]).exit_code == 2


def test_a_preset_for_other_classes_is_refused(tmp_path: Path) -> None:
    root = tiny.make_domains(tmp_path)
    arguments = ["train", "--preset", "daformer-blda", "-o", str(tmp_path / "run")]
    data = ["--source", str(root / "source"), "--target", str(root / "target")]
    result = CliRunner().invoke(main, [*arguments, *data])
    assert result.exit_code == 2
    assert "19 classes, and the data has 3" in result.output
    assert not (tmp_path / "run").exists()
