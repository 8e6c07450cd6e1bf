"""Where to compute."""

import torch


def best_device() -> torch.device:
    """The machine's accelerator (CUDA, MPS, …) if it has one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
