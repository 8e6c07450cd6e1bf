"""Where to compute."""

import torch


def best_device() -> torch.device:
    """The machine's accelerator (CUDA, MPS, …) if it has one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def peak_memory() -> int:
    """Most memory that this process held so far, in bytes: of the GPU if there is one, else of the host."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
