"""What only an NVIDIA GPU can show: costs of a training step there, runs, labels, graphs, engines, ranks.

    make gpu                                               # all parts, at most 8 minutes
    python tests/bench/gpu/gpu.py --only step ranks --json some.json

Every part runs in a process of its own and within a time limit, so that one that breaks takes no other with
it; its rows are printed as they are found, and the JSON file is written again after every part. What this
machine lacks is "not measured". Exit code 0 if all targets are reached, 1 if one is missed or a part failed,
3 without a GPU. `--tiny` tries the script itself on any machine, with sizes whose times mean nothing.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.extend(map(str, (Path(__file__).parents[2] / "support").glob("**/")))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[3]))

from gpu_report import Report, Row, read_rows
from gpu_sizes import FULL, TINY, Sizes, end_group, environment

from serve.media.whole import replacing

NO_GPU = "make gpu needs an NVIDIA GPU that PyTorch can use, and this machine has none."
SECONDS = 465
"""Of all parts together; what is left of 8 minutes is for starting and ending."""
LIMITS = {
    "step": 170,
    "statistics": 60,
    "train": 200,
    "labels": 90,
    "ranks": 110,
    "onnx": 120,
    "tensorrt": 240,
}
"""Seconds that each part may take, in the order in which they run: the surest first."""
PACKAGES = (
    "torch",
    "accelerate",
    "transformers",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
)


def measure(part: str, report: Report, work: Path, sizes: Sizes) -> None:
    """Run one part in this process; what it raises becomes its last row."""
    try:
        _measure(part, report, work, sizes)
    except Exception as error:
        report.failed("this part broke off", error)


def _measure(part: str, report: Report, work: Path, sizes: Sizes) -> None:
    import gpu_labels
    import gpu_training

    from adapt.model.device import best_device

    device = best_device()
    parts: dict[str, Callable[[], None]] = {
        "step": lambda: gpu_training.measure_steps(report, device, sizes),
        "statistics": lambda: gpu_labels.measure_statistics(report, device, sizes),
        "train": lambda: gpu_training.measure_runs(report, work, device, sizes),
        "labels": lambda: gpu_labels.measure_labels(report, work, device, sizes),
        "ranks": lambda: gpu_training.measure_ranks(report, work, device, sizes),
        "onnx": lambda: gpu_labels.measure_onnx(report, work, sizes),
        "tensorrt": lambda: gpu_labels.measure_tensorrt(report, work, device, sizes),
    }
    parts[part]()


def measure_apart(part: str, work: Path, tiny: bool, seconds: float) -> list[Row]:
    """Run one part in a process of its own; the rows that it left, and one more if it died."""
    rows = work / f"{part}.rows"
    words = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--work", str(work)]
    died = Report(part, rows)
    process = subprocess.Popen(words + ["--tiny"] * tiny, env=environment(), start_new_session=True)
    try:
        code = process.wait(seconds)
        if code:
            died.failed("this part died", f"exit code {code}; what it said is above")
    except subprocess.TimeoutExpired:
        died.failed("this part was stopped", f"it took longer than {seconds:.0f} s")
    finally:
        end_group(process)
    return read_rows(rows)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    facts: dict[str, Any] = {"gpu": None, "python": platform.python_version(), "packages": {}}
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        facts |= {"gpu": found.name, "memory_gib": round(found.total_memory / 2**30, 1)}
        facts |= {"gpus": torch.cuda.device_count(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            facts["packages"][package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def write_json(path: Path, facts: dict[str, Any], rows: list[Row], seconds: dict[str, float]) -> None:
    """The whole table as far as it goes."""
    content = {"machine": facts, "seconds": seconds, "rows": [asdict(row) for row in rows]}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def measure_all(parts: list[str], path: Path, tiny: bool, work: Path) -> list[Row]:
    """All rows of some parts; the JSON file holds them too, after every part."""
    facts, rows, spent = machine(), list[Row](), dict[str, float]()
    packages = " ".join("-".join(pair) for pair in facts["packages"].items())
    print(f"{facts['gpu'] or 'a CPU'}; {packages}", flush=True)
    first = time.monotonic()
    for part in parts:
        started = time.monotonic()
        left = SECONDS - (started - first)
        if left < 5:
            late = Report(part)
            late.skipped("all of it", f"the {SECONDS} s of all parts were over")
            rows += late.rows
        else:
            rows += measure_apart(part, work, tiny, min(LIMITS[part], left))
        spent[part] = round(time.monotonic() - started, 1)
        write_json(path, facts, rows, spent)
    print("\nseconds: " + ", ".join(f"{part} {seconds:g}" for part, seconds in spent.items()), flush=True)
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What only an NVIDIA GPU can show.")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file to write [gpu.json]")
    parser.add_argument("--only", nargs="+", choices=LIMITS, default=list(LIMITS), help="parts to run")
    parser.add_argument("--tiny", action="store_true", help="try the script itself, also without a GPU")
    parser.add_argument("--part", choices=LIMITS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help="folder to keep runs, graphs and logs in")
    options = parser.parse_args(arguments)
    if options.part:
        rows = options.work / f"{options.part}.rows"
        measure(options.part, Report(options.part, rows), options.work, TINY if options.tiny else FULL)
        return 0
    import torch

    if not torch.cuda.is_available() and not options.tiny:
        print(NO_GPU, file=sys.stderr)
        return 3
    chosen = [part for part in LIMITS if part in options.only]
    with tempfile.TemporaryDirectory(prefix="blda-gpu-") as temporary:
        work = (options.work or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        for part in chosen:
            (work / f"{part}.rows").unlink(missing_ok=True)
        rows = measure_all(chosen, options.json, options.tiny, work)
    print("\nthe whole table:")
    for row in rows:
        print(row.line())
    print(f"wrote {options.json}")
    return int(any(row.bad for row in rows))


if __name__ == "__main__":
    sys.exit(main())
