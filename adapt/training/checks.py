"""What a training needs besides its data, checked before a picture is read: settings, classes, network.

Settings that are advised where memory runs out (adapt/training/failures.py) go through the same checks.
"""

import copy
from itertools import chain

import torch
from torch.func import functional_call

from adapt.config.presets import AUTO, PRESETS
from adapt.config.settings import Config
from adapt.config.unused import check_used
from adapt.data.classes import ClassList
from adapt.errors import InputError
from adapt.model.device import best_device, check_compiler, check_precision
from adapt.model.encoders import check_recomputation
from adapt.model.segmenter import Segmenter
from adapt.training.feature_distance import thing_ids
from adapt.training.watching.trackers import check_trackers


def check_settings(config: Config, preset: str | None) -> None:
    """Refuse settings that lack something, contradict one another, do nothing, or do not suit this machine.

    Raises:
        InputError: the first of them.
    """
    method = config.method
    _check_source(config)
    if not config.data.target and (method.self_training or method.gathers):
        raise InputError("no target was given; name a folder of images, or videos, with --target.")
    check_used(config, preset)
    _check_weights(config)
    if method.self_training and method.source_start >= config.training.iterations:
        raise InputError(
            f"method.source_start={method.source_start} leaves none of the {config.training.iterations} "
            "iterations for self-training; lower it, or take method.host=source."
        )
    fresh = config.model.start is None and config.model.encoder.config is not None
    if method.feature_distance > 0 and fresh:
        raise InputError(
            f"method.host={method.host} keeps the encoder near its pretrained state, but "
            "model.encoder.config starts it at random; name weights with model.encoder.pretrained, or "
            "set method.feature_distance=0."
        )
    check_machine(config)


def _check_source(config: Config) -> None:
    """Refuse a training that has neither labels nor a model, and one that is told to do without both."""
    if config.data.source:
        return
    if not config.source_free:
        raise InputError(
            "no source was given; name the labelled folder with --source, or with --from a model that is to "
            "be adapted without one."
        )
    if not config.method.self_training:
        raise InputError(
            "method.host=source learns from a labelled source, and there is none; take method.host=dacs, or "
            "name one with --source."
        )


def _check_weights(config: Config) -> None:
    """Refuse class-balanced weights that are the same for a frequent and for a rare class."""
    height, width = config.data.crop
    rare, beta = max(1, height * width // 1000), config.method.effective_beta
    if config.method.balance == "class-balanced" and beta**rare < 0.01:
        raise InputError(
            f"method.effective_beta={beta:g} weights all classes alike that have {rare} pixels or more of a "
            f"crop of {height}x{width}; set it to {1 - 1 / rare:.4g} or more, or take method.balance=posthoc."
        )


def check_machine(config: Config) -> None:
    """Refuse what this machine cannot compute.

    Raises:
        InputError: a tracker that is not there, a precision without support, or nothing to compile with.
    """
    check_trackers(config)
    device = best_device()
    check_precision(config.training.precision, device)
    if config.training.compile:
        check_compiler(device)


def check_classes(config: Config, preset: str | None, classes: ClassList) -> None:
    """Refuse a preset that was made for another number of classes, and feature distance without things.

    Raises:
        InputError: either.
    """
    wanted = None if preset in (None, AUTO) else PRESETS[preset].classes
    if wanted not in (None, len(classes)):
        raise InputError(
            f"the preset {preset} reproduces a setting with {wanted} classes, and the data has "
            f"{len(classes)}; adapt it first (`adapt presets {preset} > settings.yaml`, look at data and "
            "method, train with --config settings.yaml), or take --preset mit-b0."
        )
    if config.method.feature_distance > 0:
        thing_ids(classes.names, config.method.thing_classes)


def check_network(config: Config, segmenter: Segmenter) -> None:
    """Refuse crops, batches and ways of computing that the network cannot take.

    Raises:
        InputError: the first of them.
    """
    crop, stride = config.data.crop, segmenter.stride
    if any(side < stride or side % stride for side in crop):
        fitting = [max(stride, round(side / stride) * stride) for side in crop]
        raise InputError(
            f"data.crop is {crop[0]}x{crop[1]}, but this network takes multiples of {stride}; set "
            f"data.crop={fitting}."
        )
    if config.training.recompute_activations:
        check_recomputation(segmenter.encoder)
    _check_pass(segmenter, config.training.batch, crop)


def _check_pass(segmenter: Segmenter, batch: int, crop: tuple[int, int]) -> None:
    """Refuse what fails in the network itself, such as batch normalisation of a single value."""
    try:
        found = _shape_of_pass(segmenter, batch, crop)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the network cannot train on batches of {batch} crops of {crop[0]}x{crop[1]} "
            f"({' '.join(str(error).split())[:200]}); enlarge data.crop or training.batch, or mend the "
            "encoder."
        ) from error
    wanted = (batch, segmenter.num_classes, *(side // segmenter.output_stride for side in crop))
    if found != wanted:
        raise InputError(
            f"of {batch} crops of {crop[0]}x{crop[1]} the network makes logits {found}, but its strides "
            f"promise {wanted}; correct the encoder's `strides`."
        )


def _shape_of_pass(segmenter: Segmenter, batch: int, crop: tuple[int, int]) -> tuple[int, ...]:
    """Shape of the logits in training, computed from shapes alone where the network's code allows it."""
    was_training = segmenter.training
    segmenter.train()
    try:
        # A network with two scales draws where its detail lies; a check draws nothing from the training.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            tensors = chain(segmenter.named_parameters(), segmenter.named_buffers())
            shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
            pixels = torch.zeros(batch, 3, *crop, device="meta")
            try:
                return tuple(functional_call(segmenter, shapes, pixels).shape)
            except Exception:  # code of one's own may need real numbers: these decide
                device = next(segmenter.parameters()).device
                return tuple(copy.deepcopy(segmenter)(torch.zeros_like(pixels, device=device)).shape)
    finally:
        segmenter.train(was_training)
