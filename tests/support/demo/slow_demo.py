"""Requests to a demo whose work takes long."""

from demo_server import Demo, file_data, submit

AT_ONCE = 60.0
"""Seconds until a slot has to be free, on any machine; alone it is half a second, and the work minutes."""


def ask_for_picture(server: Demo, model: str, picture: str) -> str:
    return submit(server, "segment_image", model, file_data(picture), None, 0.5, ["red"])


def ask_for_video(server: Demo, model: str, clip: str) -> str:
    return submit(server, "segment_video", model, file_data(clip), None, 0.5, "overlay")
