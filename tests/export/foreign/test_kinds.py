"""Every kind of file: what its own user would say without the correction, or one sentence; no third state."""

import re
from pathlib import Path

import numpy as np
import pytest
from calibrated_models import call, images_of
from foreign_kinds import Kind, kinds, labels_of, own_output
from foreign_segmenters import write_pictures
from onnx_segmenters import run

from adapt.errors import InputError
from export.fold.fold import fold
from export.foreign.adapters import logits_graph_of
from export.foreign.convention import Told
from export.foreign.graph import check_valid
from export.foreign.network import Network, open_network
from serve import Segmenter
from serve.card import Card

KINDS = kinds()
QUERIES = re.compile("queries|OneFormer")


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("footage"), count=3)


def picture_for(network: Network, footage: Path) -> np.ndarray:
    """One of the footage, in the model's size if it has one."""
    image = images_of(footage)[0]
    height, width = network.fixed_size or image.shape[:2]
    return np.tile(image, (2, 2, 1))[:height, :width]


def deployed(network: Network, image: np.ndarray) -> np.ndarray:
    """Labels of the graph that is folded without a correction."""
    taken, outlet = network.intake, network.outlet
    names = tuple(map(str, range(outlet.classes)))
    palette = tuple((c, 0, 0) for c in range(outlet.classes))
    strides = (outlet.stride, outlet.output_stride, taken.size)
    card = Card(names, palette, 255, taken.mean, taken.std, *strides)
    return run(fold(logits_graph_of(network), card, None), image[None])["labels"][0]


def own_labels(kind: Kind, path: Path, image: np.ndarray, h: int, w: int) -> tuple[np.ndarray, bool]:
    """Labels that the file itself stands for; whether at the picture's size, else at that of its logits."""
    own = own_output(kind, path, image)
    size = image.shape[:2]
    if own.ndim == 2:
        return own, own.shape == size
    probabilities = (own.min() >= 0 and own.max() <= 1.0001) or QUERIES.search(path.name)
    if not np.isfinite(own).all():
        return own.argmax(0), False  # upsampled, -inf times 0 is no number: its user has to know
    if own.shape[1:] == size or not probabilities:
        return labels_of(own, size), True
    return own.argmax(0), False  # upsampled, they say something else than upsampled logits


@pytest.mark.parametrize("name", KINDS)
def test_it_says_what_its_own_user_would_or_one_sentence(name, footage, tmp_path):
    kind = KINDS[name]
    path = kind.write(tmp_path / f"{name.replace(' ', '_').replace(',', '')}.onnx")
    told = Told(**kind.options)
    if kind.refused:
        with pytest.raises(InputError) as refused:
            check_valid(logits_graph_of(open_network(path, told, None)), path)
        assert kind.refused in str(refused.value)
        return
    network = open_network(path, told, None)
    image = picture_for(network, footage)
    logits = network.logits(image[None])[0]
    expected, whole = own_labels(kind, path, image, *logits.shape[1:])
    found = deployed(network, image) if whole else logits.argmax(0)
    assert (found == expected).mean() > 0.998, "but for near-ties"
    assert len(np.unique(expected)) > 1


def test_there_are_hundred_and_seventy_of_them():
    assert len(KINDS) >= 170 and sum(bool(kind.refused) for kind in KINDS.values()) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_command_does_the_same(name, footage, tmp_path):
    kind = KINDS[name]
    path, out = kind.write(tmp_path / "model.onnx"), tmp_path / "out.onnx"
    options: list[object] = []
    for option, value in kind.options.items():
        if option == "inputs":
            options += [word for each in value for word in ("--input", each)]
            continue
        options += [
            f"--{option.replace('_', '-')}",
            ",".join(map(str, value)) if option != "channel_order" else value,
        ]
    said = call("balance", path, "--target", footage / "images", *options, "--tau", 0, "-o", out)
    if kind.refused:
        assert said.exit_code == 2 and kind.refused in said.output and "[2/5]" not in said.output
        assert not out.exists()
        return
    assert said.exit_code == 0, said.output
    network = open_network(path, Told(**kind.options), None)
    image = picture_for(network, footage)
    labels = Segmenter(out)(image).labels
    assert (labels == deployed(network, image)).mean() > 0.998
    corrected = call("balance", path, "--target", footage / "images", *options, "-o", out, "--force")
    assert corrected.exit_code == 0 and "passed: against" in corrected.output, corrected.output
