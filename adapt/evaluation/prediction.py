"""Prediction and its quality: labels of a picture, confusion matrix, IoU, accuracy and bias per class."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.balance.correction import ShiftTable, posthoc_scores
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.model.segmenter import Segmenter, labels_from_scores
from adapt.model.window import Window, sliding_logits
from serve.media.progress import Bar

if TYPE_CHECKING:
    from adapt.data.datasets import Sample


class LabelledPictures(Protocol):
    """Pictures with ground truth, such as `adapt.data.datasets.LabelledFolder`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> "Sample": ...


def predict(
    segmenter: Segmenter,
    image: np.ndarray,
    table: ShiftTable | None = None,
    tau: float = 0.0,
    window: Window | None = None,
) -> np.ndarray:
    """Labels uint8 [H, W] of one picture.

    Args:
        segmenter: the network, in evaluation mode.
        image: uint8 [H, W, 3] RGB, any size.
        table: shifts of the domain the picture comes from; may be left out when tau is 0.
        tau: strength of the post-hoc correction; 0 is the plain argmax.
        window: cut the picture up; None looks at it whole.
    """
    logits = picture_logits(segmenter, image, window)
    return labels_of_logits(logits, segmenter.output_stride, image.shape[:2], table, tau)


def evaluate(
    segmenter: Segmenter,
    dataset: LabelledPictures,
    num_classes: int,
    table: ShiftTable | None = None,
    taus: Sequence[float] = (0.0,),
    device: torch.device | str = "cpu",
    window: Window | None = None,
    progress: bool = True,
) -> dict[float, Scores]:
    """Scores over a whole data set for every strength in `taus`; arguments as of `confusions`.

    Raises:
        InputError: no pixel has ground truth.
    """
    totals = {tau: np.zeros((num_classes, num_classes), np.int64) for tau in taus}
    for counted in confusions(segmenter, dataset, num_classes, table, taus, device, window, progress):
        for tau, confusion in counted.items():
            totals[tau] += confusion
    return {tau: Scores.from_confusion(total) for tau, total in totals.items()}


def confusions(
    segmenter: Segmenter,
    dataset: LabelledPictures,
    num_classes: int,
    table: ShiftTable | None = None,
    taus: Sequence[float] = (0.0,),
    device: torch.device | str = "cpu",
    window: Window | None = None,
    progress: bool = True,
) -> Iterator[dict[float, np.ndarray]]:
    """Confusion matrices [C, C] of every picture in turn, by strength; the network sees each picture once.

    Args:
        segmenter: the network; evaluated on `device` in evaluation mode, its former mode is restored.
        dataset: pictures with ground truth; where that is of another size, the scores are brought to it.
        num_classes: C.
        table: shifts of the domain the pictures come from, on any device; may be left out when all of
            `taus` are 0.
        taus: strengths of the post-hoc correction.
        device: where to run.
        window: cut the pictures up; None looks at them whole.
        progress: whether to show a bar on stderr.
    """
    for seen in seen_pictures(segmenter, dataset, device, window, progress):
        yield {tau: seen.confusion(num_classes, table, tau) for tau in taus}


class Seen(NamedTuple):
    """What the network says to a picture, and what is there."""

    logits: Tensor
    """[1, C, h, w] at the decoder's stride, padding included."""
    output_stride: int
    size: tuple[int, ...]
    """(height, width) of the picture that the network saw."""
    truth: np.ndarray
    """[H, W] labels, of another size where the picture was resized."""

    def confusion(self, num_classes: int, table: ShiftTable | None = None, tau: float = 0.0) -> np.ndarray:
        """Confusion matrix [C, C] of the labels at a strength of the correction."""
        labels = labels_of_logits(self.logits, self.output_stride, self.size, table, tau, self.truth.shape)
        return confusion_matrix(self.truth, labels, num_classes)


def seen_pictures(
    segmenter: Segmenter,
    dataset: LabelledPictures,
    device: torch.device | str = "cpu",
    window: Window | None = None,
    progress: bool = True,
) -> Iterator[Seen]:
    """Every picture in turn, run through the network once; arguments as `confusions` has them."""
    was_training = segmenter.training
    segmenter.eval().to(device)
    try:
        for index in Bar(range(len(dataset)), desc="evaluate", unit="image", disable=not progress):
            image, truth = dataset[index]
            logits = picture_logits(segmenter, image, window)
            yield Seen(logits, segmenter.output_stride, image.shape[:2], truth)
    finally:
        segmenter.train(was_training)


@torch.no_grad()
def picture_logits(segmenter: Segmenter, image: np.ndarray, window: Window | None = None) -> Tensor:
    """Logits [1, C, h, w] of a picture, uint8 [H, W, 3] RGB, at the decoder's stride, padding included."""
    pixels = torch.from_numpy(image).to(next(segmenter.parameters()).device).unsqueeze(0)
    return segmenter.logits(pixels) if window is None else sliding_logits(segmenter, pixels, window)


@torch.no_grad()
def labels_of_logits(
    logits: Tensor,
    output_stride: int,
    size: tuple[int, ...],
    table: ShiftTable | None,
    tau: float,
    wanted: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Logits [1, C, h, w] of a padded picture to labels uint8 [H, W], in the order the exported graph has.

    `size` is the picture's (height, width), `wanted` that of the labels where it differs: the picture was
    resized, and the official evaluations judge at the size of the files.

    The correction is not linear and does not commute with the upsampling: it comes first, and the scores
    are upsampled once.
    """
    if tau == 0:
        scores = logits  # exactly the uncorrected prediction
    elif table is None:
        raise ValueError("a strength other than 0 needs a shift table")
    else:
        table = table.to(logits.device)
        scores = posthoc_scores(logits, table, tau)
    height, width = size
    if wanted is None or tuple(wanted) == tuple(size):
        return labels_from_scores(scores.float(), output_stride, height, width)[0].cpu().numpy()
    full = F.interpolate(scores.float(), scale_factor=float(output_stride), mode="bilinear")
    shown = F.interpolate(full[:, :, :height, :width], size=tuple(wanted), mode="bilinear")
    return shown.argmax(1).byte()[0].cpu().numpy()
