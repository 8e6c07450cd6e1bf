"""What training writes down: whole lines, few pages, and nothing that changes the training."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adapt.augmentation.augment import Mixed
from adapt.augmentation.pairs import Pair
from adapt.balance.histogram import logit_histogram
from adapt.balance.logit_statistics import LogitStatistics
from adapt.balance.online import Balance
from adapt.data.classes import IGNORE, ClassList
from adapt.evaluation.scores import Scores
from adapt.training.album import GAP, MOMENTS, moments, picture_of, read_album, unmixed, write_moment
from adapt.training.journal import Journal, album_of, read_lines, rewind

CLASSES = ClassList(
    names=("sky", "road", "bus"), ids=(0, 1, 2), palette=((0, 90, 255), (128, 64, 128), (200, 0, 0))
)


def mixed(height: int = 40, width: int = 60, batch: int = 3) -> Mixed:
    """Source on the left half (label 2, weight 1), target on the right (label 0, weight 0.25)."""
    source = torch.arange(width).expand(batch, height, width) < width // 2
    return Mixed(
        images=torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0)),
        labels=torch.where(source, 2, 0),
        weights=torch.where(source, 1.0, 0.25),
        from_target=~source,
    )


@pytest.fixture
def statistics() -> LogitStatistics:
    generator = torch.Generator().manual_seed(0)
    running = LogitStatistics(3, components=2)
    labels = torch.randint(0, 2, (1, 30, 30), generator=generator)  # class 2 never occurs
    histogram = logit_histogram(torch.randn(1, 3, 30, 30, generator=generator), labels)
    running.update_source(histogram)
    running.update_target(histogram)
    return running


@pytest.mark.parametrize("iterations", [1, 2, 6, 12, 100, 40_000])
def test_moments_are_few_dense_at_the_start_and_end_with_the_run(iterations: int) -> None:
    found = moments(iterations)
    assert len(found) <= MOMENTS and found[-1] == iterations and found[0] >= 1
    steps = np.diff(found)
    assert (steps > 0).all() and (np.diff(steps) >= -1).all(), "steps grow, but for rounding"


def test_a_page_shows_picture_labels_and_what_counts() -> None:
    page = picture_of(mixed(), None, CLASSES)
    assert page.shape == (2 * 40 + GAP, 3 * 60 + 2 * GAP, 3), "two of the three pictures"
    labels, weights = page[:40, 60 + GAP : 120 + GAP], page[:40, 120 + 2 * GAP :]
    assert (labels[:, :29] == CLASSES.palette[2]).all() and (labels[:, 31:] == CLASSES.palette[0]).all()
    assert (labels[:, 29:31] == 255).all(), "the border of what was pasted"
    assert (weights[:, :30] == 255).all() and (weights[:, 30:] == 64).all()
    image = (mixed().images[0].permute(1, 2, 0) * 255).round().byte().numpy()
    assert (page[:40, :60] == image).all()


def test_confidence_is_shown_where_the_labels_are_the_teachers() -> None:
    page = picture_of(mixed(), torch.full((3, 40, 60), 0.5), CLASSES)
    weights = page[:40, 120 + 2 * GAP :]
    assert (weights[:, :30] == 255).all() and (weights[:, 30:] == 128).all()


def test_large_pictures_are_made_small() -> None:
    assert picture_of(mixed(512, 1024, 1), None, CLASSES).shape == (128, 3 * 256 + 2 * GAP, 3)


def test_source_only_training_shows_the_source() -> None:
    image = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    labels = torch.full((1, 8, 8), IGNORE, dtype=torch.uint8)
    labels[0, 2:] = 1
    nothing = torch.zeros(0)
    shown = unmixed(Pair(image, labels, nothing, nothing))
    page = picture_of(shown, None, CLASSES)
    assert (page[:, :8] == image[0].numpy()).all()
    assert (page[:2, 8 + GAP : 16 + GAP] == 0).all(), (
        "pixels that do not count are black, nothing is outlined"
    )


def test_a_page_is_read_back(tmp_path: Path, statistics: LogitStatistics) -> None:
    before = {name: value.clone() for name, value in statistics.state_dict().items()}
    write_moment(tmp_path / "album", 70, picture_of(mixed(), None, CLASSES), statistics)
    write_moment(tmp_path / "album", 7, picture_of(mixed(), None, CLASSES), None)
    first, second = read_album(tmp_path / "album")
    assert (first.iteration, first.domains, first.anchor) == (7, {}, None)
    assert second.iteration == 70 and cv2.imread(str(second.picture)).std() > 1
    for domain in ("source", "target"):
        bank, kept = getattr(statistics, domain), second.domains[domain]
        for c in range(3):
            for whole, own in zip(bank.mixture, kept.rows, strict=True):
                assert torch.equal(whole[c, c], own[c])
        assert kept.seen.tolist() == [True, True, False]
    assert second.anchor is not None
    assert torch.equal(second.anchor.means, statistics.anchors.means[0, 0])
    assert all(torch.equal(before[name], value) for name, value in statistics.state_dict().items())


def test_there_is_no_anchor_before_there_was_a_pixel(tmp_path: Path) -> None:
    write_moment(tmp_path, 1, picture_of(mixed(), None, CLASSES), LogitStatistics(3))
    assert read_album(tmp_path)[0].anchor is None
    assert read_album(tmp_path / "none") == []


def journal(folder: Path, done: int = 0, writes: bool = True) -> Journal:
    return Journal(folder, CLASSES, iterations=48, every=10, done=done, writes=writes)


def test_the_journal_draws_no_random_number(tmp_path: Path, statistics: LogitStatistics) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with journal(tmp_path) as written:
        written.losses(1, {"source": 1.0}, 2.0, {"encoder": 1e-4}, statistics)
        written.show(1, mixed(), None, statistics)
    assert torch.equal(torch.get_rng_state(), before)


def test_everything_is_written_where_it_is_looked_for(tmp_path: Path, statistics: LogitStatistics) -> None:
    scores = Scores.from_confusion(np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]]))
    with journal(tmp_path) as written:
        written.losses(10, {"source": 1.5, "confident": 0.25}, 2.0, {"encoder": 1e-4}, statistics)
        assert 8 in moments(48) and not {9, 10} & set(moments(48))
        assert written.shows(8) and not written.shows(9) and written.shows(10)
        for iteration in (8, 10):
            written.show(iteration, mixed(), None, statistics)
        written.evaluation(8, {0.0: scores, 0.2: scores})
    assert read_lines(tmp_path / "metrics.jsonl") == [
        {"iteration": 10, "iterations_per_second": 2.0, "source": 1.5, "confident": 0.25}
    ]
    (line,) = read_lines(tmp_path / "evaluations.jsonl")
    assert line["iteration"] == 8 and line["tau"]["0.2"]["iou"] == [0.75, 0.4, None]
    assert [moment.iteration for moment in read_album(album_of(tmp_path))] == [8], "10 is TensorBoard's only"
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert {"train/source", "train/confident", "learning_rate/encoder"} <= set(board.Tags()["scalars"])
    value = board.Scalars("statistics/classes_seen_target")[0]
    assert (value.step, value.value) == (10, 2.0)
    assert board.Scalars("evaluation_uncorrected/mean_iou")[0].value == pytest.approx(0.575)
    assert "iou_tau_0.2/road" in board.Tags()["scalars"] and "iou_tau_0.2/bus" not in board.Tags()["scalars"]
    (tag,) = board.Tags()["images"]
    assert [image.step for image in board.Images(tag)] == [8, 10]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with journal(tmp_path, writes=False) as silent:
        silent.losses(1, {"source": 1.0}, 2.0, {}, None)
        silent.evaluation(1, {})
        assert not silent.shows(48)
    assert list(tmp_path.iterdir()) == []


def test_going_back_drops_what_came_later_and_what_was_cut_off(tmp_path: Path) -> None:
    records = [{"iteration": i, "iterations_per_second": 1.0, "source": i / 3} for i in range(1, 5)]
    lines = [json.dumps(record) + "\n" for record in records]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"iteration": 5, "sou')
    rewind(tmp_path, 3)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:3])
    assert read_lines(tmp_path / "evaluations.jsonl") == []


def test_a_masked_class_is_told_once(tmp_path: Path, capsys) -> None:
    logits, labels = torch.randn(1, 3, 16, 16), torch.randint(0, 2, (1, 16, 16))
    balance = Balance(LogitStatistics(3), lambda tensor: tensor, 1)
    journal = Journal(tmp_path, CLASSES, 10, 10, 0, writes=True)
    balance.take_source(logits, labels)
    journal.losses(1, {"loss": 1.0}, 1.0, {}, balance.statistics)
    assert capsys.readouterr().err == ""
    logits[:, 2] = -1e9
    balance.take_target(logits, labels)
    for iteration in (2, 3):
        journal.losses(iteration, {"loss": 1.0}, 1.0, {}, balance.statistics)
    said = capsys.readouterr().err
    assert said.count("16.7% of the logits lie beyond") == 1 and "masked" in said
