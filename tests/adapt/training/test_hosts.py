"""What DAFormer, MIC and HRDA add to a step: feature distance, ignored rows, masks, two scales."""

import copy

import numpy as np
import oracle
import pytest
import torch
from torch import nn
from training_step import Pyramid, backward, new_balance, new_step, pair, run_step, small_segmenter

from adapt.augmentation.augment import random_mask
from adapt.balance.losses import corrected_cross_entropy
from adapt.config.method import Method
from adapt.data.classes import IGNORE
from adapt.errors import InputError
from adapt.model.decoders import SegformerDecoder
from adapt.model.hrda import HrdaSegmenter
from adapt.model.segmenter import StudentNetwork
from adapt.training.feature_distance import FeatureDistance, thing_cells, thing_ids
from adapt.training.step import DETAIL_WEIGHT, Step, source_term, terms_of
from adapt.training.teacher import new_teacher


def test_hosts_set_what_they_are_and_settings_win() -> None:
    assert Method(host="dacs").rare_class_temperature is None
    daformer = Method(host="daformer")
    assert daformer.rare_class_temperature == 0.01
    assert daformer.feature_distance == 0.005
    assert [round(512 * share) for share in daformer.ignored_rows] == [15, 120]
    assert Method(host="mic").masked_consistency == 1
    assert Method(host="mic", feature_distance=0).feature_distance == 0
    assert len(terms_of(Method(host="source"))) == 1
    assert len(terms_of(daformer)) == 2
    assert len(terms_of(Method(host="mic"))) == 3


# ---- DAFormer --------------------------------------------------------------------------------------------


def test_feature_distance_matches_the_oracle() -> None:
    torch.manual_seed(0)
    encoder = Pyramid()
    distance = FeatureDistance(encoder, (1, 2))
    with torch.no_grad():
        encoder.coarse.weight.add_(0.1)
    pixels = torch.randn(2, 3, 32, 48)
    labels = torch.randint(0, 3, (2, 8, 12)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    labels[0, :8, :8], labels[1, 8:16, 8:16] = 1, 2
    labels[1, 8:10, 8:16] = IGNORE  # 3/4 of the cell are still class 2
    features = encoder(pixels)[-1]
    reference = distance.encoder(pixels)[-1]
    want = oracle.feature_distance(
        *(x.detach().double().numpy() for x in (features, reference)), labels.numpy(), (1, 2)
    )
    assert want > 0
    assert float(distance(features, pixels, labels)) == pytest.approx(want, rel=1e-5)


def test_feature_distance_of_hrda_compares_at_the_contexts_size() -> None:
    torch.manual_seed(0)
    encoder = Pyramid()
    distance = FeatureDistance(encoder, (0,))
    pixels = torch.randn(1, 3, 64, 64)
    half = nn.functional.interpolate(pixels, scale_factor=0.5, mode="bilinear", align_corners=False)
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    assert float(distance(encoder(half)[-1], pixels, labels)) == 0  # nothing was trained yet


def test_feature_distance_is_zero_without_things_and_counts_no_mixed_cells() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    labels[:, :8, :5] = 1  # 5/8 of a cell: below the share
    assert not thing_cells(labels, (1,), 8).any()
    labels[:, :8, :6] = 1
    assert thing_cells(labels, (1,), 8).tolist() == [[[True, False], [False, False]]]


def test_a_step_with_feature_distance_reaches_the_encoder_only() -> None:
    student = StudentNetwork(small_segmenter())
    distance = FeatureDistance(student.segmenter.encoder, (0, 1, 2))
    with torch.no_grad():
        student.segmenter.encoder.coarse.weight.mul_(1.5)  # type: ignore[union-attr]
    plain, kept = (copy.deepcopy(student) for _ in range(2))
    one = pair()._replace(source_labels=torch.ones(2, 32, 48, dtype=torch.uint8))
    method = Method(host="source", balance="off", feature_distance=1.0)
    for network, used in ((plain, None), (kept, distance)):
        step = Step(
            network, network.segmenter, one, method, backward, torch.Generator(), feature_distance=used
        )
        losses = source_term(step)
    assert float(losses["feature_distance"]) > 0
    changed = {
        name.split(".")[1]
        for (name, a), b in zip(plain.named_parameters(), kept.parameters(), strict=True)
        if a.grad is not None and b.grad is not None and not torch.equal(a.grad, b.grad)
    }
    assert changed == {"encoder"}


def test_things_are_found_by_name() -> None:
    assert thing_ids(("Road", "Car", "traffic LIGHT"), ("car", "traffic light")) == (1, 2)
    with pytest.raises(InputError, match="thing_classes"):
        thing_ids(("road", "sky"), ("car",))


def test_ignored_rows_have_no_weight() -> None:
    student = StudentNetwork(small_segmenter())
    teacher = new_teacher(student.segmenter, (32, 48))
    with torch.no_grad():
        teacher.classify.weight.mul_(1e4)  # certain everywhere
    step = new_step(student, Method(ignored_rows=(1 / 32, 0.25)), None, teacher)
    weights = step.pseudo.weights
    assert not weights[:, 0].any() and not weights[:, 24:].any()
    assert (weights[:, 1:24] > 0).all()


# ---- MIC -------------------------------------------------------------------------------------------------


def test_masks_hide_whole_squares_in_the_given_share() -> None:
    generator = torch.Generator().manual_seed(0)
    keep = random_mask((3, 600, 1000), 16, 0.7, generator)
    assert keep.shape == (3, 1, 600, 1000)
    squares = keep[:, :, :592, :992].unfold(2, 16, 16).unfold(3, 16, 16).flatten(4)
    assert torch.equal(squares.all(-1), squares.any(-1))
    share = squares[..., 0].float().mean()
    assert abs(float(share) - 0.3) < 3 * np.sqrt(0.21 / squares[..., 0].numel())


@pytest.mark.parametrize("balance", ["off", "online"])
def test_masked_term_adds_to_the_gradients(balance: str) -> None:
    known = new_balance() if balance == "online" else None
    method = Method(host="mic", feature_distance=0, mask_patch=8, balance=balance)  # type: ignore[arg-type]
    losses, student = run_step(method, known)
    assert float(losses["masked"]) > 0
    again = new_balance() if balance == "online" else None
    without, other = run_step(method.model_copy(update={"masked_consistency": 0.0}), again)
    assert float(losses["mixed"]) == float(without["mixed"])
    first, second = student.segmenter.classify.weight.grad, other.segmenter.classify.weight.grad
    assert first is not None and second is not None and not torch.equal(first, second)
    if known is not None and again is not None:  # masked pictures are not counted
        assert int(known.statistics.counted) == int(again.statistics.counted)


def test_a_masked_picture_is_the_mean_colour_where_it_is_masked() -> None:
    seen = []
    student = StudentNetwork(small_segmenter())
    teacher = new_teacher(student.segmenter, (32, 48))
    method = Method(host="mic", feature_distance=0, balance="off", mask_patch=16, mask_ratio=0.5)
    step = new_step(student, method, None, teacher)
    step.network = lambda pixels: (seen.append(pixels), student(pixels))[1]
    for term in terms_of(method):
        term(step)
    squares = seen[2].unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).flatten(3)
    hidden = (squares == 0).all(-1)
    assert 0 < int(hidden.sum()) < hidden.numel()
    assert not (squares[~hidden] == 0).all(-1).any()


