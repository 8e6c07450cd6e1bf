"""The demo's claims on three seeds: `make seeds`. Finished runs in the output folder are kept.

On the sample's target, for the shipped seed and two others, (1) the post-hoc correction lowers the sum of
|Bias| and raises mAcc, and (2) self-training with online balancing beats source-only training in mIoU.
Exits with 1 if a claim does not hold.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

TAU = "0.2"
METHODS = {"source only": ("method.host=source", "method.balance=posthoc"), "online BLDA": ()}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("demo/seeds"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print("| seed | trained with | post-hoc tau | mIoU | mAcc | std of IoU | sum of abs Bias |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    failed = []
    for seed in options.seeds:
        data = options.out / f"data-{seed}"
        if not data.exists():
            call("sample-data", str(data), "--seed", str(seed))
        scores = {name: run(name, seed, data, options.out) for name in METHODS}
        for name, score in scores.items():
            plain, corrected = score["0"], score[TAU]
            if not corrected["sum_abs_bias"] < plain["sum_abs_bias"]:
                failed.append(f"seed {seed}, {name}: sum of |Bias| does not fall with the correction")
            if not corrected["mean_accuracy"] > plain["mean_accuracy"]:
                failed.append(f"seed {seed}, {name}: mAcc does not rise with the correction")
        if not scores["online BLDA"]["0"]["mean_iou"] > scores["source only"]["0"]["mean_iou"]:
            failed.append(f"seed {seed}: online BLDA does not beat source-only training in mIoU")
    print("\n".join(failed) or "all claims hold")
    return 1 if failed else 0


def run(name: str, seed: int, data: Path, out: Path) -> dict[str, dict[str, float]]:
    """Train (or resume, or keep) one run, and give its scores by strength."""
    folder = out / f"{name.replace(' ', '-')}-{seed}"
    if not (folder / "card.json").exists():
        assignments = (*METHODS[name], f"training.seed={seed}")
        call(
            *("train", "--preset", "demo", "--source", str(data / "source"), "-o", str(folder)),
            *("--target", str(data / "target")),
            *(word for assignment in assignments for word in ("--set", assignment)),
        )
    elif not json.loads((folder / "card.json").read_text())["finished"]:
        call("train", "--resume", str(folder))
    path = folder / "scores.json"
    taus = ("--tau", "0", "--tau", TAU, "--tau", "1")
    call("eval", str(folder), "--data", str(data / "target_eval"), *taus, "--json", str(path), "--force")
    scores: dict[str, dict[str, float]] = json.loads(path.read_text())["tau"]
    for tau, score in scores.items():
        cells = (100 * score["mean_iou"], 100 * score["mean_accuracy"], 100 * score["std_iou"])
        numbers = " | ".join(f"{cell:.1f}" for cell in cells)
        print(f"| {seed} | {name} | {tau} | {numbers} | {score['sum_abs_bias']:.3f} |", flush=True)
    return scores


def call(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "adapt", *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
