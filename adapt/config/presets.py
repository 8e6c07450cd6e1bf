"""Named starting points of the settings; `adapt presets` lists them, `adapt train --preset NAME` takes one.

The paper's are for GTA5 to Cityscapes; those that begin with `synthia-` have SYNTHIA as their source.
"""

from typing import Any, NamedTuple

AUTO = "auto"
"""The preset that is not in the table: what the settings leave open is chosen from data and machine."""
AUTO_ABOUT = "the default: encoder, crop and iterations are chosen from data and machine, and said"


class Preset(NamedTuple):
    """Settings with a name."""

    about: str
    settings: dict[str, Any]
    classes: int | None = None
    """The number of classes that they were chosen for; None suits any."""


Settings = dict[str, Any]

MIT_B5: Settings = {"encoder": {"pretrained": "nvidia/mit-b5"}, "decoder": "daformer", "width": 256}
DEEPLAB_V2: Settings = {
    "encoder": {"pretrained": "microsoft/resnet-101"},
    "dilated": True,
    "decoder": "deeplabv2",
    "width": 64,
}
LOW: Settings = {"size": (512, 1024), "crop": (512, 512)}
HIGH: Settings = {"size": (1024, 2048), "crop": (1024, 1024)}
GTA5, SYNTHIA = (720, 1280), (760, 1280)
SOURCES = {"": (GTA5, 19), "synthia-": (SYNTHIA, 16)}
"""Size of source pictures where the target's are 512x1024, and number of classes."""

# Host, network, sizes, and how many times larger source pictures are than above.
PUBLISHED: dict[str, tuple[Settings, Settings, Settings, int, str]] = {
    "dacs": ({"host": "dacs"}, DEEPLAB_V2, LOW, 1, "DACS with DeepLabV2 on ResNet-101"),
    "daformer": ({"host": "daformer"}, MIT_B5, LOW, 1, "DAFormer with MiT-B5"),
    "hrda": ({"host": "daformer"}, MIT_B5 | {"multi_resolution": True}, HIGH, 2, "HRDA with MiT-B5"),
    "mic": ({"host": "mic"}, MIT_B5 | {"multi_resolution": True}, HIGH, 2, "MIC on HRDA with MiT-B5"),
}


def _paper(source: str, host: str, balance: str) -> Preset:
    method, model, data, scale, about = PUBLISHED[host]
    (height, width), classes = SOURCES[source]
    data = data | {"source_size": (scale * height, scale * width)}
    method = method | {"balance": balance, "posthoc_anchors": "pixels"}  # as the paper has them
    if balance == "online":
        method = method | {"tau": 0.1}
    settings = {"data": data, "model": model, "method": method}
    balanced = ", balanced online" if balance == "online" else ""
    return Preset(about + balanced, settings, classes)


def _vit(name: str, patch: int) -> Preset:
    """A foundation model's encoder: slower to move, with crops that its patches divide."""
    crop = 512 // patch * patch
    settings = {
        "data": {"source_size": GTA5, "size": LOW["size"], "crop": (crop, crop)},
        "model": {"encoder": {"pretrained": name}, "decoder": "plain-pyramid", "width": 256},
        "method": {"host": "mic", "balance": "online", "tau": 0.1},
        "training": {"encoder_lr": 1e-5, "decoder_lr": 1e-4, "precision": "bf16"},
    }
    return Preset(f"MIC with {name.partition('/')[2]} and a light pyramid, balanced online", settings, 19)


def _tiny(crop: tuple[int, int], iterations: int) -> Settings:
    """A ResNet small enough to train from scratch on two CPU cores within minutes."""
    return {
        "data": {"crop": crop, "workers": 1},
        "model": {
            "encoder": {
                "config": {
                    "model_type": "resnet",
                    "embedding_size": 32,
                    "hidden_sizes": [32, 64, 96, 128],
                    "depths": [1, 1, 1, 1],
                    "layer_type": "basic",
                }
            },
            "decoder": "segformer",
            "width": 64,
        },
        "method": {
            "statistics_warmup": max(1, iterations // 4),
            "teacher_momentum": 0.99,
            "rare_class_temperature": 0.01,
        },
        "training": {
            "iterations": iterations,
            "batch": 4,
            "encoder_lr": 4e-3,
            "decoder_lr": 4e-3,
            "warmup": max(1, iterations // 20),
            "save_every": max(1, iterations // 2),
        },
    }


SOURCE_FREE = "source-free"
"""What is taken where a model is named, and neither a source nor a preset."""
PRESETS: dict[str, Preset] = {
    SOURCE_FREE: Preset(
        "a trained model of anybody's, adapted to the target alone, without a source (--from)",
        {
            # Chosen on short runs at their scale, see docs/source-free.md: the further, the worse.
            "method": {"balance": "logit-adjustment", "adjustment_tau": 0.5, "teacher_momentum": 0.99},
            "training": {
                "iterations": 100,
                "encoder_lr": 1.5e-6,
                "decoder_lr": 1.5e-5,
                "warmup": 20,
                "save_every": 25,
            },
        },
    ),
    "demo": Preset("a tiny ResNet, for trying things out on a CPU in minutes", _tiny((128, 128), 600)),
    "mit-b0": Preset(
        "your own data: self-training with rare-class sampling, MiT-B0 from random weights, balanced online",
        {
            "model": {"encoder": {"config": {"model_type": "segformer"}}},
            "method": {"rare_class_temperature": 0.01},
        },
    ),
    "source-only": Preset(
        "lower bound: the source alone with MiT-B5",
        {
            "data": LOW | {"source_size": GTA5},
            "model": MIT_B5,
            "method": {"host": "source", "balance": "posthoc"},
        },
        19,
    ),
    "oracle": Preset(
        "upper bound: MiT-B5 supervised on the target; give its labelled folder as --source",
        {"data": LOW, "model": MIT_B5, "method": {"host": "source", "balance": "off"}},
        19,
    ),
}
for _source in SOURCES:
    for _host in PUBLISHED:
        PRESETS[_source + _host] = _paper(_source, _host, "posthoc")
        PRESETS[f"{_source}{_host}-blda"] = _paper(_source, _host, "online")
for _name, _patch in (("dinov2-base", 14), ("dinov2-large", 14), ("dinov3-vitb16-pretrain-lvd1689m", 16)):
    PRESETS[f"{'-'.join(_name.split('-')[:2])}-blda"] = _vit(f"facebook/{_name}", _patch)
