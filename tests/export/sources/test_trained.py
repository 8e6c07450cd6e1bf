"""Networks in torch, as `balance` takes them: the file that is made of them says what they say."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from foreign_segmenters import write_pictures
from refusals import expect_refusal
from torch.nn import functional as F
from transformers_folder import NAMES, write_segformer

from adapt.errors import InputError
from export.cli.commands import main
from export.sources.source import open_source
from export.sources.trained import QUERIES, as_onnx
from serve.inference.segmenter import Segmenter

FUNCTION = """
from torch import nn

def build():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1))
    model.mean, model.std, model.classes = (0.5, 0.4, 0.3), (0.2, 0.2, 0.3), ("a", "b", "c", "d")
    return model
"""


class Dictionary(torch.nn.Module):
    """As torchvision's: a dictionary, and logits of the picture's size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.second = torch.nn.Conv2d(8, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        small = self.second(self.first(x).relu())
        size = [x.shape[2], x.shape[3]]
        return {"out": F.interpolate(small, size=size, mode="bilinear", align_corners=False)}


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def own_labels(network: torch.nn.Module, image: np.ndarray, mean: object, std: object) -> np.ndarray:
    """What the network's own user computes."""
    wanted = (torch.from_numpy(image).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    with torch.no_grad():
        answer = network.eval()(wanted.permute(2, 0, 1).unsqueeze(0).float())
    logits = getattr(answer, "logits", answer)
    full = F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)
    return full.argmax(1)[0].numpy()


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    from transformers import SegformerForSemanticSegmentation

    folder = write_segformer(tmp_path / "theirs", image_mean=[0.5] * 3, image_std=[0.25] * 3)
    file = as_onnx(folder, None, None, tmp_path)
    card, image = open_source(file).card, pixels(96, 160)
    assert card.classes == NAMES and card.mean == (0.5, 0.5, 0.5)
    network = SegformerForSemanticSegmentation.from_pretrained(folder)
    labels = Segmenter(file)(image).labels
    assert (labels == own_labels(network, image, [0.5] * 3, [0.25] * 3)).mean() > 0.9999
    assert len(np.unique(labels)) > 1


def test_a_function_and_its_weights(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(FUNCTION)
    torch.manual_seed(3)
    space: dict[str, object] = {}
    exec(FUNCTION, space)
    network = space["build"]()  # type: ignore[operator]
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    file = as_onnx(Path(f"{tmp_path / 'theirs.py'}:build"), tmp_path / "weights.pth", None, tmp_path)
    card, image = open_source(file).card, pixels(96, 160)
    assert card.classes == ("a", "b", "c", "d")
    labels = Segmenter(file)(image).labels
    assert (labels == own_labels(network, image, network.mean, network.std)).mean() > 0.9999
    with pytest.raises(InputError, match="--weights is the state dict"):
        as_onnx(file, tmp_path / "weights.pth", None, tmp_path)


def test_torchscript_takes_pictures_of_any_size_and_its_dictionary_is_opened(tmp_path: Path) -> None:
    network = Dictionary().eval()
    torch.jit.script(network).save(tmp_path / "theirs.pt")
    file = as_onnx(tmp_path / "theirs.pt", None, None, tmp_path / ".")
    session = onnxruntime.InferenceSession(file)
    for size in ((64, 96), (128, 32)):
        picture = torch.rand(1, 3, *size)
        (found,) = session.run(None, {"pixels": picture.numpy()})
        np.testing.assert_allclose(found, network(picture)["out"].detach().numpy(), atol=1e-5)


def test_what_torch_export_saved_is_asked_for_its_normalisation_and_balanced(tmp_path: Path) -> None:
    network, example = Dictionary().eval(), torch.zeros(1, 3, 64, 96)
    torch.export.save(torch.export.export(network, (example,)), tmp_path / "theirs.pt2")
    footage, out = write_pictures(tmp_path / "seen", 6) / "images", tmp_path / "balanced.onnx"
    words = ["balance", str(tmp_path / "theirs.pt2"), "--target", str(footage), "-o", str(out), "--tau", "0"]
    expect_refusal(
        CliRunner().invoke(main, words), f"how {tmp_path / 'theirs.pt2'} wants its pictures", "--mean"
    )
    result = CliRunner().invoke(main, [*words, "--mean", "0.5", "--std", "0.25"])
    assert result.exit_code == 0, result.output
    assert ".scratch" not in result.output
    image = pixels(64, 96)
    with torch.no_grad():
        scaled = (torch.from_numpy(image).float() / 255 - 0.5) / 0.25
        wanted = network(scaled.permute(2, 0, 1).unsqueeze(0))["out"].argmax(1)[0].numpy()
    assert (Segmenter(out)(image).labels == wanted).mean() > 0.999


def test_weights_without_their_network_are_called_that(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "theirs.pth")
    assert as_onnx(tmp_path / "theirs.pth", None, None, tmp_path) == tmp_path / "theirs.pth"
    words = [
        "balance",
        str(tmp_path / "theirs.pth"),
        "--target",
        str(tmp_path),
        "-o",
        str(tmp_path / "o.onnx"),
    ]
    expect_refusal(CliRunner().invoke(main, words), "holds weights without their network")


def test_a_folder_whose_network_takes_one_size_only(tmp_path: Path) -> None:
    from transformers import DPTConfig, DPTForSemanticSegmentation

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    necks = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16, "use_auxiliary_head": False}
    places = {"image_size": 64, "patch_size": 16, "backbone_out_indices": [0, 1, 2, 3]}
    network = DPTForSemanticSegmentation(DPTConfig(num_labels=5, **sizes, **necks, **places)).eval()
    network.save_pretrained(tmp_path / "theirs")
    (tmp_path / "made").mkdir()
    file = as_onnx(tmp_path / "theirs", None, None, tmp_path / "made")
    picture = torch.rand(1, 3, 64, 64)  # what config.json says
    (found,) = onnxruntime.InferenceSession(file).run(None, {"pixels": picture.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, network(picture).logits.numpy(), atol=1e-4)
    assert (tmp_path / "made" / "config.json").is_file()  # names are read from beside a file


@pytest.mark.parametrize("kind", ["Eomt", pytest.param("Mask2Former", marks=pytest.mark.slow)])
def test_a_folder_of_a_query_model(kind: str, tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(0)
    if kind == "Eomt":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 1}
        places = {"image_size": 64, "patch_size": 16, "num_blocks": 1, "num_upscale_blocks": 1}
        network = transformers.EomtForUniversalSegmentation(
            transformers.EomtConfig(num_labels=4, num_queries=5, **sizes, **places)
        )
    else:
        swin = transformers.SwinConfig(
            **{
                "image_size": 64,
                "embed_dim": 8,
                "depths": [1] * 4,
                "num_heads": [1, 1, 2, 2],
                "window_size": 2,
            },
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        widths = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "num_queries": 5}
        layers = {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 16}
        network = transformers.Mask2FormerForUniversalSegmentation(
            transformers.Mask2FormerConfig(num_labels=4, backbone_config=swin, **widths, **layers)
        )
    network.eval().save_pretrained(tmp_path / "theirs")
    (tmp_path / "made").mkdir()
    file = as_onnx(tmp_path / "theirs", None, (64, 64), tmp_path / "made")
    picture = torch.rand(1, 3, 64, 64)
    found = onnxruntime.InferenceSession(file).run(list(QUERIES), {"pixels": picture.numpy()})
    with torch.no_grad():
        answer = network(picture)
    for name, values in zip(QUERIES, found, strict=True):
        np.testing.assert_allclose(values, getattr(answer, name).numpy(), atol=1e-3)
