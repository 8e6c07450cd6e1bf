"""Networks of every kind, tiny, as settings."""

from typing import Any

MIT: dict[str, Any] = {
    "model_type": "segformer",
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 3, 4],
    "decoder_hidden_size": 16,
}


RESNET: dict[str, Any] = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}


DINOV2: dict[str, Any] = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 8,
    "num_attention_heads": 2,
    "image_size": 56,
}


DINOV3: dict[str, Any] = {
    "model_type": "dinov3_vit",
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}

NETWORKS: dict[str, dict[str, Any]] = {
    "deeplabv2": {"encoder": {"config": RESNET}, "decoder": "deeplabv2", "dilated": True},
    "dinov2": {"encoder": {"config": DINOV2}, "decoder": "plain-pyramid"},
    "dinov3": {"encoder": {"config": DINOV3}, "decoder": "plain-pyramid"},
    "hrda": {"encoder": {"config": MIT}, "multi_resolution": True},
}
