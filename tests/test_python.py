"""The examples of docs/python.md work as printed, one after the other, in a program of their own."""

import re
import subprocess
import sys
from pathlib import Path

import onnx
import tiny
from onnx_segmenters import plain_segmenter

from adapt import load_run
from serve import Segmenter


def test_the_examples_work_as_printed(root: Path, tmp_path: Path) -> None:
    page = (root / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) == 3
    (tmp_path / "data").mkdir()
    tiny.make_domains(tmp_path / "data", images=3)
    onnx.save(plain_segmenter(3), tmp_path / "theirs.onnx")
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks) + "\nprint(labels.shape, labels.dtype)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": str(Path(sys.executable).parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.split("\n")[-2] == "(480, 640) uint8", run.stdout
    assert load_run(tmp_path / "run").card.iterations == 40
    made = Segmenter(tmp_path / "model.onnx"), Segmenter(tmp_path / "balanced.onnx")
    assert [segmenter.correction and segmenter.correction.tau for segmenter in made] == [0.3, 0.5]
