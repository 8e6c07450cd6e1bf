"""What counts as damage, once, and the words for it."""

from fractions import Fraction

from serve.media.video.damage import Damage, DamageCount


def count(times: list[float], *, signs: tuple[int, ...] = (), flawed: tuple[int, ...] = ()) -> DamageCount:
    counted = DamageCount(Fraction(1))
    for number, time in enumerate(times):
        if number in signs:
            counted.sign()
        counted.frame(Fraction(time), wanted=True, flawed=number in flawed)
    return counted


def test_a_gap_counts_only_after_another_sign_of_damage() -> None:
    times = [*range(20), *range(25, 40)]
    assert not count(times).total()
    assert count(times, signs=(19,)).total() == Damage(lost=5)
    assert count(times, signs=(30,)).total() == Damage(lost=5)  # a decoder may complain later
    assert not count([*times, *range(40, 200)], signs=(80,)).total()
    assert count(times, flawed=(20,)).total() == Damage(lost=5, flawed=1)


def test_a_sign_is_forgotten_after_a_while_and_at_a_joint() -> None:
    long = [*range(300), *range(310, 320)]
    assert not count(long, signs=(3,)).total() and count(long, signs=(200,)).total().lost == 10
    counted = count(list(range(20)), signs=(19,))
    counted.joint()
    counted.frame(Fraction(25), wanted=True, flawed=False)
    assert not counted.total()


def test_uneven_times_are_no_gaps() -> None:
    """Three or four quarters of a second, in turn, where the average said one."""
    times = [Fraction(n // 2 * 7 + n % 2 * 3, 4) for n in range(40)]
    assert not count([float(t) for t in times], signs=(5, 15, 25)).total()


def test_what_counts_twice_is_counted_once() -> None:
    counted = count(list(range(10)))
    for _ in range(13):
        counted.packet()
    for _ in range(5):
        counted.failed()
    counted.frame(Fraction(13), wanted=True, flawed=False)
    assert counted.total() == Damage(lost=3)


def test_the_words() -> None:
    assert str(Damage()) == "" and not Damage()
    assert (
        str(Damage(lost=1, flawed=2)) == "damaged: 1 frame could not be decoded, 2 frames decoded with errors"
    )
    assert all(Damage(*(n == i for n in range(4))) for i in range(4))
