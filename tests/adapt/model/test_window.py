"""Sliding windows: nothing is lost, nothing counts twice, and the mean is a mean."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.model.segmenter import Segmenter
from adapt.model.window import Window, average_windows, sliding_logits

FLOAT32 = 1e-5  # a mean of equal float32 numbers


class Pyramid(nn.Module):
    """An encoder that sees single cells only: every level is a mean over its own stride."""

    channels = (3, 3)
    strides = (4, 8)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(pixels, stride) for stride in self.strides]


class Finest(nn.Module):
    """A decoder without a view: the finest level itself, so that the network is one 1x1 convolution."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0]


@pytest.fixture(scope="module")
def pointwise() -> Segmenter:
    """Logits of a cell depend on that cell's pixels alone; stride 8, decoder's stride 4."""
    torch.manual_seed(0)
    segmenter = Segmenter(Pyramid(), Finest(), width=3, num_classes=5).eval()
    nn.init.normal_(segmenter.classify.weight)
    return segmenter


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([(8, 8), (16, 32), (40, 24), (64, 64)]),
    st.sampled_from([0.0, 0.3, 0.5, 0.9]),
)
@settings(max_examples=60, deadline=None)
def test_a_network_without_a_view_gives_the_same_from_windows(pointwise, height, width, size, overlap):
    images = torch.from_numpy(
        np.random.default_rng(height * 100 + width).integers(0, 256, (2, height, width, 3), np.uint8)
    )
    whole = pointwise.logits(images)
    windows = sliding_logits(pointwise, images, Window(size, overlap))
    assert windows.shape == whole.shape
    assert torch.allclose(windows, whole, atol=FLOAT32, rtol=0)


def test_one_window_over_everything_is_the_whole_picture_bit_for_bit(pointwise):
    images = torch.randint(0, 256, (1, 50, 70, 3), dtype=torch.uint8)
    assert torch.equal(sliding_logits(pointwise, images, Window((64, 128))), pointwise.logits(images))


def test_what_windows_say_of_a_cell_is_averaged():
    """A network that names its window: every cell is the mean of the numbers of the windows over it."""
    calls = []

    def network(part: Tensor) -> Tensor:
        calls.append(tuple(part.shape[2:]))
        return torch.full((1, 1, part.shape[2] // 2, part.shape[3] // 2), float(len(calls)))

    said = average_windows(network, torch.zeros(1, 3, 4, 14), (4, 8), (4, 4), 2)
    assert calls == [(4, 8)] * 3, "starts 0, 4 and, moved back to end with the picture, 6"
    # cells of windows 1, 2, 3 begin at 0, 2, 3 and are four wide
    assert said[0, 0].tolist() == 2 * [[1, 1, 1.5, 2, 2.5, 2.5, 3]]


def test_windows_keep_the_overlap_that_was_asked_for(pointwise):
    seen = []
    pixels = torch.arange(80.0).view(1, 1, 1, 80).expand(1, 3, 8, 80)

    class Watched(nn.Module):
        stride, output_stride = 8, 4

        def normalise(self, images: Tensor) -> Tensor:
            return pixels

        def forward(self, part: Tensor) -> Tensor:
            seen.append(int(part[0, 0, 0, 0]))
            return part[:, :, ::4, ::4]

    sliding_logits(Watched(), torch.zeros(1, 8, 80, 3, dtype=torch.uint8), Window((8, 32), 0.4))  # type: ignore[arg-type]
    assert seen == [0, 16, 32, 48], "19 pixels apart at most, in steps of the stride"


@pytest.mark.parametrize("size", [(60, 64), (64, 4), (0, 64)])
def test_windows_that_the_network_cannot_take_are_refused(pointwise, size):
    with pytest.raises(InputError, match=r"multiples of 8; give \d+x\d+"):
        sliding_logits(pointwise, torch.zeros(1, 64, 64, 3, dtype=torch.uint8), Window(size))
