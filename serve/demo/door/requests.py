"""Requests to the page's handlers by their form: what Gradio would take for a fault of its own is refused."""

import json
import re
from collections.abc import Container, Mapping
from typing import Any

from serve.demo.door.asgi import Message, Receive, again, body_of
from serve.errors import InputError

_LONGEST = 2**20  # bytes; a request names its files and does not carry them
_DEEPEST = 32
_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
_WAY = re.compile(r"/gradio_api/(call/v2|call|run|queue/join|cancel|reset)(?:/([\w-]+))?/?", re.ASCII)
_WANTED = {
    "call": ("data",),
    "run": ("data", "fn_index"),
    "queue/join": ("data", "fn_index", "session_hash"),
    "cancel": ("session_hash", "event_id", "fn_index"),
    "reset": ("event_id",),
}
_KEPT = ("data", "fn_index", "session_hash", "event_id", "trigger_id")


class Requests:
    """Judges what is posted to a handler.

    Args:
        parameters: of each public handler, the names of its parameters, and whether they may be left out.
        numbers: of all handlers, public or not.
    """

    def __init__(self, parameters: Mapping[str, Mapping[str, bool]], numbers: Container[int]) -> None:
        self._parameters = parameters
        self._numbers = numbers

    def has(self, path: str) -> bool:
        """Whether there is a handler of the name that the path has, if it has one."""
        way = _WAY.match(path)
        return way is None or way[1] not in ("call", "call/v2") or way[2] in self._parameters

    async def checked(self, path: str, receive: Receive) -> Receive:
        """`receive` with what Gradio needs of the request, and nothing else.

        Raises:
            InputError: it is not what a handler can be asked.
        """
        way = _WAY.fullmatch(path)
        body = await body_of(receive, _LONGEST) if way else None
        if way is None or body is None:
            return receive if way is None else _gone
        given = _parsed(body)
        if way[1] == "call/v2":
            self._check_names(way[2], given)
            kept = given
        else:
            self._check_values(_WANTED[way[1]], given)
            kept = {name: given[name] for name in _KEPT if given.get(name) is not None}
        return again(json.dumps(kept).encode(), receive)

    def _check_names(self, handler: str, given: dict[str, Any]) -> None:
        parameters = self._parameters[handler]
        unknown = [name for name in given if name not in parameters]
        missing = [name for name, optional in parameters.items() if not optional and name not in given]
        if unknown or missing:
            wrong = f"has no parameter {unknown[0][:64]!r}" if unknown else f"needs {missing[0]!r}"
            raise InputError(f"{handler} {wrong}; its parameters are {', '.join(parameters)}.")

    def _check_values(self, wanted: tuple[str, ...], given: dict[str, Any]) -> None:
        if "data" in wanted and not isinstance(given.get("data"), list):
            raise InputError('The request needs "data", a list of the handler\'s values.')
        for name in ("session_hash", "event_id"):
            value = given.get(name)
            if (name in wanted or value is not None) and not (
                isinstance(value, str) and _NAME.fullmatch(value)
            ):
                raise InputError(f'"{name}" must be a text of up to 64 letters, digits, "_" and "-".')
        number, trigger = given.get("fn_index"), given.get("trigger_id")
        known = isinstance(number, int) and not isinstance(number, bool) and number in self._numbers
        if ("fn_index" in wanted or number is not None) and not known:
            raise InputError('"fn_index" must be the number of one of the page\'s handlers.')
        if trigger is not None and (isinstance(trigger, bool) or not isinstance(trigger, int)):
            raise InputError('"trigger_id" must be the number of one of the page\'s components.')


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("The request is no JSON that can be read.") from error
    if not isinstance(given, dict):
        raise InputError('The request must be a JSON object, such as {"data": [...]}.')
    level: list[Any] = [given]
    for _ in range(_DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return given
    raise InputError(f"The request is nested more than {_DEEPEST} levels deep.")


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


async def _gone() -> Message:
    return {"type": "http.disconnect"}
