"""Names of outputs: none twice, none overwritten by chance, nothing left behind."""

from pathlib import Path

import pytest

from serve.errors import InputError
from serve.media.files import VIDEO_SUFFIXES, check_outputs, find_files
from serve.media.whole import replacing


def test_same_stem_twice_is_refused_before_it_overwrites(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"a\.mkv and .*a\.mp4 would both be written as a"):
        find_files([str(tmp_path)], VIDEO_SUFFIXES, "video")
    assert len(find_files([str(tmp_path)], VIDEO_SUFFIXES, "video", same_stems=True)) == 2


def test_replacing_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_text("old")
    for failure in (KeyboardInterrupt(), OSError(28, "No space left on device"), ValueError("x")):
        with pytest.raises(type(failure)) as caught, replacing(target) as temporary:
            temporary.write_text("half")
            raise failure
        assert [p.name for p in tmp_path.iterdir()] == ["out.png"] and target.read_text() == "old"
        if isinstance(failure, OSError):
            assert isinstance(caught.value, OSError) and caught.value.filename == str(target)
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"] and target.read_text() == "new"


def test_existing_output_needs_force(tmp_path: Path) -> None:
    targets = [tmp_path / name for name in ("a", "b", "c")]
    check_outputs(targets, force=False)
    targets[0].touch()
    with pytest.raises(InputError, match=r"a exists; .*--force"):
        check_outputs(targets, force=False)
    targets[1].touch()
    with pytest.raises(InputError, match=r"a and 1 more exist; .*--force"):
        check_outputs(targets, force=False)
    check_outputs(targets, force=True)
    with pytest.raises(InputError, match="a is a file, so nothing can be written below it"):
        check_outputs([targets[0] / "new" / "x.png"], force=True)
    targets[2].mkdir()
    with pytest.raises(InputError, match="c is a folder"):
        check_outputs(targets, force=True)
