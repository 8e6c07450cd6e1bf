"""Which pictures are found, and what is said of what is passed over."""

from pathlib import Path

import pytest

from serve.demo.options import find_examples
from serve.errors import InputError
from serve.media.images import find_images


def test_finds_files_folders_and_patterns_once_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", "c.png"):
        (folder / name).touch()
    names = [p.name for p in find_images([str(folder / "c.png"), str(folder), str(folder / "*.png")])]
    assert names == ["c.png", "a.JPG", "b.png"]


def test_what_a_folder_holds_and_is_passed_over_is_counted_and_named(tmp_path: Path, capsys) -> None:
    for name in ("a.png", "b.txt", "c.PSD", "d", "e.mp4", ".DS_Store", "._a.png", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "pictures.png").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert find_images([str(tmp_path)]) == [tmp_path / "a.png"]
    said = "Left out 5 files of other kinds and 2 folders: b.txt, c.PSD, d …\n"
    assert capsys.readouterr() == ("", said)
    assert find_images([str(tmp_path / "a.png"), str(tmp_path)]) == [tmp_path / "a.png"]
    assert capsys.readouterr().err == said, "once, whatever is given beside it"
    # Who names a file, or gives a pattern that meets it, has it tried, whatever it is called.
    assert find_images([str(tmp_path), str(tmp_path / "*.*")])[0] == tmp_path / "a.png"
    assert (
        capsys.readouterr().err
        == "Left out 2 files of other kinds and 2 folders: d, gone.jpg, pictures.png/ …\n"
    )
    assert find_images([str(tmp_path / "d"), str(tmp_path / ".hidden.png")]) == [
        tmp_path / "d",
        tmp_path / ".hidden.png",
    ]
    assert capsys.readouterr().err == ""


def test_nothing_is_said_where_all_is_taken(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / ".git").mkdir()
    find_images([str(tmp_path)])
    assert capsys.readouterr() == ("", "")


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.psd").touch()
    (tmp_path / "2024").mkdir()
    with pytest.raises(
        InputError, match=r"no picture, only 1 file of other kinds and 1 folder: 2024/, a\.psd; "
    ):
        find_images([str(tmp_path)])


def test_the_demo_says_what_it_does_not_offer(tmp_path: Path, capsys) -> None:
    for name in ("a.png", "b.mp4", "c.txt"):
        (tmp_path / name).touch()
    assert find_examples([str(tmp_path)]) == [tmp_path / "a.png", tmp_path / "b.mp4"]
    assert capsys.readouterr().err == "Left out 1 file of other kinds: c.txt\n"
    with pytest.raises(InputError, match=r"c\.txt holds no picture or video"):
        find_examples([str(tmp_path / "c.txt")])


def test_inputs_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for given in (str(tmp_path), str(tmp_path / "*.png"), str(tmp_path / "missing.png")):
        with pytest.raises(InputError, match="holds no picture"):
            find_images([given])
