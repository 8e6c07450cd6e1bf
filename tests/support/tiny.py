"""A labelled source and an unlabelled target so small that training on them takes a second."""

from pathlib import Path

import cv2
import numpy as np

CLASSES = """ignore: 255
classes:
  - {id: 0, name: ground, color: [90, 60, 30]}
  - {id: 1, name: sky, color: [80, 160, 240]}
  - {id: 2, name: box, color: [200, 30, 30]}
"""
SETTINGS = (
    "data.crop=[32, 32]",
    "data.workers=0",
    "model.encoder={config: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 8, 8, 8], "
    "depths: [1, 1, 1, 1], layer_type: basic}}",
    "model.decoder=segformer",
    "model.width=8",
    "method.balance=online",
    "method.min_pixels=4",
    "method.rare_class_temperature=0.01",
    "training.iterations=6",
    "training.batch=2",
    "training.warmup=1",
    "training.save_every=2",
    "training.log_every=1",
    "training.encoder_lr=0.003",
    "training.decoder_lr=0.003",
)

SERVED_SIZE = (96, 128)
"""Of pictures for a served graph, which pads those below 64 pixels in another way than training does."""


def make_domains(root: Path, images: int = 6) -> Path:
    """root/{source,target,target_eval} and root/classes.yaml; sky above ground, with boxes."""
    (root / "classes.yaml").write_text(CLASSES)
    for domain, brightness in (("source", 1.0), ("target", 0.6), ("target_eval", 0.6)):
        rng = np.random.default_rng(len(domain))
        (root / domain / "images").mkdir(parents=True)
        if domain != "target":
            (root / domain / "labels").mkdir()
        for index in range(images):
            labels = np.zeros((48, 64), np.uint8)
            labels[: int(rng.integers(15, 30))] = 1
            x, y = rng.integers(0, 48), rng.integers(0, 32)
            labels[y : y + 12, x : x + 12] = 2
            colors = np.array([[90, 60, 30], [80, 160, 240], [200, 30, 30]], np.float64)
            image = colors[labels] * brightness + rng.normal(0, 10, (48, 64, 3))
            image = image.clip(0, 255).astype(np.uint8)[..., ::-1]
            cv2.imwrite(str(root / domain / "images" / f"{index}.png"), np.ascontiguousarray(image))
            if domain != "target":
                cv2.imwrite(str(root / domain / "labels" / f"{index}.png"), labels)
    return root


def train_arguments(root: Path, out: Path, *more: str) -> list[str]:
    """Arguments of `adapt train` on these domains; `more` are further --set assignments."""
    return [
        *("train", "-o", str(out), "--source", str(root / "source"), "--target", str(root / "target")),
        *(word for assignment in (*SETTINGS, *more) for word in ("--set", assignment)),
    ]
