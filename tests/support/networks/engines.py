"""Profiles, options and networks for engines of TensorRT for RTX."""

import importlib.util
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from small_network import smooth_pictures, write_pictures

from export.cli.commands import main
from export.deploy.tensorrt import Options, Profile
from export.precision.conversion import ends, quantise, to_half
from serve.card import Card

WITH_TENSORRT = importlib.util.find_spec("tensorrt_rtx") is not None


PROFILE = Profile((1, 64, 64), (1, 96, 128), (2, 128, 192))


RTX = Options(rtx=True)


needs_tensorrt = [
    pytest.mark.trt,
    pytest.mark.skipif(not WITH_TENSORRT, reason="needs tensorrt-rtx: pip install 'blda[trt]'"),
]


def converted(bare: onnx.ModelProto, precision: str, folder: Path, taken: Card) -> onnx.ModelProto:
    if precision == "fp16":
        return to_half(bare)
    if precision == "int8":
        files = write_pictures(folder / "target", smooth_pictures(2))
        return quantise(bare, taken, files, ends(bare))
    return bare


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output
