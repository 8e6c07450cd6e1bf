"""Small graphs and clips for the serving tests: real ONNX files that follow the contract, real videos."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serve.card import Card, Correction, GraphInfo, Key, Profile, key_of, to_metadata
from serve.gathering.rule import Rule, rule_text

CLASSES = ("red", "green", "blue")
PALETTE = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
TAU = 0.25
BLUE_PER_TAU = 400.0  # what the "correction" adds to the score of blue, per unit of tau


def card(size: tuple[int, int] | None = None) -> Card:
    return Card(
        CLASSES,
        PALETTE,
        ignore_index=255,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        stride=4,
        output_stride=4,
        size=size,
        model="strongest channel",
        license_note="none needed",
    )


def write_graph(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    batch: str | int = "N",
    runtime_tau: bool = False,
    extras: bool = False,
    gather: Rule | None = None,
    profiles: dict[str, float] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A graph whose label is the strongest colour channel, blue being favoured by BLUE_PER_TAU * tau.

    With `gather`, it outputs the channels' means as logits, as one that was exported for gathering. With
    `profiles`, each has its own tau; the n-th gathers in bins that begin n logits further up.
    """
    height, width = size or ("H", "W")
    favour = np.array([0, 0, BLUE_PER_TAU], np.float32)
    initializers = [
        numpy_helper.from_array(favour, "favour"),
        numpy_helper.from_array(np.float32(TAU), "tau"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["plain"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["favour", "strength" if profiles else "tau"], ["shift"]),
        helper.make_node("Add", ["plain", "shift"], ["corrected"]),
        helper.make_node("ArgMax", ["corrected"], ["wide"], axis=3, keepdims=0),
        helper.make_node("Cast", ["wide"], ["labels"], to=TensorProto.UINT8),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, height, width, 3])]
    outputs = [helper.make_tensor_value_info("labels", TensorProto.UINT8, [batch, height, width])]
    if runtime_tau:
        inputs.append(helper.make_tensor_value_info("tau", TensorProto.FLOAT, []))
    if profiles:
        taus = np.array(list(profiles.values()), np.float32)
        initializers += [
            numpy_helper.from_array(taus, "taus"),
            numpy_helper.from_array(np.int32(0), "profile"),
        ]
        nodes.insert(0, helper.make_node("Gather", ["taus", "profile"], ["strength"]))
        inputs.append(helper.make_tensor_value_info("profile", TensorProto.INT32, []))
    if extras:
        nodes += [
            helper.make_node("ArgMax", ["plain"], ["wide0"], axis=3, keepdims=0),
            helper.make_node("Cast", ["wide0"], ["uncorrected_labels"], to=TensorProto.UINT8),
            helper.make_node("Transpose", ["corrected"], ["channels"], perm=[0, 3, 1, 2]),
            helper.make_node("AveragePool", ["channels"], ["scores"], kernel_shape=[4, 4], strides=[4, 4]),
        ]
        outputs += [
            helper.make_tensor_value_info("uncorrected_labels", TensorProto.UINT8, [batch, height, width]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3, "h", "w"]),
        ]
    if gather is not None:
        nodes += [
            helper.make_node("Transpose", ["plain"], ["plain channels"], perm=[0, 3, 1, 2]),
            helper.make_node(
                "AveragePool", ["plain channels"], ["logits"], kernel_shape=[4, 4], strides=[4, 4]
            ),
        ]
        outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3, "h", "w"]))
    graph = helper.make_graph(nodes, "strongest", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    correction = Correction(TAU, runtime_tau, 8, 24, 0.01, 0.03, "nothing real", ("green",))
    named = tuple(Profile(name, replace(correction, tau=tau)) for name, tau in (profiles or {}).items())
    own = named[0].correction if named else correction
    info = GraphInfo(card(size), own, {"labels_equal": 0.9999}, profiles=named)
    known = {}
    for n in range(len(named) or 1):
        if gather is not None:
            rule = replace(gather, low=gather.low + n)
            known |= {
                key_of(Key.GATHER, n): rule_text(rule),
                key_of(Key.NETWORK, n): '{"sha256": "strongest"}',
            }
    helper.set_model_props(model, to_metadata(info) | known if metadata is None else metadata)
    onnx.save(model, path)
    return path


def write_slow_graph(path: Path, steps: int) -> Path:
    """`write_graph` with `steps` products of matrices on the way, each of about 0.3 s on two cores."""
    model = onnx.load(write_graph(path))
    graph = model.graph
    add = next(position for position, node in enumerate(graph.node) if node.output[0] == "corrected")
    graph.node[add].input[0] = "late"
    nodes = [
        # Of the picture, so that ONNX Runtime computes and packs none of them beforehand.
        helper.make_node("ReduceMax", ["plain"], ["most"], keepdims=0),
        helper.make_node("Sign", ["most"], ["one"]),
        helper.make_node("Mul", ["square", "one"], ["step 0"]),
        *(helper.make_node("MatMul", [f"step {n}", "step 0"], [f"step {n + 1}"]) for n in range(steps)),
        helper.make_node("ReduceMax", [f"step {steps}"], ["result"], keepdims=0),
        helper.make_node("Mul", ["result", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["late"]),
    ]
    for position, node in enumerate(nodes, start=add):
        graph.node.insert(position, node)
    constants = {"square": np.eye(2000, dtype=np.float32), "zero": np.float32(0)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, path)
    return path


def halves(height: int = 72, width: int = 96) -> np.ndarray:
    """A picture whose left half is red and whose right half is green, uint8 [H, W, 3]."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2, 0] = 220
    picture[:, width // 2 :, 1] = 220
    return picture


def write_clip(
    path: Path,
    *,
    times: Sequence[int] = tuple(range(12)),
    time_base: Fraction = Fraction(1, 12),
    picture: np.ndarray | None = None,
    rotation: int | None = None,
    sound: str | None = None,
    sample_rate: int = 48000,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
) -> Path:
    """A clip that shows `picture` at each of `times`, with a sine tone of the same length."""
    picture = halves() if picture is None else picture
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(codec, rate=12)
        video.height, video.width = picture.shape[:2]
        video.pix_fmt = pixel_format
        video.codec_context.time_base = time_base
        if rotation is not None:
            video.set_display_rotation(rotation)
        audio = container.add_stream(sound, rate=sample_rate) if sound else None
        if audio is not None:
            audio.codec_context.layout = "mono"
        for position, pts in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts, time_base
            later = times[position + 1] if position + 1 < len(times) else pts + 1
            frame.duration = later - pts
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            for frame in _tone(float((times[-1] + 1) * time_base), sample_rate):
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def _tone(seconds: float, sample_rate: int) -> list[av.AudioFrame]:
    wave = (8000 * np.sin(2 * np.pi * 440 / sample_rate * np.arange(int(seconds * sample_rate)))).astype(
        np.int16
    )
    frames = []
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
        frames.append(frame)
    return frames
