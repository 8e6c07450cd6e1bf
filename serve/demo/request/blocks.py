"""Gradio's Blocks, with a guard before every handler and work that ends when nobody waits for it."""

from collections.abc import Collection, Mapping
from typing import Any

import gradio as gr

from serve.demo.request.files import Uploads
from serve.demo.request.tally import Tally
from serve.demo.request.values import sentence
from serve.demo.request.work import WORK, Visitors
from serve.errors import InputError

_FILES = (gr.Image, gr.Video)


class Page(gr.Blocks):  # type: ignore[misc]
    """Blocks that check the values of every request, public or not, before Gradio does anything with them.

    * As many values as the handler takes, else one sentence; Gradio would only log it.
    * No file that is not the page's. Gradio checks files only in values that say of themselves that they are
      files, and fetches those that are addresses; handlers that take values as they come must not have to
      remember it.
    * A request's work is stopped with its task (a cancelled request), or when its visitor left; a task ends
      only after its threads, so that no second one begins while they still work.

    Args:
        uploads: the files that a request may name.
        visitors: who listens for answers.
        answers: names of the outputs of public handlers, by the handlers' names.
    """

    def __init__(
        self, uploads: Uploads, visitors: Visitors, answers: Mapping[str, Collection[str]], **options: Any
    ) -> None:
        super().__init__(**options)
        self._uploads = uploads
        self._visitors = visitors
        self._answers = answers
        self.tally = Tally((InputError, gr.Error))

    async def process_api(self, block_fn: Any, inputs: list[Any], *more: Any, **options: Any) -> Any:
        """Gradio's way to every handler."""
        keys = [key for key in (options.get("session_hash"), options.get("event_id")) if key]
        with self._visitors.working(keys) as work:
            token = WORK.set(work)
            try:
                with self.tally.working(self._name_of(block_fn), work):
                    given = self._checked(block_fn, inputs)
                    return await super().process_api(block_fn, given, *more, **options)
            except InputError as error:
                raise sentence(error.message) from error
            finally:
                WORK.reset(token)
                work.stop()
                await work.ended()

    def get_api_info(self, *args: Any, **options: Any) -> Any:
        """The description of the API, in which outputs have names instead of numbers of components."""
        info = super().get_api_info(*args, **options)
        for name, answers in self._answers.items():
            if endpoint := info["named_endpoints"].get(f"/{name}"):
                for described, answer in zip(endpoint["returns"], answers, strict=True):
                    described["label"] = answer
        return info

    def waiting(self) -> int:
        """How many requests are in the queue."""
        return len(self._queue)

    def _name_of(self, block_fn: Any) -> str:
        """The name of a public handler; all that the page does for itself is one."""
        return block_fn.api_name if block_fn.api_name in self._answers else "page"

    def parameters(self) -> dict[str, dict[str, bool]]:
        """Of each public handler, the names of its parameters, and whether they may be left out."""
        endpoints = self.get_api_info()["named_endpoints"]
        return {
            name.removeprefix("/"): {
                each["parameter_name"]: each["parameter_has_default"] for each in endpoint["parameters"]
            }
            for name, endpoint in endpoints.items()
        }

    def _checked(self, block_fn: Any, inputs: list[Any]) -> list[Any]:
        if block_fn.cancels:  # Gradio gives such a handler its session
            return inputs
        if len(inputs) != len(block_fn.inputs):
            raise InputError(
                f"The request gives {len(inputs)} value(s), but {len(block_fn.inputs)} are needed; see the "
                "description of the API."
            )
        for value in inputs:
            self._uploads.check(value)
        return [
            self._value(component, value) for component, value in zip(block_fn.inputs, inputs, strict=True)
        ]

    def _value(self, component: Any, value: Any) -> Any:
        """What Gradio gets: of files no more than it needs, whatever else the request said about them."""
        if isinstance(component, gr.Dataset):
            known = isinstance(value, int) and not isinstance(value, bool)
            if not (known and 0 <= value < len(component.samples)):
                raise InputError("The request names an example that this page does not have.")
        if value is None or not isinstance(component, _FILES):
            return value
        found = self._uploads.find(value)
        return {"path": str(found.path), "orig_name": found.name, "meta": {"_type": "gradio.FileData"}}
