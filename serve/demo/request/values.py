"""Values of a request, which the API takes from anybody: of the right type and in their range."""

import reprlib
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

import gradio as gr

from serve.demo.request.work import WORK
from serve.errors import InputError
from serve.inference.segmenter import TAU_RANGE, Segmenter

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_ERROR_SECONDS = 20.0
_LISTED = 12  # names in one sentence, at most
_AS_TEXT = str.maketrans("<>", "‹›")


def choose(segmenters: Mapping[str, Segmenter], model: object) -> Segmenter:
    """The model of that name."""
    if not isinstance(model, str) or model not in segmenters:
        raise InputError(f"There is no model {_shown(model)} here; there are {', '.join(segmenters)}.")
    return segmenters[model]


def fraction(opacity: object) -> float:
    """An opacity in [0, 1]."""
    return _number(opacity, "opacity", (0, 1))


def strength(tau: object, segmenter: Segmenter) -> float | None:
    """The strength that a graph with runtime tau gets; None for others, which have their own."""
    number = None if tau is None else _number(tau, "tau", TAU_RANGE)
    return number if segmenter.correction and segmenter.correction.runtime_tau else None


def class_names(shown: object, known: Collection[str]) -> list[str]:
    """The classes to paint."""
    if not isinstance(shown, list):
        raise InputError(
            f"The classes shown are {_shown(shown)}, but must be a list of names, such as {_list(known)}."
        )
    unknown = [name for name in shown if not isinstance(name, str) or name not in known]
    if unknown:
        raise InputError(f"There is no class {_shown(unknown[0])} in this model; there are {_list(known)}.")
    return shown


def one_of(output: object, outputs: Collection[str]) -> str:
    """The name of an output."""
    if not isinstance(output, str) or output not in outputs:
        raise InputError(f"There is no output {_shown(output)} here; take one of {', '.join(outputs)}.")
    return output


def told(handler: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Wrap an event handler: what a person can mend is answered in a sentence, not in a traceback."""

    @wraps(handler)
    def telling(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            with WORK.get().in_thread():
                return handler(*args, **kwargs)
        except InputError as error:
            raise sentence(error.message) from error
        except OSError as error:
            raise sentence(f"The server could not write its result: {error.strerror or error}.") from error

    return telling


def sentence(text: str) -> gr.Error:
    """A refusal. API clients get it as plain text; the page shows it as HTML, so it must not be any.

    Only names that visitors give contain angle brackets, which is why other signs that look like them do.
    """
    return gr.Error(text.translate(_AS_TEXT), duration=_ERROR_SECONDS, print_exception=False)


def _number(value: object, name: str, bounds: tuple[float, float]) -> float:
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"The {name} is {_shown(value)}, but must be a number between {low:g} and {high:g}.")
    return float(value)


def _shown(value: object) -> str:
    """A value for a sentence: short, and on one line."""
    return reprlib.repr(value)


def _list(names: Collection[str]) -> str:
    first = list(names)[:_LISTED]
    return ", ".join(first) + (" and more" if len(names) > len(first) else "")
