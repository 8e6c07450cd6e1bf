"""The choices that settings have, a row each: hosts and kinds of balance. To add one is to add a row here.

What a host does is made of settings of its own (feature_distance, masked_consistency, ...), so that each part
can be had without the host; its row says which it turns on.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator


class Host(NamedTuple):
    """A way to self-train, which the balance is built into."""

    about: str
    sets: Mapping[str, Any] = MappingProxyType({})
    """What it sets in `method` unless the settings say otherwise."""
    self_training: bool = True
    """Whether a teacher labels target pictures."""


class Balance(NamedTuple):
    """When logits are balanced (Li et al. 2025, sections 3.2 and 3.3), and what they are compared with."""

    about: str
    online: bool = False
    """Whether the losses of the training are corrected, by running statistics."""
    uses_shares: bool = False
    """Whether the losses of the training take the running shares of the classes: the paper's rivals."""
    gathers: bool = True
    """Whether statistics for the post-hoc correction are gathered after training."""


_DAFORMER = {"feature_distance": 0.005, "ignored_rows": (15 / 512, 120 / 512)}
_MASKS = {"masked_consistency": 1.0}

HOSTS: dict[str, Host] = {
    "source": Host("the labelled source only; of a labelled target, the upper bound", self_training=False),
    "dacs": Host("self-training with mixing (Tranheden et al. 2021)", {"rare_class_temperature": None}),
    "daformer": Host("with rare classes, feature distance, ignored rows (Hoyer et al. 2022)", _DAFORMER),
    "mic": Host("with masked consistency on top (Hoyer et al. 2023)", _DAFORMER | _MASKS),
}
BALANCES: dict[str, Balance] = {
    "off": Balance("no statistics", gathers=False),
    "posthoc": Balance("statistics after training"),
    "online": Balance("statistics after training, and corrected losses in training", online=True),
    "logit-adjustment": Balance("losses adjusted by class shares (Menon et al. 2020)", uses_shares=True),
    "class-balanced": Balance("losses weighted by class shares (Cui et al. 2019)", uses_shares=True),
}


THINGS = (
    *("traffic light", "traffic sign", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle", "sign", "signsymbol", "pedestrian", "bicyclist", "cyclist", "bike", "van"),
)
"""Names of classes of countable things: those of Cityscapes, and what other data sets call them."""


def _one_of(known: dict[str, Any]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"choose one of {', '.join(known)}")
        return value

    return AfterValidator(check)


HostName = Annotated[str, _one_of(HOSTS)]
BalanceName = Annotated[str, _one_of(BALANCES)]
