"""A network that somebody else built, taken whole: normalised pixels -> logits, whatever is between.

Its classifier is the convolution whose output, upsampled, is what the network says. Logits are taken there,
at the decoder's stride, as of the networks built here, and what goes into it are the decoder's features.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.errors import InputError
from adapt.model.segmenter import Maps, Segmenter

STRIDES = (32, 16, 14, 8)
"""What heights and widths are made multiples of, the first one that divides the crop."""
AUXILIARY = "auxiliary"
"""Part of the names of heads that only their makers' training looks at."""
PROBE = 1e-3
"""Of the largest logit, how far an upsampled one may be from what the network says."""


class TiedError(InputError):
    """A network takes pictures of one size or shape only."""


class Whole(NamedTuple):
    """What a recipe says of such a network, beside how to build it."""

    stride: int
    """Heights and widths must be multiples of it."""
    output_stride: int
    """Of the logits."""
    classifier: str | None
    """Name of the convolution that makes them; None where what the network says is made otherwise."""
    bgr: bool = False
    """Whether its channels are blue, green, red."""


class WholeNetwork(nn.Module):
    """The network with its answer found, at the classifier if that is known.

    Args:
        model: takes pixels [N, 3, H, W], returns logits [N, C, h, w], or an object or mapping that has them.
        whole: what is known of it.
    """

    def __init__(self, model: nn.Module, whole: Whole) -> None:
        super().__init__()
        self.model = model
        self.whole = whole

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits [N, C, h, w], and the features [N, D, h, w] that they are made from, if they are known."""
        if self.whole.bgr:
            pixels = pixels[:, [2, 1, 0]]
        if self.whole.classifier is None:
            return said(self.model(pixels)), None
        seen: list[tuple[Tensor, Tensor]] = []
        classifier = self.model.get_submodule(self.whole.classifier)
        handle = classifier.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
        try:
            self.model(pixels)
        finally:
            handle.remove()
        features, logits = seen[-1]
        return logits, features


class WholeSegmenter(Segmenter):
    """A `Segmenter` around a network that is none of ours.

    Args:
        model: as of `WholeNetwork`.
        whole: what is known of it.
        features: D, channels of what goes into the classifier; C where that is not known.
        num_classes: C.
        mean, std: of RGB on [0, 1].
    """

    def __init__(
        self,
        model: nn.Module,
        whole: Whole,
        features: int,
        num_classes: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        nn.Module.__init__(self)  # none of the parts that other segmenters have
        self.encoder = WholeNetwork(model, whole)
        self.features = features
        self.num_classes = num_classes
        self.mean, self.std = mean, std
        self.stride, self.output_stride = whole.stride, whole.output_stride
        named = ("backbone", "encoder", str(getattr(model, "base_model_prefix", "") or "backbone"))
        found = sorted({name for name in named if isinstance(getattr(model, name, None), nn.Module)})
        self.slow = tuple(f"encoder.model.{name}." for name in found)

    @property
    def classifier(self) -> nn.Conv2d | None:
        network = self.encoder
        assert isinstance(network, WholeNetwork), "made above"
        name = network.whole.classifier
        found = None if name is None else network.model.get_submodule(name)
        return found if isinstance(found, nn.Conv2d) else None

    def maps(self, pixels: Tensor) -> Maps:
        logits, features = self.encoder(pixels)
        fused = logits if features is None else features
        return Maps(logits, fused, fused)


def said(answer: Any) -> Tensor:
    """The logits in what a network returns: itself, or what is called logits or out in it.

    Raises:
        InputError: there are none.
    """
    for name in ("logits", "out"):
        if isinstance(answer, Mapping) and name in answer:
            answer = answer[name]
        elif hasattr(answer, name):
            answer = getattr(answer, name)
    if not isinstance(answer, Tensor) or answer.ndim != 4:
        kind = f"a tensor {list(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
        raise InputError(
            f"the network returns {kind}, but logits [N, C, h, w] are wanted, as a tensor or as `logits` or "
            "`out` of what it returns; wrap it in a file.py:function that returns them."
        )
    return answer


@torch.no_grad()
def examine(model: nn.Module, crop: tuple[int, int], bgr: bool = False) -> tuple[Whole, int, int]:
    """Find out what is to be known of a network: see `Whole`; its features D, and its classes C.

    Args:
        model: as of `WholeNetwork`; in evaluation mode afterwards.
        crop: (height, width) that it will be trained on.
        bgr: whether its channels are blue, green, red.

    Raises:
        InputError: it can't take such pictures, or its logits are no fraction of their size.
    """
    height, width = crop
    declared = getattr(model, "stride", None)
    fitting = (s for s in STRIDES if height % s == 0 and width % s == 0)
    stride = declared if isinstance(declared, int) else next(fitting, STRIDES[0])
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        _watch(layer, name, seen) for name, layer in model.named_modules() if _may_classify(name, layer)
    ]
    try:
        answer = said(model.eval()(torch.rand(1, 3, height, width)))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the network cannot take a picture of {height}x{width} ({' '.join(str(error).split())[:160]}); "
            "set data.crop, and data.size if it takes no other, to what it was made for."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    classes, classifier, features = answer.shape[1], None, answer.shape[1]
    for name, (given, made) in seen.items():
        if made.shape[1] == classes and _is_upsampled(answer, made):
            answer, classifier, features = made, name, given.shape[1]
    sides = (height / answer.shape[2], width / answer.shape[3])
    if sides[0] != sides[1] or sides[0] != int(sides[0]) or stride % int(sides[0]):
        raise InputError(
            f"of a picture of {height}x{width} the network makes logits of "
            f"{answer.shape[2]}x{answer.shape[3]}, no fraction of it that {stride} is a multiple of; set "
            "data.crop to multiples of its stride, or wrap it in a file.py:function whose module has one."
        )
    _check_other_sizes(model, height, width + stride)
    return Whole(stride, int(sides[0]), classifier, bgr), features, classes


def _check_other_sizes(model: nn.Module, height: int, width: int) -> None:
    """Refuse a network that pictures of another shape break: targets have them, and files take any."""
    try:
        model(torch.rand(1, 3, height, width))
    except (RuntimeError, ValueError) as error:
        raise TiedError(
            f"the network takes no picture of {height}x{width} ({' '.join(str(error).split())[:120]}), so it "
            "is tied to one size or shape; networks that take any multiple of their stride can be adapted."
        ) from error


def _may_classify(name: str, layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and AUXILIARY not in name and "aux_" not in name


def _watch(layer: nn.Module, name: str, seen: dict[str, tuple[Tensor, Tensor]]) -> Any:
    def note(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        seen[name] = (given[0], made)

    return layer.register_forward_hook(note)


def _is_upsampled(answer: Tensor, made: Tensor) -> bool:
    """Whether `answer` is `made`, upsampled bilinearly in either way."""
    if made.shape[2] > answer.shape[2]:
        return False
    size, near = answer.shape[2:], PROBE * float(answer.abs().max())
    ways = (
        F.interpolate(made, size=size, mode="bilinear", align_corners=corners) for corners in (False, True)
    )
    return any(bool((way - answer).abs().max() <= near) for way in ways)
