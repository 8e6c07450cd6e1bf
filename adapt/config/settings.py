"""Settings: validated, frozen, and written into every run.

They come from a preset, then a YAML file, then `--set section.key=value`, later ones winning.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from adapt.config.merging import assigned, merge, read_yaml
from adapt.config.method import Method, Settings
from adapt.config.presets import AUTO, PRESETS
from adapt.config.weights import check_weights
from adapt.errors import InputError

Size = tuple[int, int]


class Data(Settings):
    """Where the pictures are and how they are cut."""

    source: tuple[Path, ...] = ()
    """Labelled data sets, or parts of them: a layout of `adapt.data.layouts`, or images/ and labels/."""
    source_weights: tuple[float | None, ...] = ()
    """Share of the draws that each source gets, None what is left; empty draws all pictures alike."""
    target: tuple[Path, ...] = ()
    """Unlabelled: data sets, folders of images and video files."""
    target_weights: tuple[float | None, ...] = ()
    """The same for the targets."""
    target_labels: Path | None = None
    """Labelled pictures of the target domain to train on too, a few: a data set as `source` may be one."""
    classes: Path | None = None
    """YAML class file; by default the list that comes with the source: its classes.yaml, or its layout's."""
    label_map: Path | None = None
    """YAML file that maps the values in the source's label files to classes."""
    images: str | None = None
    """Glob pattern of the source's pictures below its folder; None leaves it to the layout that is found."""
    labels: str | None = None
    """The same of its label files."""
    label_suffix: str | None = None
    """How the names of its label files end after those of their pictures: _mask for X_mask.png of X.jpg."""
    repair_labels: Literal["off", "nearest"] = "off"
    """Whether unknown colours in the source's labels mean near known ones, and averaged ids go back."""
    evaluate: Path | None = None
    """Labelled folder of the target domain, for evaluation during training only."""
    size: Size | None = None
    """(height, width) to which every picture is resized first; None keeps the sizes found."""
    source_size: Size | None = None
    """The same for source pictures, where it differs."""
    crop: Size = (512, 512)
    """(height, width) of training crops."""
    frames: int = Field(200, ge=1)
    """Frames sampled evenly from each target video."""
    workers: int = Field(2, ge=0)
    """Processes that read and crop pictures; 0 reads in the training process."""
    changed: Literal["refuse", "accept"] = "refuse"
    """Whether a run is resumed whose pictures or labels have changed; holds for that one time."""

    @field_validator("source", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        """One source may be given as it is."""
        return () if value is None else (value,) if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _weighted(self) -> "Data":
        check_weights("source", self.source, self.source_weights)
        check_weights("target", self.target, self.target_weights)
        return self


class Encoder(Settings):
    """Exactly one of the three says where the encoder comes from."""

    pretrained: str | None = None
    """Hub name or local folder of a `transformers` model, with weights."""
    config: dict[str, Any] | None = None
    """A `transformers` configuration (`model_type` and its fields); weights are random."""
    factory: str | None = None
    """`file.py:function` returning a module: normalised pixels -> pyramid, with `channels` and `strides`."""

    @model_validator(mode="after")
    def _one(self) -> "Encoder":
        if sum(v is not None for v in (self.pretrained, self.config, self.factory)) != 1:
            raise ValueError("give exactly one of pretrained, config, factory")
        return self


class Model(Settings):
    """Network."""

    start: str | None = None
    """A trained network to begin with, instead of the rest: a run, a folder or hub name of `transformers`, or
    a `file.py:function` that returns a module."""
    weights: Path | None = None
    """State dict of the module of a `file.py:function`, as safetensors or as PyTorch writes it."""
    encoder: Encoder = Encoder(config={"model_type": "segformer"})
    decoder: str = "daformer"
    """One of `adapt.model.build.DECODERS`."""
    dilated: bool = False
    """A ResNet keeps stride 8 by dilating its last two stages."""
    multi_resolution: bool = False
    """HRDA: context at half resolution and detail at full, fused by a learned attention."""
    width: int = Field(256, ge=1)
    """Channels of the decoder."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Probability before the classifier."""


class Training(Settings):
    """Optimisation."""

    iterations: int = Field(40_000, ge=1)
    batch: int = Field(2, ge=1)
    """Source crops and target crops in memory at a time, each."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients make one iteration."""
    encoder_lr: float = Field(6e-5, gt=0)
    decoder_lr: float = Field(6e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: int = Field(1500, ge=0)
    """Iterations of linear warm-up of the learning rates, which then fall linearly to 0."""
    clip_gradient: float | None = Field(None, gt=0)
    """Largest norm of the gradient; None leaves it."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 are mixed precision: weights stay in fp32."""
    recompute_activations: bool = False
    """Recompute the encoder's activations in the backward pass: less memory, about a third more time."""
    compile: bool = False
    """Compile the network with torch.compile: faster on GPUs, after minutes at the start."""
    seed: int = 0
    save_every: int = Field(1000, ge=1)
    """Iterations between checkpoints."""
    evaluate_every: int = Field(4000, ge=1)
    """Iterations between evaluations, where `data.evaluate` is given."""
    log_every: int = Field(10, ge=1)
    """Iterations between lines of metrics.jsonl."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where curves go besides: tensorboard, and what `accelerate` knows (wandb, mlflow, ...); () is none."""


class Config(Settings):
    """All settings of a run."""

    data: Data = Data()
    model: Model = Model()
    method: Method = Method()
    training: Training = Training()

    @property
    def source_free(self) -> bool:
        """Somebody's network is trained on the target alone."""
        return self.model.start is not None and not self.data.source

    @property
    def evened(self) -> bool:
        """The losses took the shares of the classes off, of true labels too: little is left to correct."""
        return self.method.uses_shares and not self.source_free

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(
    preset: str | None = None,
    path: Path | None = None,
    assignments: tuple[str, ...] = (),
    overrides: dict[str, Any] | None = None,
) -> Config:
    """Resolve settings.

    Args:
        preset: a key of PRESETS; AUTO leaves what it chooses at the defaults, like None.
        path: YAML file with any of the sections data, model, method, training.
        assignments: "section.key=value" texts, values in YAML.
        overrides: nested settings from dedicated command-line options.

    Raises:
        InputError: unknown keys, values out of range, or text that is not YAML.
    """
    merged: dict[str, Any] = {}
    if preset not in (None, AUTO):
        if preset not in PRESETS:
            raise InputError(f"there is no preset {preset!r}; `adapt presets` lists them.")
        merged = merge(merged, PRESETS[preset].settings)
    if path is not None:
        merged = merge(merged, read_yaml(path))
    merged = merge(merged, overrides or {})
    for assignment in assignments:
        merged = merge(merged, assigned(assignment))
    return validate(merged, "the settings")


def with_assignments(config: Config, assignments: tuple[str, ...]) -> Config:
    """The same settings with some of them changed by "section.key=value" texts.

    Raises:
        InputError: as `load_config`.
    """
    merged = config.model_dump(exclude_unset=False)
    for assignment in assignments:
        merged = merge(merged, assigned(assignment))
    return validate(merged, "the settings")


def validate(settings: dict[str, Any], what: str) -> Config:
    """Check nested settings.

    Raises:
        InputError: names the first offending key, what it is and what is wrong with it.
    """
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = f", got {first['input']!r}" if first["type"] not in ("missing", "extra_forbidden") else ""
        raise InputError(f"{what}: {key}: {first['msg']}{given}.") from error
