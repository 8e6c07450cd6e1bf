"""Requests of a client of the API."""

from pathlib import Path

import gradio_client


def segment(client: gradio_client.Client, picture: Path, **changes):
    arguments = {
        "model": "sliding.onnx",
        "picture": gradio_client.handle_file(picture),
        "tau": 0,
        "opacity": 1,
        "shown": ["red", "green", "blue"],
    }
    return client.predict(**arguments | changes, api_name="/segment_image")
