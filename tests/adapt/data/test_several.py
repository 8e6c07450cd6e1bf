"""Several sources and targets: each is drawn from as often as its weight says."""

from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from refusals import expect_refusal

from adapt.augmentation.draws import Draws, part_shares, weighted_totals
from adapt.cli import main
from adapt.config.settings import Config, Data, load_config
from adapt.config.weights import split_weights
from adapt.data.domains import find_classes, open_source
from adapt.errors import InputError
from adapt.run.run import load_run

COLOURS = ("[90, 60, 30]", "[80, 160, 240]", "[200, 30, 30]")


def own(root: Path, values: list[int], names: list[str], pictures: int = 2) -> Path:
    """images/, labels/ and a class file with these ids and names."""
    for i in range(pictures):
        trees.picture(root / "images" / f"{root.name}{i}.png", i)
        trees.write(root / "labels" / f"{root.name}{i}.png", trees.blocks(values, i).astype(np.uint8))
    lines = [
        f"  - {{id: {v}, name: {n}, color: {c}}}" for v, n, c in zip(values, names, COLOURS, strict=False)
    ]
    (root / "classes.yaml").write_text("\n".join(["classes:", *lines]) + "\n")
    return root


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    """Two sources that call the same classes by other ids."""
    return own(tmp_path / "a", [0, 1], ["road", "sky"], 3), own(tmp_path / "b", [7, 9], ["sky", "road"], 2)


def train(out: Path, *arguments: object, iterations: int = 1) -> Result:
    settings = (*tiny.SETTINGS, f"training.iterations={iterations}")
    words = ["train", "-o", out, *arguments, *(w for s in settings for w in ("--set", s))]
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_weight_is_taken_off_a_path_and_a_name_with_an_equals_sign_stays(tmp_path):
    odd = tmp_path / "x=0.5"
    odd.mkdir()
    paths, weights = split_weights([odd, f"{tmp_path}=0.3", "a=b"], "--source")
    assert paths == (odd, tmp_path, Path("a=b")) and weights == (None, 0.3, None)
    assert split_weights(["a", "b"], "--source") == ((Path("a"), Path("b")), ())
    with pytest.raises(InputError, match="number above 0"):
        split_weights(["a=0"], "--source")


@pytest.mark.parametrize(
    ("weights", "words"),
    [([0.5], "1 weights for 2"), ([0.5, -1], "number above 0"), ([1.2, None], "sum to 1.2")],
)
def test_weights_that_fit_no_sources_are_refused(weights, words):
    with pytest.raises(InputError, match=words):
        load_config(overrides={"data": {"source": ["a", "b"], "source_weights": weights}})
    with pytest.raises(InputError, match="only source"):
        load_config(overrides={"data": {"source": "a", "source_weights": [1.0]}})


@pytest.mark.parametrize(
    ("weights", "sizes", "shares"),
    [((), [30, 10], [0.75, 0.25]), ((None, 0.3), [30, 10], [0.7, 0.3]), ((2.0, 6.0), [1, 1], [0.25, 0.75])],
)
def test_shares_of_weights(weights, sizes, shares):
    assert part_shares(weights, sizes).tolist() == pytest.approx(shares)
    assert part_shares((None, None, 0.5), [30, 10, 1]).tolist() == pytest.approx([0.375, 0.125, 0.5])


def test_draws_follow_the_shares_and_are_even_within_a_part():
    part_of = np.repeat([0, 1], [3, 50])
    draws = Draws(np.arange(53), part_of, np.array([0.7, 0.3]))
    rng = np.random.default_rng(0)
    found = np.bincount([draws.draw(rng) for _ in range(20_000)], minlength=53)
    assert found[:3] / 20_000 == pytest.approx([0.7 / 3] * 3, abs=0.015)
    assert found[3:].min() > 60  # 120 expected
    # of a class that only one part has, all draws are from there
    only = Draws(np.array([5, 9]), part_of, np.array([0.7, 0.3]))
    assert {only.draw(rng) for _ in range(50)} == {5, 9}


def test_one_data_set_is_drawn_with_the_numbers_of_before():
    """Runs with one source must stay what they were, bit by bit."""
    one, other = np.random.default_rng([3, 1]), np.random.default_rng([3, 1])
    draws, some = (Draws(np.array(i), np.zeros(40, int), None) for i in (np.arange(40), [3, 7, 39]))
    for _ in range(200):
        assert draws.draw(one) == int(other.integers(40))
        assert some.draw(one) == int(other.choice(np.array([3, 7, 39])))
    assert one.bit_generator.state == other.bit_generator.state


def test_class_frequencies_are_those_of_the_draws():
    pixels = np.array([[90, 10], [90, 10], [0, 50]])
    part_of = np.array([0, 0, 1])
    assert weighted_totals(pixels, part_of, None).tolist() == [180, 70]
    assert weighted_totals(pixels, part_of, np.array([0.5, 0.5])).tolist() == pytest.approx([0.45, 0.55])


def test_several_sources_are_read_by_the_names_of_their_classes(sources):
    a, b = sources
    data = Data(source=(a, b))
    classes = find_classes(a, None)
    source = open_source(data, classes)
    assert source.sizes == [3, 2] and source.names[2:4] == ["a2", "b0"]
    labels = source[3].labels
    raw = trees.blocks([7, 9], 0)
    assert ((labels == 1) == (raw == 7)).all() and ((labels == 0) == (raw == 9)).all()
    (a / "map.yaml").write_text("0: road\n1: sky\n")
    with pytest.raises(InputError, match=r"label_map\.yaml"):
        open_source(data.model_copy(update={"label_map": a / "map.yaml"}), classes)


def test_a_run_says_and_keeps_from_what_it_is_drawn(sources, tmp_path):
    a, b = sources
    night, rain = (trees.picture(tmp_path / name / "x.png").parent for name in ("night", "rain"))
    given = ("--source", a, "--source", f"{b}=0.3", "--target", f"{night}=3", "--target", f"{rain}=1")
    result = train(tmp_path / "run", *given, iterations=2)
    assert result.exit_code == 0, result.output
    assert f"source, drawn from: {a} 70 % (3 pictures), {b} 30 % (2 pictures)" in result.output
    assert f"target, drawn from: {night} 75 % (1 pictures), {rain} 25 % (1 pictures)" in result.output
    data = load_run(tmp_path / "run").config.data
    assert data.source == (a, b) and data.source_weights == (None, 0.3)
    assert data.target == (night, rain) and data.target_weights == (3.0, 1.0)
    expect_refusal(train(tmp_path / "x", "--source", f"{a}=0.3", "--target", night), "only source")


def test_an_older_run_s_single_source_is_still_read():
    assert Config.model_validate({"data": {"source": "/data/gta5", "target": []}}).data.source == (
        Path("/data/gta5"),
    )
    assert Config.model_validate({"data": {"source": None}}).data.source == ()
