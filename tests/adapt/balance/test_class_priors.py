"""Losses that know shares of classes, against their slow twins; and what must hold whatever the numbers."""

import prior_oracle
import pytest
import torch

from adapt.balance.class_priors import SOURCE, TARGET, ClassPriors, ClassShares, new_priors
from adapt.balance.losses import corrected_cross_entropy
from adapt.config.method import Method
from adapt.data.classes import IGNORE

ADJUSTED, WEIGHTED = Method(balance="logit-adjustment"), Method(balance="class-balanced")
PIXELS = 4096
KNOWN = [0.7, 0.25, 0.0499, 0.0001]
"""Of four classes, the last of which has less than a pixel of a crop."""
OTHER = [0.05, 0.15, 0.0, 0.8]


def priors(method: Method, source: list[float] = KNOWN, target: list[float] | None = OTHER) -> ClassPriors:
    made = new_priors(method, 4, (64, 64), torch.device("cpu"), lambda counts: counts)
    assert made is not None
    made.shares.shares[SOURCE] = torch.tensor(source)
    made.shares.batches[SOURCE] = 1
    if target is not None:
        made.shares.shares[TARGET] = torch.tensor(target)
        made.shares.batches[TARGET] = 1
    return made


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels, pixels of the target, weights."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 6, 5, generator=generator) * 3
    labels = torch.randint(0, 4, (2, 6, 5), generator=generator)
    labels[0, 0] = IGNORE
    from_target = torch.rand(2, 6, 5, generator=generator) > 0.5
    return logits, labels, from_target, torch.rand(2, 6, 5, generator=generator)


def loss_of(made: ClassPriors, seed: int = 0) -> float:
    logits, labels, from_target, weights = drawn(seed)
    weights = made.weigh(weights, labels, from_target)
    return float(corrected_cross_entropy(logits, labels, weights=weights, offsets=made.offsets(from_target)))


@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.99])
def test_running_shares_match_their_twin(momentum: float) -> None:
    batches = [[5, 0, 3], [0, 0, 0], [1, 1, 98], [10, 20, 30], [7, 0, 0], [2**25, 1, 2**25]]
    shares = ClassShares(3, momentum)
    for counts in batches:
        shares.update(TARGET, torch.tensor(counts))
    want = torch.tensor(prior_oracle.running_shares(batches, momentum))
    torch.testing.assert_close(shares.shares[TARGET], want, atol=1e-6, rtol=0)
    assert shares.batches.tolist() == [0, 5] and not shares.shares[SOURCE].any()


def test_labels_are_counted_exactly_and_summed_over_the_ranks() -> None:
    shares = ClassShares(3, 0.9)
    made = ClassPriors(shares, ADJUSTED, PIXELS, lambda counts: counts + torch.tensor([0, 0, 6]))
    labels = torch.tensor([[[0, 0, IGNORE], [2, 0, IGNORE]]])
    made.take(SOURCE, labels)
    torch.testing.assert_close(shares.shares[SOURCE], torch.tensor([3.0, 0.0, 7.0]) / 10)
    made = ClassPriors(shares, ADJUSTED, PIXELS, lambda counts: counts)
    made.take(SOURCE, torch.full((1, 2, 2), IGNORE))
    torch.testing.assert_close(shares.shares[SOURCE], torch.tensor([3.0, 0.0, 7.0]) / 10)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_adjusted_loss_matches_its_twin(strength: float) -> None:
    logits, labels, from_target, weights = drawn()
    made = priors(ADJUSTED.model_copy(update={"adjustment_tau": strength}))
    total = 0.0
    for place in (labels != IGNORE).nonzero().tolist():
        n, y, x = place
        shares = OTHER if from_target[n, y, x] else KNOWN
        own = logits[n, :, y, x].double().numpy()
        loss = prior_oracle.adjusted_loss(own, int(labels[n, y, x]), shares, PIXELS, strength)
        total += float(weights[n, y, x]) * loss
    assert loss_of(made) == pytest.approx(total / int((labels != IGNORE).sum()), rel=1e-5)


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.9999])
def test_class_balanced_weights_match_their_twin(beta: float) -> None:
    _, labels, from_target, weights = drawn()
    made = priors(WEIGHTED.model_copy(update={"effective_beta": beta}))
    assert made.offsets(from_target) is None
    got = made.weigh(weights, labels, from_target)
    assert got is not None
    for n, y, x in (labels != IGNORE).nonzero().tolist():
        shares = OTHER if from_target[n, y, x] else KNOWN
        want = prior_oracle.class_weight(int(labels[n, y, x]), shares, PIXELS, beta)
        assert float(got[n, y, x]) == pytest.approx(float(weights[n, y, x]) * want, rel=1e-4)


@pytest.mark.parametrize("method", [ADJUSTED, WEIGHTED])
def test_equal_shares_change_nothing(method: Method) -> None:
    even = [0.25] * 4
    logits, labels, _, weights = drawn()
    plain = float(corrected_cross_entropy(logits, labels, weights=weights))
    assert loss_of(priors(method, even, even)) == pytest.approx(plain, rel=1e-5)
    assert loss_of(priors(method)) != pytest.approx(plain, rel=1e-2)


@pytest.mark.parametrize("method", [ADJUSTED, WEIGHTED])
def test_a_domain_without_labels_so_far_is_left_alone(method: Method) -> None:
    logits, labels, _, weights = drawn()
    made, everywhere = priors(method, KNOWN, None), torch.ones_like(labels, dtype=torch.bool)
    plain = corrected_cross_entropy(logits, labels, weights=weights)
    own = made.weigh(weights, labels, everywhere)
    got = corrected_cross_entropy(logits, labels, weights=own, offsets=made.offsets(everywhere))
    assert torch.equal(got, plain)


@pytest.mark.parametrize("method", [ADJUSTED, WEIGHTED])
def test_classes_in_another_order_give_the_same_loss(method: Method) -> None:
    order = torch.tensor([2, 0, 3, 1])
    logits, labels, from_target, weights = drawn()
    made, turned = priors(method), priors(method)
    turned.shares.shares.copy_(made.shares.shares[:, order])
    renamed = torch.where(labels == IGNORE, IGNORE, order.argsort()[labels.clamp_max(3)])
    losses = [
        corrected_cross_entropy(
            f, y, weights=p.weigh(weights, y, from_target), offsets=p.offsets(from_target)
        )
        for p, f, y in ((made, logits, labels), (turned, logits[:, order], renamed))
    ]
    torch.testing.assert_close(*losses)


def test_rare_classes_pull_harder() -> None:
    """Adjusted: a rare class's pixel costs more. Weighted: up to 1 / (1 - beta) times as much."""
    logits = torch.zeros(1, 4, 1, 4)
    labels = torch.arange(4).view(1, 1, 4)
    adjusted, weighted = priors(ADJUSTED).offsets(None), priors(WEIGHTED).weigh(None, labels, None)
    assert adjusted is not None and weighted is not None
    costs = torch.nn.functional.cross_entropy(logits + adjusted, labels, reduction="none").flatten()
    for each in (costs, weighted.flatten()):
        assert each.diff().gt(0).all()
    assert float(weighted.max() / weighted.min()) < 1000


@pytest.mark.parametrize("balance", ["off", "posthoc", "online"])
def test_other_balances_have_no_priors(balance: str) -> None:
    assert new_priors(Method(balance=balance), 4, (64, 64), torch.device("cpu"), lambda x: x) is None
