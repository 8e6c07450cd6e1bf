"""Real trial: CamVid day -> dusk, as METHOD 9 describes. `make camvid` runs it; finished parts are kept.

Source only, self-training, and self-training with online balancing, each with the post-hoc correction at
several strengths; then the last one is exported and segments a real clip. Writes camvid/table.md, pictures,
model.onnx and the clip.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

LAYOUT = """CamVid is not here. Get it (CC BY-NC 4.0, for example with the SegNet tutorial) and lay it out as
  {0}/day/images/*.jpg        sequences 0006R0 and 0016E5
  {0}/day/labels/*.png        their labels as ids 0 to 10, 11 where none
  {0}/dusk/images/*.jpg       half of the frames of 0001TP, unlabelled
  {0}/dusk_eval/images/*.jpg  the other half
  {0}/dusk_eval/labels/*.png
  {0}/classes.yaml            the 11 classes
then: make camvid CAMVID={0} ENCODER=file.py:function CLIP=video.mp4"""

METHODS = {
    "source only": ("method.host=source", "method.balance=posthoc"),
    "self-training": ("method.host=dacs", "method.balance=posthoc"),
    "+ online BLDA": ("method.host=dacs", "method.balance=online"),
}
SETTINGS = (
    "data.size=[240, 320]",
    "data.crop=[192, 192]",
    "data.workers=1",
    "model.decoder=segformer",
    "model.width=64",
    "method.teacher_momentum=0.99",
    "method.statistics_warmup=125",
    "training.batch=4",
    "training.encoder_lr=5.0e-4",
    "training.decoder_lr=3.0e-3",
    "training.warmup=25",
    "training.save_every=100",
)
TAUS = ("0", "0.2", "0.5", "1.0")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--encoder", required=True, help="file.py:function")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--out", type=Path, default=Path("camvid"))
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.camvid / "day" / "labels").is_dir():
        sys.exit(LAYOUT.format(options.camvid))
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, method in METHODS.items():
        run = options.out / f"{name.strip('+ ').replace(' ', '-')}-{options.seed}"
        train(run, method, options)
        rows += evaluated(name, run, options.camvid)
    table = "\n".join(
        [
            "| trained with | post-hoc tau | mIoU | mAcc | std of IoU | sum of abs Bias |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )
    (options.out / f"table-{options.seed}.md").write_text(table + "\n")
    print(table)
    call("adapt", "bias", str(run), "--data", str(options.camvid / "dusk_eval"), "-o", str(options.out))
    model = options.out / "model.onnx"
    call("export", "onnx", str(run), "--with-correction", "--uncorrected-labels", "-o", str(model), "--force")
    if options.clip is not None and options.clip.is_file():
        call("serve", "video", str(model), str(options.clip), "-o", str(options.out / "drive.mp4"), "--force")


def train(run: Path, method: tuple[str, ...], options: argparse.Namespace) -> None:
    """Train, or resume, or leave a finished run as it is."""
    if (run / "card.json").exists():
        if not json.loads((run / "card.json").read_text())["finished"]:
            call("adapt", "train", "--resume", str(run))
        return
    camvid, encoder = options.camvid.absolute(), options.encoder
    assignments = (
        *SETTINGS,
        *method,
        f'model.encoder={{factory: "{encoder}"}}',
        f"training.iterations={options.iterations}",
        f"training.evaluate_every={options.iterations}",
        f"training.seed={options.seed}",
    )
    call(
        *(
            "adapt",
            "train",
            "-o",
            str(run),
            "--source",
            str(camvid / "day"),
            "--target",
            str(camvid / "dusk"),
        ),
        *("--evaluate", str(camvid / "dusk_eval")),
        *(word for assignment in assignments for word in ("--set", assignment)),
    )


def evaluated(name: str, run: Path, camvid: Path) -> list[str]:
    """Rows of the table for one run."""
    scores = run / "scores.json"
    taus = [word for tau in TAUS for word in ("--tau", tau)]
    call(
        "adapt",
        "eval",
        str(run),
        "--data",
        str(camvid / "dusk_eval"),
        *taus,
        "--json",
        str(scores),
        "--force",
    )
    rows = []
    for tau, score in json.loads(scores.read_text())["tau"].items():
        rows.append(
            f"| {name} | {tau} | {100 * score['mean_iou']:.1f} | {100 * score['mean_accuracy']:.1f} "
            f"| {100 * score['std_iou']:.1f} | {score['sum_abs_bias']:.3f} |"
        )
    return rows


def call(room: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", room, *arguments], check=True)


if __name__ == "__main__":
    main()
