"""One battery for every encoder and decoder: shapes, gradients, padding, rebuilding without network."""

from pathlib import Path
from typing import Any

import pytest
import torch

from adapt.build import build, rebuild
from adapt.config import Encoder, Model
from adapt.errors import InputError
from adapt.segmenter import StudentNetwork

MIT: dict[str, Any] = {
    "model_type": "segformer",
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 3, 4],
    "decoder_hidden_size": 16,
}
RESNET: dict[str, Any] = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
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
    assert output.density.shape == (2, 16, 24)
    (output.logits.square().mean() + output.density.square().mean()).backward()
    assert [name for name, p in student.named_parameters() if p.grad is None] == []

    segmenter.eval()
    odd = torch.randint(0, 256, (1, 65, 97, 3), dtype=torch.uint8)
    assert segmenter.logits(odd).shape == (1, 5, 24, 32)  # padded to 96 x 128

    again = rebuild(built.recipe, tmp_path).eval()
    again.load_state_dict(segmenter.state_dict())
    assert torch.equal(again.logits(odd), segmenter.logits(odd))


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
