"""Somebody else's networks: the same logits as they have, at the decoder's stride, and again from a card."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers_folder import write_segformer

from adapt.errors import InputError
from adapt.model.build import rebuild
from adapt.model.foreign import open_foreign
from adapt.model.segmenter import StudentNetwork
from adapt.model.whole import examine, said
from adapt.run.cards import Recipe

STAGES = ["stage1", "stage2", "stage3", "stage4"]
FOUR: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "out_features": STAGES}


def upernet() -> Any:
    backbone = transformers.ConvNextConfig(**FOUR)
    more = {"auxiliary_channels": 8, "auxiliary_in_channels": 16, "num_labels": 5}
    config = transformers.UperNetConfig(backbone_config=backbone, hidden_size=16, **more)
    return transformers.UperNetForSemanticSegmentation(config)


def beit() -> Any:
    config = transformers.BeitConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        out_indices=[1, 2, 3, 4],
        use_relative_position_bias=True,
        auxiliary_channels=8,
        num_labels=5,
    )
    return transformers.BeitForSemanticSegmentation(config)


def mobilevit() -> Any:
    config = transformers.MobileViTConfig(
        hidden_sizes=[16, 16, 16],
        neck_hidden_sizes=[8, 8, 16, 16, 16, 16, 32],
        num_attention_heads=2,
        image_size=64,
        aspp_out_channels=16,
        num_labels=5,
    )
    return transformers.MobileViTForSemanticSegmentation(config)


@pytest.mark.parametrize(
    ("made", "stride", "classifier"),
    [
        (upernet, 4, "decode_head.classifier"),  # not the auxiliary head, and before its own upsampling
        (beit, 4, "decode_head.classifier"),
        (mobilevit, 32, "segmentation_head.classifier.convolution"),
    ],
)
def test_logits_are_theirs_at_the_decoder(made: Any, stride: int, classifier: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = made().eval()
    model.save_pretrained(tmp_path)
    foreign = open_foreign(str(tmp_path), None, (64, 64))
    segmenter = foreign.built.segmenter.eval()
    assert foreign.names is None  # LABEL_0 and so on are no names
    assert segmenter.output_stride == stride
    assert foreign.built.recipe["whole"]["classifier"] == classifier
    pixels = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        theirs, ours = model(pixels).logits, segmenter(pixels)
        full = F.interpolate(ours, size=theirs.shape[2:], mode="bilinear", align_corners=False)
        torch.testing.assert_close(full, theirs, atol=1e-5, rtol=1e-3)
        recipe = json.loads(json.dumps(foreign.built.recipe))
        assert Recipe(**recipe).model_dump(exclude_unset=True) == recipe
        again = rebuild(recipe, tmp_path).eval()
        again.load_state_dict(segmenter.state_dict())
        torch.testing.assert_close(again(pixels), ours, atol=1e-5, rtol=1e-4)
    # What feeds the classifier is what the density is predicted from; both learn.
    student = StudentNetwork(segmenter.train())
    output = student(pixels)
    (output.logits.sum() + output.density.sum()).backward()
    assert output.density.shape == output.logits[:, 0].shape
    learning = [name for name, parameter in student.named_parameters() if parameter.grad is not None]
    assert f"segmenter.encoder.model.{classifier}.weight" in learning
    assert any(name.startswith(tuple(f"segmenter.{slow}" for slow in segmenter.slow)) for name in learning)


def test_channels_scale_and_mean_are_as_beside_the_model(tmp_path: Path) -> None:
    """Of BGR on [0, 1] without a mean, as MobileViT has it, and of [-1, 1], as others have it."""
    images = torch.randint(0, 256, (1, 32, 64, 3), dtype=torch.uint8)
    rgb = images.permute(0, 3, 1, 2).float()

    def logits(**preprocessor: object) -> tuple[Tensor, Any]:
        folder = write_segformer(tmp_path / str(len(list(tmp_path.iterdir()))), **preprocessor)
        model = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
        with torch.no_grad():
            return open_foreign(str(folder), None, (32, 32)).built.segmenter.eval().logits(images), model

    with torch.no_grad():
        got, model = logits(do_flip_channel_order=True, do_rescale=True)
        torch.testing.assert_close(got, model(rgb.flip(1) / 255).logits, atol=1e-4, rtol=1e-4)
        mean = {"image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0], "do_normalize": True}
        got, model = logits(rescale_factor=1 / 127.5, **mean)
        torch.testing.assert_close(got, model(rgb / 127.5 - 1).logits, atol=1e-4, rtol=1e-4)
        got, model = logits(do_normalize=False)
        torch.testing.assert_close(got, model(rgb / 255).logits, atol=1e-4, rtol=1e-4)
        own = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "do_flip_channel_order": True}
        got, model = logits(**own)
        bgr = rgb.flip(1) / 255 - torch.tensor(own["image_mean"]).view(3, 1, 1)
        wanted = model(bgr / torch.tensor(own["image_std"]).view(3, 1, 1)).logits
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


class Fixed(nn.Module):
    """Takes 64x64 only."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 4, 8, stride=8)
        self.place = nn.Parameter(torch.zeros(1, 4, 8, 8))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(pixels) + self.place
        return logits


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="tied to one size"):
        examine(Fixed(), (64, 64))
    with pytest.raises(InputError, match="cannot take a picture of 64x96"):
        examine(Fixed(), (64, 96))
    with pytest.raises(InputError, match="no fraction"):
        examine(nn.Conv2d(3, 4, 3), (64, 64))
    with pytest.raises(InputError, match="a tensor"):
        examine(nn.Flatten(), (64, 64))
    with pytest.raises(InputError, match="dict"):
        said({"boxes": torch.zeros(1)})


def test_a_network_whose_classifier_is_not_found_answers_itself() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 4, 4, stride=4)

        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = self.head(pixels).tanh()
            return logits

    whole, features, classes = examine(Doubled(), (64, 64))
    assert (whole.classifier, features, classes, whole.output_stride) == (None, 4, 4, 4)
