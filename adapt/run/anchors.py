"""`anchors.safetensors` of a run: anchors that were given, and that training and statistics keep.

They come from a file of `export calibrate`, or from a run that has statistics, and are copied, so that the
run goes on without either.
"""

from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adapt.balance.mixtures import Mixture
from adapt.errors import InputError
from adapt.run.run import load_run, read_tensors, write_tensors

ANCHORS = "anchors.safetensors"


def read_anchors(path: Path, components: int) -> Mixture:
    """The anchors [2, K] of a statistics file or of a run.

    Args:
        path: either.
        components: K that they must have.

    Raises:
        InputError: neither of them, or another K.
    """
    anchors = load_run(path).shift_statistics().anchors if path.is_dir() else _of_file(path)
    if anchors.weights.shape[-1] != components:
        K = anchors.weights.shape[-1]
        raise InputError(
            f"the anchors of {path} have {K} Gaussians, and method.components is {components}; set "
            f"method.components={K}."
        )
    return anchors


def _of_file(path: Path) -> Mixture:
    tensors: dict[str, Tensor] = {}
    if path.is_file():
        with suppress(SafetensorError):  # said below
            tensors = load_file(path)
    parts = [tensors.get(f"anchors.{name}") for name in Mixture._fields]
    found = [part for part in parts if part is not None and part.ndim == 2 and len(part) == 2]
    if len(found) < len(parts) or len({part.shape for part in found}) > 1 or not bool((found[2] > 0).all()):
        raise InputError(
            f"method.anchors={path} holds no anchors; name a file that `blda export calibrate` wrote, or a "
            "run with statistics."
        )
    return Mixture(*(part.float() for part in found))


def keep_anchors(folder: Path, anchors: Mixture) -> None:
    """Write them into a run folder."""
    write_tensors(folder / ANCHORS, anchors._asdict())


def kept_anchors(folder: Path) -> Mixture | None:
    """Those of a run folder; None where none were given."""
    path = folder / ANCHORS
    return Mixture(**read_tensors(path)) if path.exists() else None
