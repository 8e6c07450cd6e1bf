"""The oracle itself, on cases whose answer is known in closed form."""

import numpy as np
import oracle
import oracle_scores
import pytest
from scipy.integrate import quad
from scipy.stats import norm

EXACT = 1e-9  # float64, well-conditioned formulas


def single(mean: float, sigma: float) -> oracle.Mixture:
    return np.array([1.0]), np.array([mean]), np.array([sigma**2])


def bank(means: np.ndarray, sigmas: np.ndarray) -> oracle.Mixture:
    """One Gaussian per entry of `means`."""
    return np.ones((*means.shape, 1)), means[..., None], sigmas[..., None] ** 2


@pytest.fixture
def gaussian_case(rng):
    """Three classes, one Gaussian per row and anchor: every shift is a straight line."""
    means, sigmas = rng.normal(size=(3, 3)), rng.uniform(0.5, 2, size=(3, 3))
    anchor_means, anchor_sigmas = np.array([4.0, -3.0]), np.array([1.5, 0.7])
    rows, anchors = bank(means, sigmas), bank(anchor_means, anchor_sigmas)
    return rows, anchors, np.ones(3, dtype=bool), means, sigmas, anchor_means, anchor_sigmas


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_one_component_is_the_normal_distribution():
    z = np.linspace(-3, 7, 50)
    assert oracle.pdf(single(2, 1.5), z) == pytest.approx(norm(2, 1.5).pdf(z), abs=EXACT)
    assert oracle.cdf(single(2, 1.5), z) == pytest.approx(norm(2, 1.5).cdf(z), abs=EXACT)


def test_density_is_the_slope_of_the_cdf(rng):
    row = oracle.at(oracle.random_statistics(rng, 2)[0], 0, 1)
    area, _ = quad(lambda z: float(oracle.pdf(row, z)), -3, 2)
    assert area == pytest.approx(oracle.cdf(row, 2) - oracle.cdf(row, -3), abs=1e-7)


def test_inverse_undoes_the_cdf(rng):
    rows, _, _ = oracle.random_statistics(rng, 3)
    p = np.linspace(0.001, 0.999, 101)
    for c in range(3):
        for l in range(3):
            row = oracle.at(rows, c, l)
            assert oracle.cdf(row, oracle.inverse_cdf(row, p)) == pytest.approx(p, abs=EXACT)


def test_em_finds_separated_clusters(rng):
    values = np.concatenate([rng.normal(-5, 0.5, 3000), rng.normal(5, 1.0, 1000)])
    mixture = np.array([0.5, 0.5]), np.array([-1.0, 1.0]), np.array([4.0, 4.0])
    for _ in range(30):
        mixture = oracle.em_step(values, None, mixture)
    low, high = values[:3000], values[3000:]
    assert mixture[0] == pytest.approx([0.75, 0.25], abs=1e-3)
    assert mixture[1] == pytest.approx([low.mean(), high.mean()], abs=1e-2)
    assert mixture[2] == pytest.approx([low.var(), high.var()], abs=5e-2)


def test_em_counts_are_repetitions_and_likelihood_never_falls(rng):
    values, counts = rng.normal(size=40), rng.integers(0, 5, size=40)
    mixture = np.array([0.3, 0.7]), np.array([-1.0, 0.5]), np.array([1.0, 2.0])
    last = -np.inf
    for _ in range(10):
        now = oracle.log_likelihood(values, counts, mixture)
        assert now >= last - EXACT
        last = now
        repeated = oracle.em_step(np.repeat(values, counts), None, mixture)
        mixture = oracle.em_step(values, counts, mixture)
        for a, b in zip(mixture, repeated, strict=True):
            assert a == pytest.approx(b, abs=EXACT)


def test_em_keeps_a_component_that_owns_nothing():
    start = np.array([1.0, 0.0]), np.array([0.0, 9.0]), np.array([1.0, 2.0])
    weights, means, variances = oracle.em_step(np.array([-1.0, 1.0]), None, start)
    assert weights == pytest.approx([1, 0]) and means == pytest.approx([0, 9])
    assert variances == pytest.approx([1, 2])


