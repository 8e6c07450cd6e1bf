"""What upsampling probabilities in place of scores changes: labels of a model's own user, and what it gives.

    python tests/bench/foreign/upsampling.py --camvid ../shared/data/camvid --run evidence/dusk/source-0

Each run's network is exported by plain torch code that upsamples the softmax, as many users do. Its own
labels on dusk_eval are held against those of its balanced files at strength 0, which upsample scores or
probabilities; then both are scored at several strengths. Statistics are of the dusk frames, without labels.
Exit code 1 if more than a ten-thousandth of the labels differ where probabilities are upsampled.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.append(str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[3]))

from bench_calibrate import plain_export

from adapt.data.datasets import LabelledFolder
from adapt.data.domains import open_labelled
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.model.segmenter import Segmenter
from adapt.run.run import load_run
from export.pipeline import export_onnx
from export.statistics.calibrate import calibrate
from serve import Segmenter as Deployed

TAUS = (0.0, 0.5, 1.0)
MOST = 1e-4


class Probable(nn.Module):
    """Probabilities at the size of the picture."""

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        scale = float(self.network.output_stride)
        return F.interpolate(self.network(pixels).softmax(1), scale_factor=scale, mode="bilinear")


def measured(run: Path, camvid: Path, folder: Path) -> float:
    """Print a run's rows; returns the share of labels that are others with probabilities."""
    opened = load_run(run)
    segmenter, size = opened.segmenter(), opened.config.data.size
    model, stats = folder / "model.onnx", folder / "stats.safetensors"
    plain_export(Probable(segmenter), segmenter.stride, model)
    told = {"size": size, "mean": segmenter.mean, "std": segmenter.std}
    calibrate(model, [camvid / "dusk"], stats, classes=camvid / "classes.yaml", force=True, **told)
    labelled = open_labelled(camvid / "dusk_eval", opened.classes, size)
    own = own_labels(model, segmenter, labelled)
    apart = {}
    for of in ("scores", "probabilities"):
        file = folder / f"{of}.onnx"
        export_onnx(model, file, stats=stats, runtime_tau=True, upsample=of, force=True)
        deployed = Deployed(file)
        found = [deployed(image, 0.0).labels for image, _ in samples(labelled)]
        apart[of] = float(np.mean([(a != b).mean() for a, b in zip(found, own, strict=True)]))
        scored = [f"{tau:g}: {words(scores_of(deployed, labelled, tau))}" for tau in TAUS]
        print(f"| {run.name} | {of} | {100 * apart[of]:.3f} % | {' | '.join(scored)} |", flush=True)
    return apart["probabilities"]


def samples(labelled: LabelledFolder) -> list[tuple[np.ndarray, np.ndarray]]:
    return [labelled[index] for index in range(len(labelled))]


def own_labels(model: Path, segmenter: Segmenter, labelled: LabelledFolder) -> list[np.ndarray]:
    """What the model's own user takes, who pads pictures to multiples of the stride with zeros and crops."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name, stride, found = session.get_inputs()[0].name, segmenter.stride, []
    for image, _ in samples(labelled):
        height, width = image.shape[:2]
        pixels = (image / 255 - np.array(segmenter.mean)) / np.array(segmenter.std)
        pixels = np.pad(pixels, ((0, -height % stride), (0, -width % stride), (0, 0)))
        feed = {name: pixels.astype(np.float32).transpose(2, 0, 1)[None]}
        found.append(session.run(None, feed)[0][0].argmax(0)[:height, :width])
    return found


def scores_of(deployed: Deployed, labelled: LabelledFolder, tau: float) -> Scores:
    C = len(deployed.card.classes)
    confusion = np.zeros((C, C), np.int64)
    for image, truth in samples(labelled):
        confusion += confusion_matrix(truth, deployed(image, tau).labels, C)
    return Scores.from_confusion(confusion)


def words(scores: Scores) -> str:
    return f"{100 * scores.mean_iou:.2f} / {100 * scores.mean_accuracy:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--camvid", type=Path, required=True, help="its folder, with dusk and dusk_eval")
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="run folders of `make evidence`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    missed = False
    print("| run | upsampled | labels unlike its user's | mIoU / mAcc at tau" + " |" * len(TAUS))
    for run in options.run:
        with tempfile.TemporaryDirectory() as folder:
            missed |= measured(run, options.camvid, Path(folder)) > MOST
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
