"""Several corrections in one graph: each says what a file of its own says, bit by bit, at no more cost."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx_segmenters import card, pictures, plain_segmenter, run, same_bytes, statistics

from adapt.errors import InputError
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import folded_statistics, graph_info, lineage, metadata_of, table_grid, unfold
from serve.card import MOST_PROFILES, Key
from serve.gathering.rule import Rule

ALL = Extras(scores=True, uncorrected_labels=True)
C = 3


def solo(seed: int, tau: float, runtime: bool = False, **more: object) -> Strength:
    return Strength(statistics(C, seed), f"statistics {seed}", tau, runtime, **more)


def together(*strengths: Strength) -> Strength:
    named = [replace(each, profile=f"p{n}") for n, each in enumerate(strengths)]
    return replace(named[0], others=tuple(named[1:]))


def folded(strength: Strength | None, size=None) -> onnx.ModelProto:
    return fold(plain_segmenter(C), card(C, size), strength, ALL)


@pytest.mark.parametrize("size", [None, (64, 96)])
def test_a_profile_says_what_a_file_of_its_own_says_bit_by_bit(size):
    """Of different strengths, error bounds and so numbers of bins, and with one that corrects nothing."""
    strengths = [solo(0, 0.2), solo(1, 1.0, error_bound=0.3), solo(2, 0.0), solo(0, 2.0)]
    assert len({each.table.bins for each in strengths if each.corrects}) > 1
    model, image = folded(together(*strengths), size), pictures(2, 64, 96)
    onnx.checker.check_model(model, full_check=True)
    seen = set()
    for number, strength in enumerate(strengths):
        alone, chosen = run(folded(strength, size), image), run(model, image, profile=number)
        for name in ("labels", "scores", "uncorrected_labels"):
            np.testing.assert_array_equal(chosen[name], alone[name])
        seen.add(chosen["labels"].tobytes())
    assert len(seen) == 4
    np.testing.assert_array_equal(run(model, image)["scores"], run(model, image, profile=0)["scores"])


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_with_a_run_time_tau_too(tau):
    strengths = [solo(0, 0.3, True), solo(1, 0.3, True, error_bound=0.004)]
    assert strengths[0].table.bins != strengths[1].table.bins
    model, image = folded(together(*strengths)), pictures(1, 70, 90)
    for number, strength in enumerate(strengths):
        alone = run(folded(strength), image, tau=tau)
        chosen = run(model, image, tau=tau, profile=number)
        np.testing.assert_array_equal(chosen["scores"], alone["scores"])
        np.testing.assert_array_equal(chosen["labels"], alone["labels"])


@pytest.mark.parametrize("runtime", [False, True])
def test_wide_exponents_too(runtime):
    """Logits so far apart that their exponentials are beyond float32."""
    strengths = []
    for seed in (0, 1):
        plain = statistics(C, seed)
        wide = replace(plain, rows=plain.rows._replace(means=20 * plain.rows.means))
        anchors = wide.anchors._replace(means=20 * wide.anchors.means)
        strengths.append(Strength(replace(wide, anchors=anchors), "wide", 1.0, runtime))
    model, image = folded(together(*strengths)), pictures(1, 64, 64)
    assert any(node.name.endswith("log_sums_of_all") for node in model.graph.node)
    for number, strength in enumerate(strengths):
        np.testing.assert_array_equal(
            run(model, image, profile=number)["scores"], run(folded(strength), image)["scores"]
        )


def test_profiles_that_correct_nothing_cost_nothing():
    model = folded(together(solo(0, 0.0), solo(1, 0.0)))
    assert "Log" not in {node.op_type for node in model.graph.node}
    image = pictures(1, 64, 64)
    out = run(model, image, profile=1)
    np.testing.assert_array_equal(out["labels"], run(folded(None), image)["labels"])


@pytest.mark.parametrize("runtime", [False, True])
def test_no_pixel_passes_more_operators_than_with_one_table(runtime):
    """What the choice adds depends on no pixel: all it touches are constants, tables and the two inputs."""
    one, two = folded(solo(0, 0.5, runtime)), folded(together(solo(0, 0.5, runtime), solo(1, 0.5, runtime)))

    def on_pixels(model: onnx.ModelProto) -> list[str]:
        reached, kinds = {"image"}, []
        for node in model.graph.node:
            if reached & set(node.input) and node.op_type != "Shape":
                reached |= set(node.output)
                kinds.append(node.op_type)
        return sorted(kinds)

    assert on_pixels(one) == on_pixels(two)


def test_what_is_stored_of_each():
    rules = [Rule(-10.0 - n, 0.1, (0.0,) * C, (n,) * C) for n in range(2)]
    strength = together(solo(0, 0.2, gather=rules[0], of="a"), solo(1, 0.4, gather=rules[1], of="b"))
    model = fold(plain_segmenter(C), card(C), strength, Extras(gather=rules[0]))
    info = graph_info(model, "m")
    assert [(each.name, each.correction.tau) for each in info.profiles] == [("p0", 0.2), ("p1", 0.4)]
    assert info.correction == info.profiles[0].correction and info.under(1).correction.tau == 0.4
    for number, each in enumerate(strength.profiles):
        stored = folded_statistics(model, number)
        assert torch.equal(stored.rows.means, each.statistics.rows.means)
        assert table_grid(model, number) == each.table.grid
        assert lineage(model, number).statistics_of == each.of
        alone = fold(plain_segmenter(C), card(C), replace(each, others=()), Extras(gather=rules[number]))
        own, whole = metadata_of(alone), metadata_of(model, number)
        assert {key: whole[key] for key in own} == own
    assert Key.PROFILES not in metadata_of(folded(solo(0, 0.2)))


def test_unfolding_gives_the_network_back_to_the_byte_whatever_its_names():
    bare = plain_segmenter(C, names=("profile", "labels"))
    for runtime in (False, True):
        model = fold(bare, card(C), together(solo(0, 0.2, runtime), solo(1, 0.2, runtime)), ALL)
        onnx.checker.check_model(model, full_check=True)
        assert same_bytes(unfold(model), bare)
    again = fold(model, card(C), solo(1, 0.2), ALL)
    assert same_bytes(again, fold(bare, card(C), solo(1, 0.2), ALL))


def test_an_older_files_own_weight_of_that_name_is_no_default_of_ours():
    model = folded(solo(0, 0.2))
    tensor = onnx.numpy_helper.from_array(np.ones(1, np.float32), "profile")
    model.graph.initializer.append(tensor)
    assert "profile" in {t.name for t in unfold(model).graph.initializer}


def test_a_number_that_no_profile_has_is_an_error_and_no_wrong_label():
    model = folded(together(solo(0, 0.2), solo(1, 0.2)))
    with pytest.raises(Exception, match=r"indices element out of data bounds"):
        run(model, pictures(1, 64, 64), profile=2)


def test_what_can_not_be_in_one_graph_is_refused():
    leaving = replace(statistics(C, 1), excluded=torch.arange(C) == 2)
    for strengths, words in (
        ([solo(0, 0.2)] * (MOST_PROFILES + 1), "9 profiles were given, but a file holds 8 at most"),
        (
            [solo(0, 0.2), Strength(leaving, "", 0.2)],
            "p0 and p1 leave out different classes.*--leave",
        ),
        ([solo(0, 0.2, True), solo(1, 0.4, True)], "p0 has tau 0.2 and p1 0.4; give one with --tau"),
    ):
        with pytest.raises(InputError, match=words):
            folded(together(*strengths))
    most = folded(together(*[solo(0, 0.2)] * MOST_PROFILES))
    assert len(graph_info(most, "m").profiles) == MOST_PROFILES
