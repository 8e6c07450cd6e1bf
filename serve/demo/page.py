"""The web demo: pictures and videos through one or several graphs, in a browser, with safe defaults."""

import os
import shutil
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from serve.demo.door.gate import Gate, canonical
from serve.demo.door.login import Accounts
from serve.demo.door.probes import Probes
from serve.demo.door.requests import Requests
from serve.demo.door.uploads import UploadDoor
from serve.demo.metrics import metrics
from serve.demo.options import PICTURES, VIDEOS, Limits, Server
from serve.demo.request.blocks import Page
from serve.demo.request.files import Results, Upload, Uploads
from serve.demo.request.values import choose, told
from serve.demo.request.work import Visitors
from serve.demo.style import CSS, SCRIPT, THEME, palette_html, title_html
from serve.demo.tabs import image as demo_image
from serve.demo.tabs import video as demo_video
from serve.demo.tabs.layout import image_tab, tau_state, video_tab
from serve.demo.tabs.model import model_html
from serve.errors import InputError
from serve.inference.segmenter import Segmenter

_KEPT = 3600  # seconds that uploads and results stay on the server
_SWEEP = 300
_SESSIONS = 256  # that Gradio remembers, 0.1 MiB each; it never forgets one before there are more
_LOOK = 0.1  # seconds
_CLOSING = 1.0  # seconds that work and connections have to end by themselves
_WAIT_HINT = "After three wrong passwords for a name, wait a little before the next."


def serve_demo(
    segmenters: Sequence[Segmenter], folder: Path, server: Server, limits: Limits, examples: Sequence[Path]
) -> None:
    """Serve until interrupted (KeyboardInterrupt), with uploads and results in `folder`, Gradio's cache.

    Raises:
        InputError: the port is taken.
    """
    uploads, visitors = Uploads(folder), Visitors()
    page = build(segmenters, folder, uploads, visitors, limits, examples)
    accounts = Accounts(dict(server.accounts)) if server.accounts else None
    gate = Gate.before(
        host=server.host,
        extra=server.names,
        uploads=uploads,
        upload_door=UploadDoor(folder, limits.upload_mb * 2**20),
        requests=Requests(page.parameters(), [number for number, each in page.fns.items() if each.fn]),
        visitors=visitors,
        probes=Probes(partial(metrics, page, segmenters[0]), accounts),
    )
    host = canonical(server.host)
    shown = f"[{host}]" if ":" in host else host  # as it stands in an address, and as Gradio wants it
    try:
        page.launch(
            server_name=shown,
            server_port=server.port,
            auth=accounts,
            auth_message=_WAIT_HINT,
            share=False,
            inbrowser=False,
            quiet=True,
            show_error=False,  # what a visitor can mend is said by `told`; the rest is for the log
            max_file_size=f"{limits.upload_mb}mb",
            theme=THEME,
            css=CSS,
            js=SCRIPT,
            app_kwargs={"lifespan": gate},
            footer_links=["api"],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            state_session_capacity=_SESSIONS,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(
            f"port {server.port} of {server.host} can't be used; is it taken? Choose another with --port."
        ) from error
    print(f"Open http://{shown}:{server.port}  (Ctrl-C stops)", flush=True)
    try:
        while True:  # a signal that another thread was given is seen when this one wakes
            time.sleep(_LOOK)
    finally:
        visitors.stop_all(_CLOSING)
        closing = threading.Thread(target=partial(page.close, verbose=False), daemon=True)
        closing.start()  # it waits for the connections of those who are still there, for longer than we do
        closing.join(_CLOSING / 2)


def build(
    segmenters: Sequence[Segmenter],
    folder: Path,
    uploads: Uploads,
    visitors: Visitors,
    limits: Limits,
    examples: Sequence[Path],
) -> Any:
    """The page, a `Page`. `folder` is Gradio's cache folder, where `uploads` lie."""
    models = model_names(segmenters)
    first = segmenters[0]
    results = Results(folder / "results")
    offered = _of(PICTURES, examples)
    opening = _kept(Path(offered[0]), folder / "opening") if offered else None
    pictures = demo_image.ImageDesk(models, uploads, results, limits, opening)
    videos = demo_video.VideoDesk(models, uploads, results, limits)
    answers = {"segment_image": demo_image.Answer._fields, "segment_video": demo_video.Answer._fields}
    options = {"title": "blda demo", "analytics_enabled": False, "delete_cache": (_SWEEP, _KEPT)}
    with Page(uploads, visitors, answers, **options) as page:
        gr.HTML(title_html(list(models)), elem_id="title")
        model = gr.Dropdown(list(models), label="Model", visible=len(models) > 1, elem_id="model")
        palette = gr.HTML(palette_html(first.card), elem_id="palette")
        with gr.Tab("Image"):
            tab = image_tab(first, pictures, model, offered, page)
        with gr.Tab("Video"):
            of_video = video_tab(first, videos, model, _of(VIDEOS, examples))
        with gr.Tab("Model"):
            card = gr.HTML(model_html(first), elem_id="card")

        def change(name: str) -> list[Any]:
            chosen = choose(models, name)
            classes = list(chosen.card.classes)
            return [
                palette_html(chosen.card),
                tau_state(chosen),
                gr.CheckboxGroup(choices=classes, value=classes),
                tau_state(chosen),
                gr.Radio(choices=demo_video.outputs_of(chosen), value="overlay"),
                model_html(chosen),
            ]

        outputs = [palette, tab.tau, tab.classes, *of_video, card]
        changed = model.input(told(change), model, outputs, preprocess=False, api_visibility="private")
        changed.then(**tab.work, api_visibility="private")
    # Past the queue (`api_open`) neither its length nor one worker at a time would hold.
    page.queue(max_size=limits.queue, default_concurrency_limit=1, api_open=False)
    return page


def model_names(segmenters: Sequence[Segmenter]) -> dict[str, Segmenter]:
    """By file name, or by path from their common folder where two files have the same name; and profile."""
    paths = [segmenter.runtime.path.absolute() for segmenter in segmenters]
    files = list(dict.fromkeys(paths))
    names = {path: path.name for path in files}
    if len(set(names.values())) < len(names):
        common = os.path.commonpath([path.parent for path in files])  # visitors need not know what is above
        names = {path: str(path.relative_to(common)) for path in files}
    return {
        names[path] + (f" ({segmenter.profile})" if segmenter.profile else ""): segmenter
        for path, segmenter in zip(paths, segmenters, strict=True)
    }


def _of(suffixes: frozenset[str], files: Sequence[Path]) -> list[str]:
    return [str(path) for path in files if path.suffix.lower() in suffixes]


def _kept(example: Path, folder: Path) -> Upload:
    """A copy of an example that stays as long as the page."""
    folder.mkdir()
    return Upload(Path(shutil.copy(example, folder)), example.name)
