"""The file: safetensors as everybody reads it, whole numbers that come back, a day within its size."""

import json
from pathlib import Path

import numpy as np
import pytest
from gathered_files import HOUR, drawn, subject, write_file
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file

from serve.errors import InputError
from serve.gathering.counts import Counts, add
from serve.gathering.packing import pack, unpack
from serve.gathering.store import Gathered, check_same
from serve.gathering.tensors import TensorFile, write_tensors

MOST = 2_000_000
"""Bytes of a day of 19 classes."""


@given(arrays(np.int64, st.integers(0, 50), elements=st.integers(0, 2**62)))
def test_packed_numbers_come_back(values: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack(pack(values), len(values)), values)


@pytest.mark.parametrize("data", [b"", b"\x03abc", b"\x01abc", pack(np.arange(5)).tobytes()])
def test_what_is_not_packed_counts_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(np.frombuffer(data, np.uint8), 4)


def test_our_files_are_safetensors_and_theirs_are_ours(tmp_path: Path) -> None:
    tensors = {"a": np.arange(6, dtype=np.uint16).reshape(2, 3), "b": np.array([2.5], np.float32)}
    with (tmp_path / "ours").open("wb") as file:
        write_tensors(file, {"k": "v"}, tensors)
    save_file(tensors, tmp_path / "theirs", {"k": "v"})
    for name, found in load_file(tmp_path / "ours").items():
        np.testing.assert_array_equal(found, tensors[name])
    theirs = TensorFile(tmp_path / "theirs")
    assert theirs.metadata == {"k": "v"}
    np.testing.assert_array_equal(theirs["a"], tensors["a"])
    np.testing.assert_array_equal(theirs["b"], tensors["b"])


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, kept: int) -> None:
    path = write_file(tmp_path / "f", subject(), [drawn(subject(), np.random.default_rng(0))])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"f is no whole safetensors file"):
        Gathered(path)


def test_other_files_and_newer_ones_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(InputError, match="holds nothing gathered"):
        Gathered(tmp_path / "other")
    with pytest.raises(InputError, match="does not exist"):
        Gathered(tmp_path / "none")
    for fields, words in (({"format": 2}, "format 2"), ({"format": 1}, "was altered"), ([], "was altered")):
        save_file({"a": np.zeros(3)}, tmp_path / "bad", {"blda.gathered": json.dumps(fields)})
        with pytest.raises(InputError, match=words):
            Gathered(tmp_path / "bad")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rng, of = np.random.default_rng(1), subject(4, offset=0.5)
    counts = [drawn(of, rng), drawn(of, rng, 100)]
    gathered = Gathered(write_file(tmp_path / "f", of, counts, device="mast 7"))
    assert gathered.head.subject == of and gathered.head.slot == HOUR
    assert [r.device for r in gathered.head.records] == ["mast 7"] * 2
    for n, expected in enumerate(counts):
        np.testing.assert_array_equal(gathered.counts(n).values, expected.values)
    np.testing.assert_array_equal(gathered.total().values, counts[0].values + counts[1].values)
    np.testing.assert_array_equal(gathered.total([1]).values, counts[1].values)


def test_counts_that_were_altered_are_refused(tmp_path: Path) -> None:
    of = subject()
    path = write_file(tmp_path / "f", of, [drawn(of, np.random.default_rng(2))])
    path.write_bytes(path.read_bytes()[:-9] + b"altered!!")
    with pytest.raises(InputError, match="was altered"):
        Gathered(path).counts(0)


def test_counts_of_other_networks_or_bins_do_not_add_up(tmp_path: Path) -> None:
    of = subject()
    gathered = Gathered(write_file(tmp_path / "f", of, []))
    check_same(gathered.head, tmp_path / "f", of, "the model")
    with pytest.raises(InputError, match="is of another network"):
        check_same(gathered.head, tmp_path / "f", subject(network="another"), "the model")
    with pytest.raises(InputError, match="counted in other bins"):
        check_same(gathered.head, tmp_path / "f", subject(offset=1.0), "the model")


def test_a_day_of_19_classes_keeps_its_size(tmp_path: Path) -> None:
    """As hard as it comes: wide logits of every class in every hour, 360 frames of 4096 pixels in each."""
    rng, of = np.random.default_rng(3), subject(19)
    day = []
    for _ in range(24):
        counts = Counts.none(19)
        truth = rng.integers(0, 19, 40_000)
        logits = rng.normal(-2, 2.5, (19, len(truth)))
        logits[truth, np.arange(len(truth))] += rng.normal(5, 2, len(truth))
        for part in np.array_split(np.arange(len(truth)), 10):
            frame = logits[:, None, part].astype(np.float32)
            add(counts, of.rule, frame, frame.argmax(0))
        counts.values[:] = rng.poisson(counts.values * (360 * 4096 / len(truth)))
        day.append(counts)
    size = write_file(tmp_path / "day", of, day).stat().st_size
    assert size <= MOST, size
