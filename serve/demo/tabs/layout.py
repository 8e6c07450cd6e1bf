"""The demo's tabs for pictures and videos: what stands where, and what happens when."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from serve.demo.request.values import told
from serve.demo.tabs import image as demo_image
from serve.demo.tabs import video as demo_video
from serve.inference.segmenter import TAU_RANGE, Segmenter


@dataclass(frozen=True)
class ImageTab:
    """What other parts of the page need of the Image tab."""

    tau: gr.Slider
    classes: gr.CheckboxGroup
    work: dict[str, Any]
    """Function, inputs and outputs of segmenting the current picture."""


def image_tab(
    first: Segmenter, desk: demo_image.ImageDesk, model: Any, examples: list[str], page: gr.Blocks
) -> ImageTab:
    """Opens, when `page` does, with the result for an example, if there is one."""
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
        [page.load, picture.change, tau.input, opacity.input, shown.input],
        **work,
        trigger_mode="always_last",
        api_name="segment_image",
        api_description=_description(desk.segment),
    )
    return ImageTab(tau, shown, work)


def video_tab(first: Segmenter, desk: demo_video.VideoDesk, model: Any, examples: list[str]) -> list[Any]:
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
    stop.click(
        lambda: demo_video.STOPPED, None, status, cancels=[work], queue=False, api_visibility="private"
    )
    return [tau, output]


def _description(work: Callable[..., Any]) -> str:
    """The whole docstring for the API page, which of itself shows no more than the first paragraph."""
    return " ".join((inspect.getdoc(work) or "").split())


def _tau_slider(segmenter: Segmenter, elem_id: str) -> gr.Slider:
    label = "Strength of the correction, τ"
    return gr.Slider(*TAU_RANGE, step=0.05, label=label, elem_id=elem_id, **_tau_facts(segmenter))


def tau_state(segmenter: Segmenter) -> Any:
    """What a slider for the strength becomes for another model."""
    return gr.Slider(**_tau_facts(segmenter))


def _tau_facts(segmenter: Segmenter) -> dict[str, Any]:
    correction = segmenter.correction
    sliding = correction is not None and correction.runtime_tau
    return {"value": correction.tau if correction else 0.0, "visible": sliding}


def _opacity_slider(elem_id: str) -> gr.Slider:
    return gr.Slider(0, 1, value=0.55, step=0.05, label="Opacity of the colours", elem_id=elem_id)
