"""One battery for every encoder and decoder: shapes, gradients, padding, rebuilding without network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from encoders import DINOV2, DINOV3, MIT, RESNET

from adapt.config.settings import Encoder, Model
from adapt.errors import InputError
from adapt.model.build import build, rebuild
from adapt.model.segmenter import StudentNetwork, labels_from_scores

CONVNEXT: dict[str, Any] = {
    "model_type": "convnextv2",
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 1, 1, 1],
}
OWN = """
from torch import nn

class Own(nn.Module):
    channels = (4, 6)
    strides = (8, 16)
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 8, stride=8)
        self.b = nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, pixels):
        fine = self.a(pixels)
        return [fine, self.b(fine)]

def build():
    return Own()
"""


@pytest.fixture
def own(tmp_path: Path) -> Encoder:
    (tmp_path / "encoder.py").write_text(OWN)
    return Encoder(factory=f"{tmp_path / 'encoder.py'}:build")


@pytest.mark.parametrize("decoder", ["segformer", "daformer"])
@pytest.mark.parametrize("config", [MIT, RESNET, CONVNEXT], ids=lambda c: c["model_type"])
def test_battery(config: dict[str, Any], decoder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(encoder=Encoder(config=config), decoder=decoder, width=16)  # type: ignore[arg-type]
    built = build(model, 5)
    segmenter = built.segmenter
    assert (segmenter.output_stride, segmenter.stride) == (4, 32)

    student = StudentNetwork(segmenter).train()
    output = student(torch.randn(2, 3, 64, 96))
    assert output.logits.shape == (2, 5, 16, 24)
    assert output.coarsest.shape == (2, segmenter.encoder.channels[-1], 2, 3)  # type: ignore[index, union-attr]
    assert output.density.shape == (2, 16, 24)
    (output.logits.square().mean() + output.density.square().mean()).backward()
    assert [name for name, p in student.named_parameters() if p.grad is None] == []

    segmenter.eval()
    odd = torch.randint(0, 256, (1, 65, 97, 3), dtype=torch.uint8)
    assert segmenter.logits(odd).shape == (1, 5, 24, 32)  # padded to 96 x 128

    again = rebuild(built.recipe, tmp_path).eval()
    again.load_state_dict(segmenter.state_dict())
    assert torch.equal(again.logits(odd), segmenter.logits(odd))


@pytest.mark.parametrize(
    ("settings", "output_stride", "stride"),
    [
        ({"encoder": {"config": RESNET}, "decoder": "deeplabv2", "dilated": True}, 8, 8),
        ({"encoder": {"config": DINOV2}, "decoder": "plain-pyramid"}, 7, 14),
        ({"encoder": {"config": DINOV3}, "decoder": "plain-pyramid"}, 4, 16),
        ({"encoder": {"config": MIT}, "multi_resolution": True}, 4, 64),
        (
            {
                "encoder": {"config": RESNET},
                "decoder": "deeplabv2",
                "dilated": True,
                "multi_resolution": True,
            },
            8,
            16,
        ),
        ({"encoder": {"config": DINOV3}, "decoder": "plain-pyramid", "multi_resolution": True}, 4, 32),
    ],
    ids=["deeplabv2", "dinov2", "dinov3", "hrda-mit", "hrda-deeplabv2", "hrda-dinov3"],
)
def test_networks_of_the_other_hosts(
    settings: dict[str, Any], output_stride: int, stride: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    built = build(Model.model_validate(settings | {"width": 16}), 5)
    segmenter = built.segmenter
    assert (segmenter.output_stride, segmenter.stride) == (output_stride, stride)

    student = StudentNetwork(segmenter).train()
    output = student(torch.randn(2, 3, 4 * stride, 6 * stride))
    grid = (4 * stride // output_stride, 6 * stride // output_stride)
    assert output.logits.shape == (2, 5, *grid)
    assert output.density.shape == (2, *grid)
    detail = 0 if output.detail is None else output.detail.logits.square().mean()
    (output.logits.square().mean() + output.density.square().mean() + detail).backward()
    missing = [name for name, p in student.named_parameters() if p.grad is None and "mask_token" not in name]
    assert missing == []

    segmenter.eval()
    odd = torch.randint(0, 256, (1, 65, 97, 3), dtype=torch.uint8)
    padded = [-(-side // stride) * stride // output_stride for side in (65, 97)]
    assert segmenter.logits(odd).shape == (1, 5, *padded)
    again = rebuild(built.recipe, tmp_path).eval()
    again.load_state_dict(segmenter.state_dict())
    assert torch.equal(again.logits(odd), segmenter.logits(odd))


def test_a_dilated_resnet_keeps_its_weights_and_sees_the_same() -> None:
    """What dilation by stride computes at every second place is what the strided network computed."""
    torch.manual_seed(0)
    plain = build(Model(encoder=Encoder(config=RESNET), decoder="segformer", width=16), 3).segmenter.eval()
    dilated = build(
        Model(encoder=Encoder(config=RESNET), decoder="deeplabv2", width=16, dilated=True), 3
    ).segmenter.eval()
    dilated.encoder.load_state_dict(plain.encoder.state_dict())
    pixels = torch.randn(1, 3, 256, 256)
    coarse, fine = plain.encoder(pixels)[-1], dilated.encoder(pixels)[-1]
    assert (coarse.shape[-1], fine.shape[-1]) == (8, 32)
    torch.testing.assert_close(fine[:, :, ::4, ::4], coarse)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"encoder": {"config": MIT}, "dilated": True}, "for ResNet encoders"),
        ({"encoder": {"config": DINOV3}, "decoder": "daformer"}, "model.decoder=plain-pyramid"),
        ({"encoder": {"config": RESNET}, "decoder": "plain-pyramid"}, "equal strides"),
    ],
)
def test_decoders_that_do_not_suit(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        build(Model.model_validate(settings | {"width": 16}), 2)


@pytest.mark.parametrize("lost", ["missing", "another shape"])
def test_pretrained_tensors_that_do_not_fit_are_listed(lost: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, SegformerModel

    fields = {key: value for key, value in MIT.items() if key != "model_type"}
    SegformerModel(AutoConfig.for_model("segformer", **fields)).save_pretrained(tmp_path / "mit")
    file = tmp_path / "mit" / "model.safetensors"
    tensors = load_file(file)
    key = next(key for key in sorted(tensors) if key.endswith("proj.weight"))
    if lost == "missing":
        del tensors[key]
    else:
        tensors[key] = torch.zeros(3, 3)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(InputError, match=f"do not fit its config.json: .*{key.split('.')[-3]}.*proj.weight"):
        build(Model(encoder=Encoder(pretrained=str(tmp_path / "mit")), width=16), 2)


def test_labels_are_the_argmax_of_upsampled_scores_and_of_equal_ones_the_first() -> None:
    scores = torch.randint(0, 4, (2, 5, 6, 7)).float()  # with many ties
    full = torch.nn.functional.interpolate(scores, scale_factor=4.0, mode="bilinear", align_corners=False)
    labels = labels_from_scores(scores, 4, 22, 25)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels, full[:, :, :22, :25].argmax(1).byte())


def test_padding_is_zero_after_normalisation() -> None:
    torch.manual_seed(0)
    segmenter = build(Model(encoder=Encoder(config=RESNET), width=16), 3).segmenter.eval()
    image = torch.randint(0, 256, (1, 40, 50, 3), dtype=torch.uint8)
    pixels = torch.zeros(1, 3, 64, 64)
    mean, std = torch.tensor(segmenter.mean), torch.tensor(segmenter.std)
    pixels[0, :, :40, :50] = ((image[0] / 255 - mean) / std).permute(2, 0, 1)
    torch.testing.assert_close(segmenter.logits(image), segmenter(pixels))


def test_an_encoder_of_ones_own_is_copied_and_rebuilt(own: Encoder, tmp_path: Path) -> None:
    built = build(Model(encoder=own, width=16), 2)
    assert built.segmenter.mean == (0.5, 0.5, 0.5)
    assert (built.segmenter.output_stride, built.segmenter.stride) == (8, 16)
    again = rebuild(built.recipe, tmp_path)
    again.load_state_dict(built.segmenter.state_dict())
    image = torch.randint(0, 256, (1, 33, 47, 3), dtype=torch.uint8)
    assert torch.equal(again.eval().logits(image), built.segmenter.eval().logits(image))


def test_weights_from_a_local_folder(tmp_path: Path) -> None:
    """What `save_pretrained` wrote, and what a download of a hub model looks like."""
    from transformers import AutoConfig, SegformerModel

    torch.manual_seed(1)
    fields = {key: value for key, value in MIT.items() if key != "model_type"}
    SegformerModel(AutoConfig.for_model("segformer", **fields)).save_pretrained(tmp_path / "mit")
    first = build(Model(encoder=Encoder(pretrained=str(tmp_path / "mit")), width=16), 2)
    second = build(Model(encoder=Encoder(pretrained=str(tmp_path / "mit")), width=16), 2)
    for a, b in zip(first.segmenter.encoder.parameters(), second.segmenter.encoder.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (Encoder(config={"model_type": "bert"}), "cannot build|can build as a backbone"),
        (Encoder(config={"hidden_sizes": [1]}), "model_type None"),
        (Encoder(factory="nowhere.py:build"), "does not exist"),
        (Encoder(factory="nowhere"), "file.py:function"),
        (Encoder(pretrained="/no/such/folder"), "could not be loaded"),
    ],
)
def test_encoders_that_cannot_be_built(encoder: Encoder, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        build(Model(encoder=encoder), 2)


def test_an_encoder_without_strides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("from torch import nn\ndef build():\n    return nn.Identity()\n")
    with pytest.raises(InputError, match="lacks `channels` and `strides`"):
        build(Model(encoder=Encoder(factory=f"{tmp_path / 'bad.py'}:build")), 2)


# ---- an encoder of one's own is a program ------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path: Path) -> tuple[Path, Path]:
    """A run folder whose encoder leaves a trace when it is executed, and where the trace would lie."""
    trace = tmp_path / "trace"
    code = f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n{OWN}"
    for place in (tmp_path / "run" / "encoder.py", tmp_path / "outside.py", tmp_path / "run" / "other.py"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(code)
    return tmp_path / "run", trace


def own_recipe(folder: Path, file: str) -> dict[str, Any]:
    settings = Model(encoder=Encoder(factory=f"{folder / 'encoder.py'}:build"), decoder="segformer", width=8)
    recipe = build(settings, 3).recipe
    return recipe | {"encoder": {"factory": "build", "file": file}}


@pytest.mark.parametrize(
    "file", ["../outside.py", "{outside}", "other.py", "./encoder.py", "sub/../encoder.py"]
)
def test_a_card_executes_no_file_but_the_runs_copy(trap, tmp_path, file):
    """A card once named any file of the machine."""
    run, trace = trap
    recipe = own_recipe(run, file.format(outside=tmp_path / "outside.py"))
    trace.unlink()
    with pytest.raises(InputError, match=r"nothing of it was run"):
        rebuild(recipe, run)
    assert not trace.exists()


def test_runs_that_bring_code_can_be_refused(trap, monkeypatch):
    run, trace = trap
    recipe = own_recipe(run, "encoder.py")
    trace.unlink()
    monkeypatch.setenv("BLDA_OWN_CODE", "no")
    with pytest.raises(InputError, match=r"BLDA_OWN_CODE=no forbids"):
        rebuild(recipe, run)
    assert not trace.exists()
    monkeypatch.delenv("BLDA_OWN_CODE")
    assert rebuild(recipe, run).num_classes == 3 and trace.exists()
