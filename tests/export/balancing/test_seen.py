"""What the page shows of pictures: labels of the model itself, and of the file that was written."""

from calibrated_models import NORMALISED, call, images_of
from foreign_segmenters import write_pictures, write_segmenter

import export.balancing.balance
from export.balancing.seen import pairs
from serve import Segmenter


def test_pictures_after_are_labelled_as_the_written_file_labels_them(tmp_path, monkeypatch):
    """They are run in the session of the check, which is of the same graph."""
    footage, model = write_pictures(tmp_path / "footage"), write_segmenter(tmp_path / "theirs.onnx")
    taken = []

    def watched(*given):
        taken.append((given, pairs(*given)))
        return taken[-1][1]

    monkeypatch.setattr(export.balancing.balance, "pairs", watched)
    out = tmp_path / "b.onnx"
    result = call("balance", model, "--target", footage / "images", *NORMALISED, "-o", out)
    assert result.exit_code == 0, result.output
    (((network, target, file), found),) = taken
    written = Segmenter(out)
    assert (len(target), network.outlet.classes, len(found)) == (6, 4, 4)
    assert file.correction == written.correction and file.correction.tau == 0.5
    for image in images_of(footage):
        assert (file(image).labels == written(image).labels).all()
    for pair in found:
        assert (pair.after == written(pair.image).labels).all()
        assert (pair.after != pair.before).any()
