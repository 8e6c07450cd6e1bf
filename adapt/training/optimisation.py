"""The optimiser and its schedule (Hoyer et al. 2022, as Li et al. 2025 train)."""

import torch
from torch import Tensor

from adapt.config.settings import Training
from adapt.model.segmenter import StudentNetwork


def learning_rate_factor(iteration: int, training: Training) -> float:
    """Linear warm-up to 1, then linear decay to 0 at the last iteration."""
    if iteration < training.warmup:
        return (iteration + 1) / training.warmup
    return 1 - (iteration - training.warmup) / max(1, training.iterations - training.warmup)


def learning_rates(iteration: int, training: Training) -> dict[str, float]:
    """Of encoder and decoder, by these names."""
    factor = learning_rate_factor(iteration, training)
    return {"encoder": training.encoder_lr * factor, "decoder": training.decoder_lr * factor}


def new_optimizer(student: StudentNetwork, training: Training) -> torch.optim.Optimizer:
    """AdamW; the encoder learns more slowly, norms, biases and position blocks do not decay."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    slow = tuple(f"segmenter.{name}" for name in student.segmenter.slow)
    for name, parameter in student.named_parameters():
        rate = training.encoder_lr if name.startswith(slow) else training.decoder_lr
        decay = 0.0 if parameter.ndim <= 1 or "position" in name else training.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    )
