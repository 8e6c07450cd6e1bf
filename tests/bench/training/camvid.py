"""Real trial: CamVid day -> dusk, as METHOD 9 describes. `make camvid` runs it; finished parts are kept.

Every host plain and balanced online, each with the post-hoc correction at several strengths, for every seed;
then the first seed's last host is exported and segments a real clip. Writes camvid/table.md, pictures,
model.onnx and the clip.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LAYOUT = """CamVid is not here. Get it (CC BY-NC 4.0, for example with the SegNet tutorial) and lay it out as
  {0}/day/images/*.jpg        sequences 0006R0 and 0016E5
  {0}/day/labels/*.png        their labels as ids 0 to 10, 11 where none
  {0}/dusk/images/*.jpg       half of the frames of 0001TP, unlabelled
  {0}/dusk_eval/images/*.jpg  the other half
  {0}/dusk_eval/labels/*.png
  {0}/classes.yaml            the 11 classes
then: make camvid CAMVID={0} ENCODER=file.py:function CLIP=video.mp4"""

# CamVid's camera sees no bonnet, so DAFormer's ignored rows are not for it.
TEACHER = "method.teacher_momentum=0.99"
DACS = ("method.host=dacs", TEACHER)
DAFORMER = ("method.host=daformer", TEACHER, "method.ignored_rows=[0, 0]")
MIC = ("method.host=mic", TEACHER, "method.ignored_rows=[0, 0]", "method.mask_patch=24")
ONLINE, POSTHOC = ("method.balance=online", "method.statistics_warmup=125"), ("method.balance=posthoc",)
METHODS = {
    "source only": ("method.host=source", *POSTHOC),
    "DACS": (*DACS, *POSTHOC),
    "DACS, balanced": (*DACS, *ONLINE),
    "DAFormer": (*DAFORMER, *POSTHOC),
    "DAFormer, balanced": (*DAFORMER, *ONLINE),
    "MIC": (*MIC, *POSTHOC),
    "MIC, balanced": (*MIC, *ONLINE),
}
SETTINGS = (
    "data.size=[240, 320]",
    "data.crop=[192, 192]",
    "data.workers=1",
    "model.decoder=segformer",
    "model.width=64",
    "training.batch=4",
    "training.encoder_lr=5.0e-4",
    "training.decoder_lr=3.0e-3",
    "training.warmup=25",
    "training.save_every=100",
)
TAUS = ("0", "0.2", "1.0")
MEASURES = ("mean_iou", "mean_accuracy", "std_iou", "sum_abs_bias")
HEAD = """| trained with | post-hoc tau | mIoU | mAcc | std of IoU | sum of abs Bias | seeds |
| --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    options = arguments()
    if not (options.camvid / "day" / "labels").is_dir():
        sys.exit(LAYOUT.format(options.camvid))
    options.out.mkdir(parents=True, exist_ok=True)
    scores: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in METHODS}
    for seed in options.seeds:
        for name in options.methods or METHODS:
            run = folder(name, seed, options.out)
            train(run, METHODS[name], seed, options)
            scores[name].append(evaluated(run, options.camvid))
            table = "\n".join([HEAD, *(row for item in scores.items() for row in rows(*item))])
            (options.out / "table.md").write_text(table + "\n")
    print(table)
    ship(folder(name, options.seeds[0], options.out), options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--encoder", required=True, help="file.py:function")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--out", type=Path, default=Path("camvid"))
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="By default all.")
    return parser.parse_args()


def folder(name: str, seed: int, out: Path) -> Path:
    return out / f"{name.lower().replace(',', '').replace(' ', '-')}-{seed}"


def train(run: Path, method: tuple[str, ...], seed: int, options: argparse.Namespace) -> None:
    """Train, or resume, or leave a finished run as it is."""
    if (run / "card.json").exists():
        if not json.loads((run / "card.json").read_text())["finished"]:
            call("adapt", "train", "--resume", str(run))
        return
    camvid = options.camvid.absolute()
    assignments = (
        *SETTINGS,
        *method,
        f'model.encoder={{factory: "{options.encoder}"}}',
        f"training.iterations={options.iterations}",
        f"training.evaluate_every={options.iterations}",
        f"training.seed={seed}",
    )
    data = ("--source", str(camvid / "day"), "--target", str(camvid / "dusk"))
    sets = (word for assignment in assignments for word in ("--set", assignment))
    call("adapt", "train", "-o", str(run), *data, "--evaluate", str(camvid / "dusk_eval"), *sets)


def evaluated(run: Path, camvid: Path) -> dict[str, dict[str, float]]:
    """Scores of one run by strength of the post-hoc correction."""
    path = run / "scores.json"
    taus = [word for tau in TAUS for word in ("--tau", tau)]
    data = str(camvid / "dusk_eval")
    call("adapt", "eval", str(run), "--data", data, *taus, "--json", str(path), "--force")
    scores: dict[str, dict[str, float]] = json.loads(path.read_text())["tau"]
    return scores


def rows(name: str, runs: list[dict[str, dict[str, float]]]) -> Iterator[str]:
    """Rows of the table: mean over the seeds, and the standard deviation where there are several."""
    for tau in runs[0] if runs else ():
        cells = [cell([run[tau][measure] for run in runs], measure) for measure in MEASURES]
        yield f"| {name} | {tau} | {' | '.join(cells)} | {len(runs)} |"


def cell(values: list[float], measure: str) -> str:
    scale, digits = (1, 3) if measure == "sum_abs_bias" else (100, 1)
    text = f"{scale * statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {scale * statistics.stdev(values):.{digits}f}"


def ship(run: Path, options: argparse.Namespace) -> None:
    """Pictures of the bias, the graph, and the clip that it segments."""
    out, data = options.out, str(options.camvid / "dusk_eval")
    call("adapt", "bias", str(run), "--data", data, "-o", str(out))
    model = out / "model.onnx"
    call("export", "onnx", str(run), "--with-correction", "--uncorrected-labels", "-o", str(model), "--force")
    if options.clip is not None and options.clip.is_file():
        call("serve", "video", str(model), str(options.clip), "-o", str(out / "drive.mp4"), "--force")


def call(room: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", room, *arguments], check=True)


if __name__ == "__main__":
    main()
