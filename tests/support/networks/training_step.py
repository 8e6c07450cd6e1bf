"""One training step of a tiny network, with all that goes into it."""

import copy

import torch
from torch import Tensor, nn

from adapt.augmentation.pairs import Pair
from adapt.balance.logit_statistics import LogitStatistics, UpdateRule
from adapt.balance.online import Balance
from adapt.config.method import Method
from adapt.data.classes import IGNORE
from adapt.model.segmenter import Segmenter, StudentNetwork
from adapt.training.step import Step, terms_of


class Pyramid(nn.Module):
    """A two-level encoder, as an own encoder would be."""

    channels = (6, 8)
    strides = (4, 8)

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 6, 4, stride=4)
        self.coarse = nn.Conv2d(6, 8, 2, stride=2)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        fine = self.fine(pixels).relu()
        return [fine, self.coarse(fine).relu()]


def small_segmenter(num_classes: int = 3, seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    segmenter = Segmenter(Pyramid(), Concatenate(), 14, num_classes, dropout=0.0)
    nn.init.normal_(segmenter.classify.weight, std=1.0)
    return segmenter


def normed_segmenter(seed: int = 0) -> Segmenter:
    """The same with batch normalisation before the classifier, whose statistics are none of any pictures'."""
    segmenter = small_segmenter(seed=seed)
    norm = nn.BatchNorm2d(14)
    norm.running_mean = torch.linspace(-1, 1, 14)
    segmenter.decoder = nn.Sequential(segmenter.decoder, norm)
    return segmenter.eval()


def pair(seed: int = 0, classes: int = 3, batch: int = 2) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, batch, 32, 48, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, classes, (batch, 8, 12), generator=generator, dtype=torch.uint8)
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    labels[0, :3] = IGNORE
    padding = torch.zeros(batch, 32, 48, dtype=torch.bool)
    padding[1, 24:] = True
    return Pair(images[0], labels, images[1], padding)


def with_things(batch: Pair) -> Pair:
    """Classes in blocks that fill whole cells of the encoder's coarsest level."""
    blocks = (torch.arange(4).view(1, -1, 1) + torch.arange(6)) % 3
    blocks[:, 0, :2] = 0  # not all of them equally frequent
    labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2).to(torch.uint8)
    return Pair(*(tensor[:1] for tensor in batch))._replace(source_labels=labels)


def new_step(
    student: StudentNetwork, method: Method, balance: Balance | None, teacher: Segmenter, seed: int = 0
) -> Step:
    return Step(
        network=student,
        segmenter=student.segmenter,
        pair=pair(seed),
        method=method,
        backward=backward,
        generator=torch.Generator().manual_seed(seed),
        balance=balance,
        teacher=teacher,
    )


def run_step(
    method: Method, balance: Balance | None, seed: int = 0
) -> tuple[dict[str, Tensor], StudentNetwork]:
    student = StudentNetwork(small_segmenter())
    teacher = copy.deepcopy(student.segmenter).eval().requires_grad_(False)
    step = new_step(student, method, balance, teacher, seed)
    losses: dict[str, Tensor] = {}
    for term in terms_of(method):
        losses |= term(step)
    return losses, student


def backward(loss: Tensor) -> None:
    loss.backward()


def new_balance() -> Balance:
    return Balance(LogitStatistics(3, rule=UpdateRule(min_pixels=5)), lambda tensor: tensor, 4)


class Concatenate(nn.Module):
    def forward(self, features: list[Tensor]) -> Tensor:
        fine, coarse = features
        return torch.cat([fine, nn.functional.interpolate(coarse, scale_factor=2.0)], 1)
