"""A tiny SegFormer as somebody else has it: a folder that `transformers` wrote."""

import json
from pathlib import Path

import torch

NAMES = ("ground", "sky", "box")
"""The classes of the tiny domains."""


def write_segformer(folder: Path, seed: int = 0, **preprocessor: object) -> Path:
    """config.json with class names, model.safetensors, and preprocessor_config.json if it holds something."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(seed)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(NAMES)),
        label2id={name: c for c, name in enumerate(NAMES)},
    )
    model = SegformerForSemanticSegmentation(config)
    torch.nn.init.normal_(model.decode_head.classifier.weight, std=1.0)  # not nearly the same everywhere
    model.save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder
