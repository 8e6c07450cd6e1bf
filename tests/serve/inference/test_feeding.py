"""A model that holds several corrections: the one that is asked for runs, and says what it is."""

from pathlib import Path

import numpy as np
import pytest
from serve_graphs import halves, write_graph

from serve import Segmenter
from serve.errors import InputError

PROFILES = {"day": 0.0, "night": 0.25, "rain": 1.0}
"""By strength: red and green stay, blue is favoured by 100 and by 400."""
BLUE = 2


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("profiles") / "model.onnx", extras=True, profiles=PROFILES)


def share_of_blue(segmenter: Segmenter) -> float:
    picture = halves()
    picture[:24] //= 4
    return float((segmenter(picture).labels == BLUE).mean())


def test_the_profile_that_is_asked_for_runs(graph: Path) -> None:
    shares = {name: share_of_blue(Segmenter(graph, profile=name)) for name in PROFILES}
    assert shares["day"] == 0 and 0.2 < shares["night"] < 0.5 and shares["rain"] == 1
    assert share_of_blue(Segmenter(graph)) == shares["day"]


def test_it_says_which_one_it_is(graph: Path) -> None:
    segmenter = Segmenter(graph, profile="night")
    assert segmenter.profiles == tuple(PROFILES) and segmenter.profile == "night"
    assert segmenter.correction is not None and segmenter.correction.tau == 0.25
    assert segmenter.metadata["blda.correction"] == segmenter.runtime.metadata["blda.correction.1"]
    assert Segmenter(graph).profile == "day"


def test_another_one_of_the_same_open_graph(graph: Path) -> None:
    segmenter = Segmenter(graph)
    other = segmenter.under("rain")
    assert other.runtime is segmenter.runtime and other.profile == "rain" and segmenter.profile == "day"
    assert share_of_blue(other) == 1 and share_of_blue(segmenter) == 0
    batch = np.stack([halves(), halves()])
    assert (other(batch).labels == BLUE).all() and not (segmenter(batch).labels == BLUE).any()


def test_in_tiles_too(graph: Path) -> None:
    tiled = Segmenter(graph, tile=96, profile="rain")
    assert (tiled(halves(200, 300)).labels == BLUE).all()


def test_a_profile_that_is_not_there(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--profile fog is not in .*; choose one of day, night, rain\."):
        Segmenter(graph, profile="fog")
    plain = write_graph(tmp_path / "plain.onnx")
    with pytest.raises(InputError, match="which has no profiles; leave it out"):
        Segmenter(plain, profile="day")
    assert Segmenter(plain).profiles == () and Segmenter(plain).profile == ""


def test_with_a_run_time_tau(tmp_path: Path) -> None:
    """Both are given, and only what differs from the defaults."""
    graph = write_graph(tmp_path / "m.onnx", runtime_tau=True, profiles=PROFILES)
    segmenter = Segmenter(graph, profile="night")
    assert {name: value.item() for name, value in segmenter._chosen.feed(0.5).items()} == {
        "tau": 0.5,
        "profile": 1,
    }
    assert Segmenter(graph)._chosen.feed(None) == {}
