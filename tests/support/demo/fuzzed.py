"""A demo that is asked for everything that makes no sense."""

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from demo_server import Demo, file_data


class Site(NamedTuple):
    """A running demo and a file that it has."""

    server: Demo
    picture: str
    clip: str

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        """Status and text of an answer."""
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=60)
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, text

    def run(self, number: int, data: list[Any]) -> dict[str, Any]:
        """The last message about a request to a handler, as the page sends it."""
        session = str(threading.get_ident())  # Gradio is slow to make new ones
        body = {"fn_index": number, "data": data, "session_hash": session}
        status, text = self.ask("POST", "/gradio_api/queue/join", json.dumps(body).encode())
        assert status == 200, text
        _, stream = self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")
        messages = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line]
        return next(m for m in messages if m["msg"] == "process_completed")

    def call(self, endpoint: str, *data: Any) -> tuple[str, Any]:
        """Kind and data of the answer to an API client."""
        body = json.dumps({"data": data}).encode()
        status, text = self.ask("POST", f"/gradio_api/call/{endpoint}", body)
        assert status == 200, text
        _, stream = self.ask("GET", f"/gradio_api/call/{endpoint}/{json.loads(text)['event_id']}")
        lines = dict(line.split(": ", 1) for line in stream.splitlines() if line)
        return lines["event"], json.loads(lines["data"])

    def handlers(self) -> Iterator[tuple[int, list[dict[str, Any]], list[Any]]]:
        """Number, inputs and their values of every handler that takes any, public or not."""
        config = json.loads(self.ask("GET", "/config")[1])
        components = {component["id"]: component for component in config["components"]}
        for handler in config["dependencies"]:
            inputs = [components[number] for number in handler["inputs"]]
            values: list[Any] = [component["props"].get("value") for component in inputs]
            for place, component in enumerate(inputs):
                if component["type"] in ("image", "video"):
                    values[place] = file_data(self.picture if component["type"] == "image" else self.clip)
            if inputs:
                yield handler["id"], inputs, values
