"""What is seen of self-training without labels, against slow twins; and the rule that follows from it."""

import pytest
import torch
import watch_oracle

from adapt.data.classes import IGNORE
from adapt.training.watching.watch import DROP, LEAST, MEMORY, Seen, Watch, agreement_of

NAMES = ("road", "sky", "car", "sign", "pole")


def plain(counts: torch.Tensor) -> torch.Tensor:
    return counts


def logits_of(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Logits [N, C, h, w] whose argmax the labels are."""
    return torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2).float()


def drawn(generator: torch.Generator, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The teacher's labels at full size and the student's at stride 4, of which many agree."""
    student = torch.randint(0, classes, (2, 3, 5), generator=generator)
    other = torch.randint(0, classes, (2, 3, 5), generator=generator)
    teacher = torch.where(torch.rand(2, 3, 5, generator=generator) > 0.4, student, other)
    teacher[0, 0, 0] = IGNORE
    return teacher.repeat_interleave(4, 1).repeat_interleave(4, 2), student


@pytest.mark.parametrize("classes", [3, 5])
def test_what_is_seen_matches_its_twin(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    watch, batches = Watch(NAMES[:classes], plain), []
    for _ in range(4):
        teacher, student = drawn(generator, classes - 1)  # one class occurs nowhere
        watch.take(logits_of(student, classes), teacher, 4)
        batches.append((teacher[:, 2::4, 2::4].flatten().tolist(), student.flatten().tolist()))
    seen = watch.look(4)
    assert seen is not None
    counts = watch_oracle.running_counts(batches, classes, MEMORY)
    assert seen.agreement == pytest.approx(watch_oracle.agreement(counts), abs=1e-6)
    assert seen.bias == pytest.approx(watch_oracle.sum_abs_bias(counts), abs=1e-5)
    total = sum(map(sum, counts))
    assert seen.shares == pytest.approx([sum(row) / total for row in counts], abs=1e-6)
    assert seen.shares[-1] == 0 and 0.2 < seen.agreement < 0.9


def test_old_batches_fade() -> None:
    watch = Watch(NAMES[:3], plain)
    generator, batches = torch.Generator().manual_seed(0), []
    for _ in range(MEMORY + 30):
        teacher, student = drawn(generator, 3)
        watch.take(logits_of(student, 3), teacher, 4)
        batches.append((teacher[:, 2::4, 2::4].flatten().tolist(), student.flatten().tolist()))
    want = torch.tensor(watch_oracle.running_counts(batches, 3, MEMORY))
    torch.testing.assert_close(watch.counts, want, atol=1e-4, rtol=1e-4)


def test_ranks_are_counted_together() -> None:
    teacher, student = drawn(torch.Generator().manual_seed(0), 3)
    alone, ranks = Watch(NAMES[:3], plain), Watch(NAMES[:3], lambda counts: 2 * counts)
    for watch in (alone, ranks):
        watch.take(logits_of(student, 3), teacher, 4)
    assert torch.equal(ranks.counts, 2 * alone.counts)


def test_nothing_is_seen_before_the_teacher_has_labelled() -> None:
    watch = Watch(NAMES[:3], plain)
    assert watch.look(10) is None and not watch.keeps(10)


def test_a_class_that_vanishes_costs_agreement_and_classes_may_be_renamed() -> None:
    counts = torch.diag(torch.tensor([50.0, 30.0, 20.0]))
    assert agreement_of(counts) == 1
    gone = torch.diag(torch.tensor([50.0, 50.0, 0.0]))
    assert agreement_of(gone) == pytest.approx(2 / 3)
    mixed = torch.tensor([[5.0, 1.0, 0.0], [2.0, 3.0, 4.0], [0.0, 1.0, 9.0]])
    order = torch.tensor([2, 0, 1])
    assert agreement_of(mixed[order][:, order]) == pytest.approx(agreement_of(mixed))


# ---- the rule --------------------------------------------------------------------------------------------


def run(agreements: list[float], every: int = 10) -> list[Seen]:
    """Looks at a watch that sees these, one every so many iterations."""
    watch, looks = Watch(NAMES[:2], plain), []
    watch.steps.fill_(MEMORY)
    for number, agreement in enumerate(agreements, 1):
        watch.counts = torch.tensor([[agreement, 1 - agreement], [0.0, agreement]])
        looks.append(watch.look(number * every))
    assert all(seen is not None for seen in looks)
    return [seen for seen in looks if seen is not None]


def values(looks: list[Seen]) -> list[float]:
    return [seen.agreement for seen in looks]


def test_it_turns_after_a_lasting_fall_and_says_so_once() -> None:
    fall = run([0.9] * 3 + [0.6] * 20)
    best, low = max(values(fall)), min(values(fall))
    assert best - low > DROP
    told = [number for number, seen in enumerate(fall, 1) if seen.news]
    assert told == [3 + MEMORY // 10], "once it has been low for as long as the counts remember"
    (news,) = fall[told[0] - 1].news
    assert "at iteration 30" in news and "method.source_start" in news
    assert [seen.turned for seen in fall] == [False] * (told[0] - 1) + [True] * (len(fall) - told[0] + 1)


def test_a_short_dip_and_a_small_fall_are_no_news() -> None:
    assert not any(seen.news or seen.turned for seen in run([0.9] * 3 + [0.6] * 5 + [0.9] * 20))
    small = run([0.9] * 3 + [0.88] * 20)
    assert 0 < values(small)[0] - values(small)[-1] < DROP
    assert not any(seen.news or seen.turned for seen in small)


def test_it_recovers_only_above_half_of_the_drop() -> None:
    base = [0.9] * 3 + [0.6] * 20
    best = max(values(run(base)))
    shaky = run([*base, 0.87, 0.87])
    assert DROP / 2 < best - shaky[-1].agreement < DROP, "between the two bounds"
    assert shaky[-1].turned and not shaky[-1].news
    back = run([*base, 0.895])
    assert not back[-1].turned and "again" in back[-1].news[0]


def test_a_class_that_the_teacher_gives_up_is_named_once() -> None:
    watch = Watch(NAMES[:3], plain)
    watch.steps.fill_(MEMORY)
    looks = []
    for number, share in enumerate(
        [0.04, 0.06, 0.0031, 0.0029, 0.001, 0.0, 0.0059, 0.0029, 0.0061, 0.0028], 1
    ):
        watch.counts = torch.diag(torch.tensor([0.94, 0.06 - share, share]))
        looks.append(watch.look(10 * number))
    faded = [seen.faded for seen in looks if seen is not None]
    news = [[words for words in seen.news if "hardly" in words] for seen in looks if seen is not None]
    car = [2 in each for each in faded]
    assert car == [False, False, False, True, True, True, True, True, False, True]
    assert [sum("car" in words for words in each) for each in news] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert "car (0.29% of the pixels after 6.00%)" in news[3][0]


def test_classes_that_are_absent_from_the_start_are_named_once() -> None:
    watch = Watch(NAMES[:4], plain)
    watch.steps.fill_(MEMORY)
    watch.counts = torch.diag(torch.tensor([0.9, 0.0999, 0.0, 0.00005]))
    first, second = watch.look(10), watch.look(20)
    assert first is not None and second is not None and not second.news and not first.faded
    assert len(first.news) == 1 and "as car, sign." in first.news[0]


def test_a_class_that_hardly_ever_was_there_is_not_missed() -> None:
    watch = Watch(NAMES[:2], plain)
    watch.steps.fill_(MEMORY)
    for share in (LEAST * 0.9, 0.0):
        watch.counts = torch.diag(torch.tensor([1 - share, share]))
        seen = watch.look(10)
        assert seen is not None and not seen.faded and not any("hardly" in words for words in seen.news)


def test_the_state_goes_on_after_a_restart() -> None:
    watch, other = Watch(NAMES[:2], plain), Watch(NAMES[:2], plain)
    watch.steps.fill_(MEMORY)
    watch.counts = torch.tensor([[0.9, 0.1], [0.0, 0.9]])
    watch.look(10)
    assert watch.keeps(10)
    watch.counts = torch.tensor([[0.5, 0.5], [0.0, 0.5]])
    assert not watch.keeps(20)
    other.load_state_dict(watch.state_dict())
    for number in range(11, 30):
        assert watch.look(10 * number) == other.look(10 * number)
    assert bool(other.turned) and int(other.kept_at) == 10
