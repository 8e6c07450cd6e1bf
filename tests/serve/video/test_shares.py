"""The shares of classes, frame by frame, as CSV and Parquet."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from noise_clips import noise_clip
from serve_graphs import CLASSES

from serve import Segmenter
from serve.errors import InputError
from serve.video import shares as video_shares
from serve.video.segment import segment_video
from serve.video.settings import Settings
from serve.video.shares import shares_file


def test_shares_of_every_frame(tmp_path: Path, segmenter: Segmenter) -> None:
    source, pictures = noise_clip(tmp_path / "in.mkv")
    segment_video(segmenter, source, tmp_path / "out.mp4", shares="csv")
    rows = list(csv.DictReader(shares_file(tmp_path / "out.mp4", "csv").open()))
    assert [row["frame"] for row in rows] == list("012345") and rows[2]["seconds"] == "0.200000"
    for row, labels in zip(rows, segmenter(pictures).labels, strict=True):
        for number, name in enumerate(CLASSES):
            assert abs(float(row[name]) - (labels == number).mean()) < 1e-6


def test_shares_as_parquet_say_the_same_as_csv(tmp_path: Path, segmenter: Segmenter, monkeypatch) -> None:
    from pyarrow import float32, float64, int64, parquet

    monkeypatch.setattr(video_shares, "_ROWS", 4)  # so that six frames need two writes
    source, pictures = noise_clip(tmp_path / "in.mkv")
    for form in ("csv", "parquet"):
        segment_video(segmenter, source, tmp_path / "out.mp4", shares=form)
    table = parquet.read_table(shares_file(tmp_path / "out.mp4", "parquet"))
    assert table.schema.names == ["frame", "seconds", *CLASSES]
    assert table.schema.types == [int64(), float64(), *[float32()] * len(CLASSES)]
    rows = list(csv.reader(shares_file(tmp_path / "out.mp4", "csv").open()))[1:]
    assert len(rows) == table.num_rows == len(pictures)
    made = np.array([list(row.values()) for row in table.to_pylist()])
    np.testing.assert_allclose(made, np.array(rows, float), atol=1e-6)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_shares_of_a_failed_video_are_not_kept(
    tmp_path: Path, segmenter: Segmenter, monkeypatch, form
) -> None:
    source, _ = noise_clip(tmp_path / "in.mkv")

    def run(*_: object) -> None:
        raise RuntimeError("the runtime gives up")

    monkeypatch.setattr(segmenter.runtime.session, "run", run)
    with pytest.raises(InputError, match="failed on a 97x71 picture"):
        segment_video(segmenter, source, tmp_path / "out.mp4", shares=form)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_without_pyarrow_one_sentence_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'blda\[parquet\]'"):
        Settings(shares="parquet")
    Settings(shares="csv")
