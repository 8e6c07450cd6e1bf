"""The same picture under two names."""

from pathlib import Path

import export_trees

from adapt.data.finding import find_images
from adapt.data.survey.duplicates import Twice, duplicates


def test_equal_bytes_are_found_under_any_name_and_equal_sizes_alone_are_not(tmp_path: Path):
    files = {"a": b"12345", "b": b"12345", "c": b"54321", "d": b"1"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    one, other, alike, short = (tmp_path / name for name in files)
    assert duplicates([one, short], [alike, other]) == [Twice(one, other)]
    assert duplicates([short], [one, alike]) == []
    assert duplicates([one], [one]) == [Twice(one, one)]
    assert duplicates([], [one]) == duplicates([one], []) == []


def test_pictures_in_rows_are_compared_with_one_another(tmp_path: Path):
    rows = find_images(export_trees.huggingface(tmp_path / "x"), "train")
    assert duplicates(rows[:1], rows) == [Twice(rows[0], rows[0])]