def test_em_respects_the_variance_floor():
    _, _, variances = oracle.em_step(np.array([3.0, 3.0]), None, single(0, 1), floor=0.01)
    assert variances == pytest.approx([0.01])


def test_momentum_grows_over_the_warm_up_and_forgets_when_unseen():
    assert oracle.momentum(0, 1) == 0
    assert oracle.momentum(750, 1) == pytest.approx(0.99 * 0.5)
    assert oracle.momentum(1500, 1) == oracle.momentum(9000, 1) == pytest.approx(0.99)
    assert oracle.momentum(9000, 7) == pytest.approx(0.99**7)


def test_blend_is_between_stored_and_fresh():
    weights, means, variances = oracle.blend(single(0, 1), single(4, 3), 0.75)
    assert (weights, means, variances) == (pytest.approx([1]), pytest.approx([1]), pytest.approx([3]))


def test_shift_between_gaussians_is_a_straight_line(gaussian_case):
    rows, anchors, seen, means, sigmas, anchor_means, anchor_sigmas = gaussian_case
    for c in range(3):
        for l in range(3):
            z = means[c, l] + sigmas[c, l] * np.linspace(-2, 2, 9)
            anchor = 0 if l == c else 1
            line = anchor_means[anchor] + (z - means[c, l]) / sigmas[c, l] * anchor_sigmas[anchor] - z
            assert oracle.delta(rows, anchors, seen, c, l, z) == pytest.approx(line, abs=EXACT)


def test_shift_is_constant_outside_the_clipped_quantiles(gaussian_case):
    rows, anchors, seen, means, sigmas, anchor_means, anchor_sigmas = gaussian_case
    quantile = norm.ppf(0.01)
    edge = means[1, 2] + sigmas[1, 2] * quantile
    expected = anchor_means[1] + anchor_sigmas[1] * quantile - edge
    z = np.array([edge - 100, edge - 1, edge])
    assert oracle.delta(rows, anchors, seen, 1, 2, z, eps=0.01) == pytest.approx([expected] * 3, abs=1e-7)


def test_unseen_rows_are_not_shifted(gaussian_case):
    rows, anchors, _, *_ = gaussian_case
    seen = np.array([True, False, True])
    shifts = oracle.delta_all(rows, anchors, seen, np.array([[0.3, -1.0, 2.0]]))
    assert (shifts[:, 1] == 0).all() and (shifts[:, [0, 2]] != 0).all()


def test_shift_vanishes_for_rows_that_match_their_anchors():
    rows, anchors, seen = oracle.random_statistics(np.random.default_rng(3), 3)
    for part, anchor in zip(rows, anchors, strict=True):
        part[:] = anchor[oracle.NEGATIVE]
        part[np.arange(3), np.arange(3)] = anchor[oracle.POSITIVE]
    f = np.random.default_rng(4).normal(size=(20, 3)) * 4
    assert oracle.delta_all(rows, anchors, seen, f) == pytest.approx(np.zeros((20, 3, 3)), abs=1e-6)


def test_scores_at_zero_strength_are_log_probabilities(gaussian_case, rng):
    rows, anchors, seen, *_ = gaussian_case
    f = rng.normal(size=(10, 3))
    softmax = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    assert np.exp(oracle.scores(rows, anchors, seen, f, 0.0)) == pytest.approx(softmax, abs=EXACT)


def test_scores_by_hand(gaussian_case):
    rows, anchors, seen, *_ = gaussian_case
    f = np.array([[0.2, 0.4, -0.1]])
    a = f[0] + 0.5 * oracle.delta_all(rows, anchors, seen, f)[0]  # [hypothesis, channel]
    by_hand = [a[c, c] - np.log(np.exp(a[c]).sum()) for c in range(3)]
    assert oracle.scores(rows, anchors, seen, f, 0.5)[0] == pytest.approx(by_hand, abs=EXACT)