# ---- HRDA ------------------------------------------------------------------------------------------------


def small_hrda(seed: int = 0) -> HrdaSegmenter:
    torch.manual_seed(seed)
    decoder, attention = (SegformerDecoder((6, 8), (4, 8), 8) for _ in range(2))
    segmenter = HrdaSegmenter(Pyramid(), decoder, attention, 8, 3, dropout=0.0)
    nn.init.normal_(segmenter.classify.weight, std=1.0)
    return segmenter


def test_two_scales_are_fused_by_the_attention() -> None:
    segmenter = small_hrda().eval()
    assert (segmenter.stride, segmenter.output_stride) == (16, 4)
    pixels = torch.randn(2, 3, 32, 48)
    half = nn.functional.interpolate(pixels, scale_factor=0.5, mode="bilinear", align_corners=False)
    with torch.no_grad():
        coarse = nn.functional.interpolate(segmenter.detailed(half), scale_factor=2.0, mode="bilinear")
        fine = segmenter.detailed(pixels)
        logits = segmenter(pixels)
        segmenter.weigh.bias.fill_(-1e4)  # type: ignore[union-attr]
        torch.testing.assert_close(segmenter(pixels), coarse)
        segmenter.weigh.bias.fill_(1e4)  # type: ignore[union-attr]
        torch.testing.assert_close(segmenter(pixels), fine)
    assert (
        (logits >= torch.minimum(coarse, fine) - 1e-5) & (logits <= torch.maximum(coarse, fine) + 1e-5)
    ).all()


def test_in_training_the_detail_is_a_part_and_the_context_answers_elsewhere() -> None:
    segmenter = small_hrda()
    boxes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        maps = segmenter.maps(torch.randn(1, 3, 64, 96))
        assert maps.detail is not None
        boxes.add(maps.detail.box)
        assert maps.detail.logits.shape[2:] == (8, 12)
        assert maps.logits.shape[2:] == maps.fused.shape[2:] == (16, 24)
    assert {box[2:] for box in boxes} == {(32, 48)}
    assert {box[0] for box in boxes} == {0, 8, 16, 24, 32}
    segmenter.encoder.eval()
    with torch.no_grad():
        segmenter.weigh.bias.fill_(1e4)  # type: ignore[union-attr]
    maps = segmenter.maps(torch.randn(1, 3, 64, 96))
    assert maps.detail is not None
    top, left, height, width = (side // 4 for side in maps.detail.box)
    torch.testing.assert_close(maps.logits[:, :, top : top + height, left : left + width], maps.detail.logits)


def test_detail_windows_leave_a_pointwise_network_alone() -> None:
    segmenter = small_hrda().eval()
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        whole = segmenter(pixels)
        segmenter.window = (32, 32)
        # The encoder sees patches only and the upsampling is the decoder's, so only window borders differ.
        inner = (segmenter(pixels) - whole).abs()
    assert float(inner.median()) < 1e-6
    teacher = new_teacher(small_hrda(), (64, 96))
    assert isinstance(teacher, HrdaSegmenter) and teacher.window == (32, 48)


def test_the_detail_has_a_loss_of_its_own() -> None:
    student = StudentNetwork(small_hrda())
    teacher = new_teacher(student.segmenter, (32, 48))
    step = new_step(student, Method(host="source", balance="off"), None, teacher)
    outputs = []
    step.network = lambda pixels: (outputs.append(student(pixels)), outputs[0])[1]
    loss = float(source_term(step)["source"])
    output, labels = outputs[0], step.pair.source_labels
    top, left, height, width = output.detail.box
    part = labels[:, top : top + height, left : left + width]
    whole, detail = (
        float(corrected_cross_entropy(a, b))
        for a, b in ((output.logits, labels), (output.detail.logits, part))
    )
    assert loss == pytest.approx((1 - DETAIL_WEIGHT) * whole + DETAIL_WEIGHT * detail)
    missing = [name for name, p in student.named_parameters() if p.grad is None and "density" not in name]
    assert not missing
