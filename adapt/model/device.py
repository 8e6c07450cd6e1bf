"""Where to compute."""

import torch

from adapt.errors import InputError


def best_device() -> torch.device:
    """The machine's accelerator (CUDA, MPS, …) if it has one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a mixed precision that the device does not compute in; it would be fp32 without a word, or fail.

    Raises:
        InputError: names one that it does.
    """
    if precision == "fp16" and device.type == "cpu":
        raise InputError(
            "training.precision=fp16 needs a GPU, and this machine has none; set training.precision=bf16 or "
            "fp32."
        )
    from accelerate.utils import is_bf16_available

    if precision == "bf16" and device.type not in ("cpu", "xpu", "hpu") and not is_bf16_available(True):
        raise InputError(
            f"training.precision=bf16 is not for this {device.type} device; set training.precision=fp16 or "
            "fp32."
        )


def check_compiler(device: torch.device) -> None:
    """Compile a trifle: what is missing would come to light in the first step only.

    Raises:
        InputError: nothing can be compiled here.
    """
    try:
        torch.compile(lambda x: 2 * x + 1)(torch.ones(2, device=device))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"training.compile=true, but nothing can be compiled on this machine ({reason}); install a C++ "
            "compiler, or leave it false."
        ) from error


def peak_memory() -> int:
    """Most memory that this process held so far, in bytes: of the GPU if there is one, else of the host."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