def test_online_logits_subtract_the_shift_of_the_label(gaussian_case, rng):
    rows, anchors, seen, *_ = gaussian_case
    f, labels = rng.normal(size=(5, 3)), np.array([0, 1, 2, 1, 0])
    shifts = oracle.delta_all(rows, anchors, seen, f)
    expected = np.stack([f[p] - 0.1 * shifts[p, y] for p, y in enumerate(labels)])
    assert oracle.online_logits(rows, anchors, seen, f, labels, 0.1) == pytest.approx(expected, abs=EXACT)


def test_cross_entropy_averages_weighted_losses_over_pixels_that_count():
    f = np.zeros((4, 2))
    labels, weights = np.array([0, 1, 255, 0]), np.array([1.0, 0.5, 1.0, 0.0])
    assert oracle.cross_entropy(f, labels, weights) == pytest.approx(np.log(2) * 1.5 / 3)
    assert oracle.cross_entropy(f, np.full(4, 255)) == 0


def test_density_is_the_quantile_of_the_own_logit():
    rows = bank(np.array([[1.0, 0.0], [0.0, 5.0]]), np.ones((2, 2)))
    f = np.array([[1.0, 9.0], [9.0, 6.0]])
    assert oracle.density(rows, f, np.array([0, 1])) == pytest.approx([0.5, norm.cdf(1)])


def test_teacher_starts_as_a_copy_and_ends_slow():
    assert oracle.teacher_alpha(0) == 0
    assert oracle.teacher_alpha(9) == pytest.approx(0.9)
    assert oracle.teacher_alpha(10**6) == 0.999


def test_scores_of_a_confusion_matrix_by_hand():
    confusion = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert oracle_scores.iou(confusion) == pytest.approx([8 / 11, 3 / 6, np.nan], nan_ok=True)
    assert oracle_scores.accuracy(confusion) == pytest.approx([0.8, 0.75, np.nan], nan_ok=True)
    assert oracle_scores.bias(confusion) == pytest.approx([(0.8 + 0.25) / 2 - 0.5, (0.2 + 0.75) / 2 - 0.5, 0])


@pytest.mark.parametrize("confusion", [np.ones((4, 4)), np.diag([7, 1, 300])])
def test_even_confusion_and_perfect_prediction_have_no_bias(confusion):
    assert oracle_scores.bias(confusion) == pytest.approx(np.zeros(len(confusion)))


def test_predicting_one_class_always():
    confusion = np.zeros((4, 4))
    confusion[:, 2] = 10
    assert oracle_scores.bias(confusion) == pytest.approx([-0.25, -0.25, 0.75, -0.25])


def test_bias_without_labels_of_two_gaussians(rng):
    """Pr(z0 > z1) for independent normals is Phi(difference of means / root of summed variances)."""
    rows = bank(np.array([[1.0, 0.0], [0.5, 1.0]]), np.array([[1.0, 1.0], [2.0, 1.0]]))
    seen = np.array([True, True])
    shares = oracle_scores.argmax_shares(rows, seen, 200_000, rng)
    first = norm.cdf(1 / np.sqrt(2)), norm.cdf(-0.5 / np.sqrt(5))
    assert shares[:, 0] == pytest.approx(first, abs=5e-3)
    bias = oracle_scores.bias_without_labels(rows, seen, 200_000, rng)
    assert bias == pytest.approx([np.mean(first) - 0.5, 0.5 - np.mean(first)], abs=5e-3)


def test_shares_at_full_strength_are_those_of_the_anchors(gaussian_case, rng):
    """At tau = 1 each channel follows its anchor (but for the clipped tails)."""
    rows, anchors, seen, _, _, anchor_means, anchor_sigmas = gaussian_case
    shares = oracle_scores.argmax_shares(rows, seen, 100_000, rng, anchors, tau=1.0, eps=1e-4)
    own = [norm(*parameters) for parameters in zip(anchor_means, anchor_sigmas, strict=True)]
    right, _ = quad(lambda z: own[0].pdf(z) * own[1].cdf(z) ** 2, -10, 15)
    assert np.diag(shares) == pytest.approx([right] * 3, abs=1e-2)
