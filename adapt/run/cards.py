"""`card.json`: everything about a run that is not a tensor. Written here, and read here only."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from adapt.config.settings import Config
from adapt.data.classes import ClassList
from adapt.errors import InputError

FORMAT, FORMER = 2, 1
"""Of cards; the former one is written where an older version can read all of it."""
CARD = "card.json"
DEFAULT_TAU = 0.5
"""Strength of the post-hoc correction where nobody chose another, of adapted networks and of anybody's: the
highest measured that hardly harmed any network that is corrected (docs/evidence.md)."""
ADAPTED_TAU = 0.1
"""The same of what was adapted without a source, whose classes that has evened out in part: the highest
measured that harmed none."""

_Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
_Score = float | None | list[float | None]


def default_tau(config: Config) -> float:
    """Strength of the post-hoc correction of a run with these settings, where nobody chose another.

    That of a network which nothing speaks against correcting; see `adapt.balance.bias.doubt`.
    """
    return ADAPTED_TAU if config.source_free else DEFAULT_TAU


def default_words(tau: float) -> str:
    """What to say of a strength that `default_tau` chose."""
    return f"tau {tau:g}, the default{' of what was adapted without a source' if tau == ADAPTED_TAU else ''}"


class Record(BaseModel):
    """Base of what programs write: types are exact, unknown keys are errors, values cannot change."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class WholeRecipe(Record):
    """What `adapt.model.whole.Whole` takes."""

    stride: PositiveInt
    output_stride: PositiveInt
    classifier: str | None
    bgr: bool = False


class Recipe(Record):
    """What `adapt.model.build.rebuild` takes."""

    encoder: dict[str, Any]
    """A `transformers` configuration, or function and file of an encoder of one's own."""
    decoder: str
    width: PositiveInt
    dropout: float
    num_classes: PositiveInt
    mean: _Channels
    std: Annotated[list[PositiveFloat], Field(min_length=3, max_length=3)]
    multi_resolution: bool = False
    dilated: bool = False
    whole: WholeRecipe | None = None
    """Where the network was taken whole: `encoder` builds all of it, and `decoder`, `width` and `dropout` say
    only what a reader might ask."""

    @field_validator("encoder")
    @classmethod
    def _has_a_kind(cls, encoder: dict[str, Any]) -> dict[str, Any]:
        for key in ("factory", "file") if {"factory", "file"} & set(encoder) else ("model_type",):
            if not isinstance(encoder.get(key), str):
                raise ValueError(f"it needs a text {key}")
        return encoder


class Card(Record):
    """The card."""

    format: int
    classes: dict[str, Any]
    """As ClassList.to_dict."""
    model: Recipe
    license_note: str
    iterations: Annotated[int, Field(ge=0)]
    """Iterations trained so far."""
    finished: bool
    seed: int
    versions: dict[str, str]
    """Versions of the libraries that trained it."""
    evaluation: dict[str, dict[str, _Score]] = {}
    """Scores on the labelled target set, if there was one, by strength of the post-hoc correction."""
    evaluated_at: Annotated[int, Field(ge=0)] | None = None
    """Iterations that were done when these were measured; the run may have gone on since."""
    tau: Annotated[float, Field(ge=0, le=2)] | None = None
    """Strength of the post-hoc correction that `adapt tau --write` chose; None: nobody chose."""

    stopped_at: Annotated[int, Field(ge=0)] | None = None
    """Iterations that were done when the guard of a source-free training ended it; `iterations` is that of
    the weights that were kept then. None: nothing ended it."""

    @field_validator("classes")
    @classmethod
    def _is_a_class_list(cls, classes: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(classes.get("ignore"), list):  # in class files it may be left out
            raise ValueError("it needs a list ignore")
        try:
            ClassList.from_dict(classes, complete=True)
        except InputError as error:
            raise ValueError(error.message.removesuffix(".")) from error
        return classes

    @model_validator(mode="after")
    def _counts_agree(self) -> "Card":
        classes = len(self.class_list)
        if self.model.num_classes != classes:
            raise ValueError(f"model.num_classes is {self.model.num_classes}, but classes lists {classes}")
        return self

    @property
    def class_list(self) -> ClassList:
        return ClassList.from_dict(self.classes, complete=True)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as `adapt.model.build` takes and gives it."""
        return self.model.model_dump(exclude_unset=True)


class Evaluated(NamedTuple):
    """The scores in a card."""

    evaluation: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    """By strength."""
    evaluated_at: int | None = None
    """Iterations that were done."""


class _Format(BaseModel):
    """All that a card of another version surely has."""

    model_config = ConfigDict(strict=True)
    format: int


def read_card(run: Path) -> Card:
    """Read a run's card.

    Raises:
        InputError: it is cut off, altered, or of a newer version; names the key.
    """
    path = run / CARD
    text = path.read_bytes()
    try:
        number = _Format.model_validate_json(text).format
        card = Card.model_validate_json(text) if number <= FORMAT else None
    except ValidationError as error:
        raise altered(path, problem(error)) from error
    if card is None:
        raise InputError(f"{run} has run format {number}, this version reads up to {FORMAT}; upgrade blda.")
    return card


def altered(path: Path, what: str) -> InputError:
    """The error for a file of a run that does not hold what was written."""
    return InputError(
        f"{path} was altered or cut off ({what}); bring back a whole copy of it, or train the run again."
    )


def problem(error: ValidationError) -> str:
    """The first thing that is wrong, in words: its key, and what about it."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "extra_forbidden":
        return f"{key} is no key of it"
    words = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"{key}: {words}, got {first['input']!r:.60}" if key else words
