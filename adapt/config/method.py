"""Settings of the method: how to self-train, and how to balance."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    field_validator,
    model_validator,
)

from adapt.config.choices import BALANCES, HOSTS, THINGS, BalanceName, HostName


class Settings(BaseModel):
    """Base: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Method(Settings):
    """Self-training and balancing (Li et al. 2025). Defaults of some settings depend on the host."""

    host: HostName = "dacs"
    """How to self-train; `adapt.config.choices.HOSTS` says what each is."""
    balance: BalanceName = "online"
    """When to balance; `adapt.config.choices.BALANCES` says what each is."""
    tau: float = Field(0.5, ge=0, le=2)
    """Strength of the online correction. 0.1 in the paper; see docs/evidence.md."""
    adjustment_tau: float = Field(1.0, gt=0, le=2)
    """Strength of the logit-adjusted loss, by which log shares are multiplied (Menon et al. 2020 take 1)."""
    effective_beta: float = Field(0.999, gt=0, lt=1)
    """beta of the class-balanced loss (Cui et al. 2019): equal weights near 0, inverse shares near 1."""
    correct_mixed: bool = True
    """Whether the online correction is for mixed and masked pictures too, not for the source alone."""
    density_weight: float = Field(0.2, ge=0)
    """lambda, weight of the density regression."""
    components: int = Field(5, ge=1)
    """K, Gaussians per mixture."""
    em_steps: int = Field(3, ge=1)
    """T, EM iterations per batch."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Of the running mixtures, or of the running shares of the classes."""
    statistics_warmup: int = Field(1500, ge=1)
    """Iterations over which that momentum rises from 0."""
    min_pixels: int = Field(100, ge=1)
    """N_min: fewest pixels of a class, at the labels' full size, that update its mixtures."""
    eps: float = Field(0.01, gt=0, lt=0.5)
    """The shift is constant outside the quantiles [eps, 1 - eps]."""
    anchor_pooling: Literal["pixels", "classes"] = "pixels"
    """Whether the anchors in training are made of all pixels alike (the paper) or of all classes alike."""
    posthoc_anchors: Literal["pixels", "classes"] = "classes"
    """The same of the anchors after training, for the post-hoc correction."""
    teacher_momentum: float = Field(0.999, ge=0, lt=1)
    """Largest EMA weight of the teacher."""
    source_start: int = Field(0, ge=0)
    """Iterations on the source alone before the teacher begins, from the student's weights, to label."""
    confidence: float = Field(0.968, gt=0, lt=1)
    """A pseudo-label counts as confident above this softmax probability."""
    confidence_per: Literal["picture", "class"] = "picture"
    """Whether a pseudo-label weighs the share of confident pixels of its picture, or of its class in it."""
    rare_class_temperature: float | None = Field(0.01, gt=0)
    """Rare-class sampling of source images; None samples them evenly."""
    labelled_share: float = Field(0.25, gt=0, lt=1)
    """Share of labelled pictures of the target among the labelled crops, where there are some."""
    jitter: float = Field(0.2, ge=0, le=0.5)
    """Strength of colour jitter on mixed images."""
    start_norms: float = Field(0.5, ge=0, le=1)
    """Without a source: share of the target's mean and variance in batch normalisation, from the start."""
    start_adjustment: float = Field(0.5, ge=0, le=2)
    """Without a source: strength by which the classifier is adjusted to the classes' shares at the start."""
    mix_temperature: float | None = Field(0.5, gt=0)
    """Without a source: how evenly ClassMix chooses classes; small favours rare and under-predicted ones
    more, None chooses all alike."""
    guard: bool = True
    """Without a source: whether training ends, with the best weights, when it drifts."""
    anchors: Path | None = None
    """Without a source: statistics file of `export calibrate`, or a run, whose anchors are kept; None takes
    the target's own."""
    feature_distance: float = Field(0.0, ge=0)
    """Weight of the distance to the frozen pretrained encoder on things in source images (DAFormer)."""
    thing_classes: tuple[str, ...] = THINGS
    """Names of classes that count as things; those that the data lacks are passed over."""
    ignored_rows: tuple[float, float] = (0.0, 0.0)
    """Shares of a target crop's height at its top and bottom that get no weight (DAFormer)."""
    masked_consistency: float = Field(0.0, ge=0)
    """Weight of the loss on target images of which parts are masked (MIC)."""
    mask_patch: int = Field(64, ge=1)
    """Side of the masked squares in pixels."""
    mask_ratio: float = Field(0.7, gt=0, lt=1)
    """Share of them that is masked."""

    @model_validator(mode="wrap")
    @classmethod
    def _host(cls, values: Any, validated: ModelWrapValidatorHandler[Self]) -> Self:
        """Fill in what the host sets; nobody has set that, then."""
        if not isinstance(values, dict):
            return validated(values)
        host = HOSTS.get(str(values.get("host", "dacs")))
        filled = {} if host is None else {key: value for key, value in host.sets.items() if key not in values}
        method = validated({**filled, **values})
        method.__pydantic_fields_set__.difference_update(filled)
        return method

    @property
    def self_training(self) -> bool:
        """A teacher labels target pictures."""
        return HOSTS[self.host].self_training

    @property
    def online(self) -> bool:
        """The losses of the training are balanced."""
        return BALANCES[self.balance].online

    @property
    def uses_shares(self) -> bool:
        """The losses of the training take the running shares of the classes."""
        return BALANCES[self.balance].uses_shares

    @property
    def gathers(self) -> bool:
        """Statistics for the post-hoc correction are gathered after training."""
        return BALANCES[self.balance].gathers

    @field_validator("balance", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        """YAML reads a bare `off` as false."""
        return "off" if value is False else value
