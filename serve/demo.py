"""The web demo: pictures and videos through one or several graphs, in a browser, with safe defaults."""

import inspect
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from serve import demo_image, demo_video
from serve.demo_files import Results, Uploads
from serve.demo_gate import Gate, canonical
from serve.demo_limits import choose, told
from serve.demo_model import model_html
from serve.demo_options import PICTURES, VIDEOS, Limits, Server
from serve.demo_style import CSS, SCRIPT, THEME, palette_html, title_html
from serve.errors import InputError
from serve.segmenter import TAU_RANGE, Segmenter

_KEPT = 3600  # seconds that uploads and results stay on the server
_SWEEP = 300
_SESSIONS = 256  # that Gradio remembers, 0.1 MiB each; it never forgets one before there are more


def serve_demo(
    segmenters: Sequence[Segmenter], folder: Path, server: Server, limits: Limits, examples: Sequence[Path]
) -> None:
    """Serve until interrupted or terminated, with uploads and results in `folder`, Gradio's cache.

    Raises:
        InputError: the port is taken.
    """
    uploads = Uploads(folder)
    page = build(segmenters, folder, uploads, limits, examples)
    gate = Gate.before(host=server.host, extra=server.names, uploads=uploads)
    host = canonical(server.host)
    shown = f"[{host}]" if ":" in host else host  # as it stands in an address, and as Gradio wants it
    try:
        page.launch(
            server_name=shown,
            server_port=server.port,
            auth=list(server.accounts) or None,
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
    _until_stopped()
    page.close(verbose=False)


def _until_stopped() -> None:
    """Wait for Ctrl-C, or for the signal by which containers and services are stopped."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()


class Page(gr.Blocks):  # type: ignore[misc]
    """Blocks that take no request further if it names a file that is not the page's.

    Gradio checks files only in values that say of themselves that they are files, and fetches those that are
    addresses; handlers of ours that take values as they come must not have to remember it.
    """

    def __init__(self, uploads: Uploads, **options: Any) -> None:
        super().__init__(**options)
        self._uploads = uploads

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *more: Any, **options: Any) -> Any:
        """Gradio's step before every handler, public or not, of which all values of a request are shown."""
        told(self._uploads.check)(inputs)
        return await super().preprocess_data(block_fn, inputs, *more, **options)


def build(
    segmenters: Sequence[Segmenter], folder: Path, uploads: Uploads, limits: Limits, examples: Sequence[Path]
) -> Any:
    """The page as gradio.Blocks. `folder` is Gradio's cache folder, where `uploads` lie."""
    models = model_names(segmenters)
    first = segmenters[0]
    results = Results(folder / "results")
    pictures = demo_image.ImageDesk(models, uploads, results, limits)
    videos = demo_video.VideoDesk(models, uploads, results, limits)
    with Page(uploads, title="blda demo", analytics_enabled=False, delete_cache=(_SWEEP, _KEPT)) as page:
        gr.HTML(title_html(list(models)), elem_id="title")
        model = gr.Dropdown(list(models), label="Model", visible=len(models) > 1, elem_id="model")
        palette = gr.HTML(palette_html(first.card), elem_id="palette")
        with gr.Tab("Image"):
            image_tab = _image_tab(first, pictures, model, _of(PICTURES, examples))
        with gr.Tab("Video"):
            video_tab = _video_tab(first, videos, model, _of(VIDEOS, examples))
        with gr.Tab("Model"):
            card = gr.HTML(model_html(first), elem_id="card")

        def change(name: str) -> list[Any]:
            chosen = choose(models, name)
            classes = list(chosen.card.classes)
            return [
                palette_html(chosen.card),
                _tau_state(chosen),
                gr.CheckboxGroup(choices=classes, value=classes),
                _tau_state(chosen),
                gr.Radio(choices=demo_video.outputs_of(chosen), value="overlay"),
                model_html(chosen),
            ]

        outputs = [palette, image_tab.tau, image_tab.classes, *video_tab, card]
        changed = model.input(told(change), model, outputs, api_visibility="private")
        changed.then(**image_tab.work, api_visibility="private")
    # Past the queue (`api_open`) neither its length nor one worker at a time would hold.
    page.queue(max_size=limits.queue, default_concurrency_limit=1, api_open=False)
    return page


@dataclass(frozen=True)
class ImageTab:
    """What other parts of the page need of the Image tab."""

    tau: gr.Slider
    classes: gr.CheckboxGroup
    work: dict[str, Any]
    """Function, inputs and outputs of segmenting the current picture."""


def _image_tab(first: Segmenter, desk: demo_image.ImageDesk, model: Any, examples: list[str]) -> ImageTab:
    classes = list(first.card.classes)
    with gr.Row(elem_id="image-row"):
        with gr.Column(scale=2, min_width=300):
            picture = gr.Image(
                label="Picture",
                type="filepath",
                sources=["upload", "clipboard", "webcam"],
                height=260,
                elem_id="picture",
                buttons=["fullscreen"],
            )
            tau = _tau_slider(first, "tau")
            opacity = _opacity_slider("opacity")
            shown = gr.CheckboxGroup(classes, value=classes, label="Classes shown", elem_id="classes")
            if examples:
                gr.Examples(examples, picture, label="Examples", examples_per_page=8)
        with gr.Column(scale=3, min_width=300):
            slider = gr.ImageSlider(
                label="Before and after the correction", elem_id="result", buttons=["fullscreen"]
            )
            legend = gr.HTML(demo_image.EMPTY, elem_id="legend")
            with gr.Row(elem_id="downloads"):
                labels = gr.DownloadButton("Label PNG", size="sm", elem_id="labels")
                overlay = gr.DownloadButton("Overlay", size="sm", elem_id="overlay")
            shares = gr.JSON(visible=False, label="Shares")
    inputs = [model, picture, tau, opacity, shown]
    outputs = [slider, legend, labels, overlay, shares]
    work = {"fn": told(desk.segment), "inputs": inputs, "outputs": outputs, "preprocess": False}
    work |= {"concurrency_id": "image", "show_progress": "minimal", "show_progress_on": [slider]}
    gr.on(
        [picture.change, tau.input, opacity.input, shown.input],
        **work,
        trigger_mode="always_last",
        api_name="segment_image",
        api_description=_description(desk.segment),
    )
    return ImageTab(tau, shown, work)


def _video_tab(first: Segmenter, desk: demo_video.VideoDesk, model: Any, examples: list[str]) -> list[Any]:
    """Returns the components that depend on the model."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            video = gr.Video(
                label="Video", sources=["upload", "webcam"], height=260, elem_id="video", include_audio=True
            )
            tau = _tau_slider(first, "video-tau")
            opacity = _opacity_slider("video-opacity")
            output = gr.Radio(
                demo_video.outputs_of(first), value="overlay", label="Show", elem_id="video-output"
            )
            with gr.Row():
                start = gr.Button("Segment", variant="primary", elem_id="start")
                stop = gr.Button("Stop", elem_id="stop")
            if examples:
                gr.Examples(examples, video, label="Examples")
        with gr.Column(scale=3, min_width=300):
            result = gr.Video(label="Result", interactive=False, elem_id="video-result", height=480)
            status = gr.HTML(demo_video.EMPTY, elem_id="video-status")
    work = start.click(
        told(desk.segment),
        [model, video, tau, opacity, output],
        [result, status],
        preprocess=False,
        concurrency_id="video",
        api_name="segment_video",
        api_description=_description(desk.segment),
        show_progress_on=[result],
    )
    stop.click(desk.stop, None, status, cancels=[work], queue=False, api_visibility="private")
    return [tau, output]


def _description(work: Callable[..., Any]) -> str:
    """The whole docstring for the API page, which of itself shows no more than the first paragraph."""
    return " ".join((inspect.getdoc(work) or "").split())


def _tau_slider(segmenter: Segmenter, elem_id: str) -> gr.Slider:
    label = "Strength of the correction, τ"
    return gr.Slider(*TAU_RANGE, step=0.05, label=label, elem_id=elem_id, **_tau_facts(segmenter))


def _tau_state(segmenter: Segmenter) -> Any:
    return gr.Slider(**_tau_facts(segmenter))


def _tau_facts(segmenter: Segmenter) -> dict[str, Any]:
    correction = segmenter.correction
    sliding = correction is not None and correction.runtime_tau
    return {"value": correction.tau if correction else 0.0, "visible": sliding}


def _opacity_slider(elem_id: str) -> gr.Slider:
    return gr.Slider(0, 1, value=0.55, step=0.05, label="Opacity of the colours", elem_id=elem_id)


def model_names(segmenters: Sequence[Segmenter]) -> dict[str, Segmenter]:
    """By file name, or by path from their common folder where two files have the same name."""
    paths = [segmenter.runtime.path.absolute() for segmenter in segmenters]
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        common = os.path.commonpath([path.parent for path in paths])  # visitors need not know what is above
        names = [str(path.relative_to(common)) for path in paths]
    return dict(zip(names, segmenters, strict=True))


def _of(suffixes: frozenset[str], files: Sequence[Path]) -> list[str]:
    return [str(path) for path in files if path.suffix.lower() in suffixes]
