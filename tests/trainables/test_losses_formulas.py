"""Every loss against the plain formula of its paper, on probabilities, in float64."""

import math

import pytest
import torch

from trainables import losses
from trainables.losses import conformance


def one_hot(y, classes):
    return torch.nn.functional.one_hot(y, classes).double()


def p_of(a, y):
    return a.gather(-1, y[..., None]).squeeze(-1)


def focal_of(a, gamma):
    return -((1 - a) ** gamma) * a.log()


def t_nce(a, y):
    return p_of(a, y).log() / a.log().sum(-1)


def t_nfl(a, y, gamma):
    return p_of(focal_of(a, gamma), y) / focal_of(a, gamma).sum(-1)


def t_agce(a, y, s, q):
    return ((s + 1) ** q - (s + p_of(a, y)) ** q) / q


def t_aul(a, y, s, q):
    return ((s - p_of(a, y)) ** q - (s - 1) ** q) / q


def t_nnce(a, y, p_min):
    above = a.clamp_min(p_min).log() - math.log(p_min)
    return 1 - p_of(above, y) / above.sum(-1)


def t_nnfl(a, y, gamma, p_min):
    largest = -((1 - p_min) ** gamma) * math.log(p_min)
    below = largest - focal_of(a.clamp_min(p_min), gamma)
    return 1 - p_of(below, y) / below.sum(-1)


def t_js(a, y, weight):
    e = one_hot(y, a.shape[-1])
    m = weight * e + (1 - weight) * a
    kl_e = -p_of(m, y).log()
    kl_a = (a * (a / m).log()).sum(-1)
    return (weight * kl_e + (1 - weight) * kl_a) / (-(1 - weight) * math.log(1 - weight))


def t_phuber(a, y, tau):
    p = p_of(a, y)
    return torch.where(p > 1 / tau, -p.log(), -tau * p + math.log(tau) + 1)


def t_truncated(a, y, q, k):
    p = p_of(a, y)
    return torch.where(p > k, (1 - p**q) / q, torch.full_like(p, (1 - k**q) / q))


def t_eps(a, y, m, p_min):
    top = one_hot(a.argmax(-1), a.shape[-1])
    return -p_of(((a + m * top) / (m + 1)).clamp_min(p_min), y).log()


def t_unhinged(a, y):
    return a.log().mean(-1) - p_of(a, y).log()


TEXTBOOK = {
    "ce": lambda a, y: -p_of(a, y).log(),
    "label_smoothing": lambda a, y, smoothing: (
        -(((1 - smoothing) * one_hot(y, a.shape[-1]) + smoothing / a.shape[-1]) * a.log()).sum(-1)
    ),
    "focal": lambda a, y, gamma, modulator_gradient: focal_of(p_of(a, y), gamma),
    "mae": lambda a, y, scale: scale * 0.5 * (a - one_hot(y, a.shape[-1])).abs().sum(-1),
    "rce": lambda a, y, log_zero: -(a * log_zero * (1 - one_hot(y, a.shape[-1]))).sum(-1),
    "sce": lambda a, y, alpha, beta, log_zero: (
        -alpha * p_of(a, y).log() - beta * log_zero * (1 - p_of(a, y))
    ),
    "gce": lambda a, y, q: (1 - p_of(a, y) ** q) / q,
    "truncated_gce": t_truncated,
    "js": t_js,
    "unhinged": t_unhinged,
    "alpha_mae": lambda a, y, alpha: alpha * (1 - p_of(a, y)) + (1 - alpha) * t_unhinged(a, y),
    "sgce": lambda a, y, q: (1 - p_of(a, y) ** q) / q - ((1 - a**q) / q).mean(-1),
    "taylor_ce": lambda a, y, order: sum(
        min(1.0, order - i + 1) * (1 - p_of(a, y)) ** i / i for i in range(1, math.ceil(order) + 1)
    ),
    "phuber_ce": t_phuber,
    "bounded_ce": lambda a, y: torch.tanh(-p_of(a, y).log()),
    "agce": lambda z, y, a, q: t_agce(z, y, a, q),
    "aul": lambda z, y, a, q: t_aul(z, y, a, q),
    "ael": lambda z, y, a: (-p_of(z, y) / a).exp(),
    "nce": t_nce,
    "nfl": lambda a, y, gamma, modulator_gradient: t_nfl(a, y, gamma),
    "nnce": t_nnce,
    "nnfl": lambda a, y, gamma, p_min, modulator_gradient: t_nnfl(a, y, gamma, p_min),
    "nce_mae": lambda a, y, alpha, beta: alpha * t_nce(a, y) + beta * (1 - p_of(a, y)),
    "nce_rce": lambda a, y, alpha, beta, log_zero: (
        alpha * t_nce(a, y) - beta * log_zero * (1 - p_of(a, y))
    ),
    "nfl_mae": lambda a, y, alpha, beta, gamma, modulator_gradient: (
        alpha * t_nfl(a, y, gamma) + beta * (1 - p_of(a, y))
    ),
    "nfl_rce": lambda a, y, alpha, beta, gamma, log_zero, modulator_gradient: (
        alpha * t_nfl(a, y, gamma) - beta * log_zero * (1 - p_of(a, y))
    ),
    "nce_agce": lambda z, y, alpha, beta, a, q: alpha * t_nce(z, y) + beta * t_agce(z, y, a, q),
    "nce_aul": lambda z, y, alpha, beta, a, q: alpha * t_nce(z, y) + beta * t_aul(z, y, a, q),
    "nce_ael": lambda z, y, alpha, beta, a: alpha * t_nce(z, y) + beta * (-p_of(z, y) / a).exp(),
    "nce_amse": lambda z, y, alpha, beta, a: (
        alpha * t_nce(z, y) + beta * ((z - a * one_hot(y, z.shape[-1])) ** 2).mean(-1)
    ),
    "anl_ce": lambda a, y, alpha, beta, p_min: alpha * t_nce(a, y) + beta * t_nnce(a, y, p_min),
    "anl_fl": lambda a, y, alpha, beta, gamma, p_min, modulator_gradient: (
        alpha * t_nfl(a, y, gamma) + beta * t_nnfl(a, y, gamma, p_min)
    ),
    "eps_softmax": t_eps,
    "eps_softmax_mae": lambda a, y, alpha, beta, m, p_min: (
        alpha * t_eps(a, y, m, p_min) + beta * (1 - p_of(a, y))
    ),
}

ON_LOGITS = {"bi_tempered", "logit_clip", "ldr_kl"}  # not functions of the softmax; below


@pytest.mark.parametrize("name", sorted(set(losses.names()) - ON_LOGITS))
def test_agrees_with_the_plain_formula(name):
    for seed in range(5):
        conformance.check_textbook(losses.get(name), TEXTBOOK[name], seed)


def agree(name, formula, tolerance=1e-9):
    """Values and gradients of a formula on logits, at five random draws."""
    loss = losses.get(name)
    for seed in range(5):
        z, y, params = conformance.draw(loss, seed, 12, 9)
        params |= loss.exact
        z.requires_grad_()
        values, expected = loss.function(z, y, **params), formula(z, y, **params)
        torch.testing.assert_close(values, expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            torch.autograd.grad(values.sum(), z)[0],
            torch.autograd.grad(expected.sum(), z)[0],
            rtol=tolerance,
            atol=tolerance,
        )


def test_logit_clip():
    def formula(z, y, delta, threshold_ratio):
        norm = (z**2).sum(-1, keepdim=True).sqrt()
        z = torch.where(norm > delta * threshold_ratio, z * delta / norm, z)
        return -p_of(z.softmax(-1), y).log()

    agree("logit_clip", formula)


def test_ldr_kl():
    def formula(z, y, temperature, margin):
        s = (1 + z.exp()).log()
        s = s / s.mean(-1, keepdim=True)
        gap = s - s.gather(-1, y[:, None]) + margin * (1 - one_hot(y, z.shape[-1]))
        return temperature * (gap / temperature).exp().mean(-1).log()

    agree("ldr_kl", formula)


def test_bi_tempered():
    """Autograd through a bisection-free definition: p solves Σ exp_t2(z − λ) = 1."""

    def exp_t(x, t):
        return (1 + (1 - t) * x).clamp_min(0) ** (1 / (1 - t))

    def formula(z, y, t1, t2, iterations):
        # Newton's steps on Σ exp_t2(z − λ) = 1, differentiated by autograd all the way.
        normaliser = z.max(-1, keepdim=True).values
        for _ in range(60):
            p = exp_t(z - normaliser, t2)
            normaliser = normaliser + (p.sum(-1, keepdim=True) - 1) / (p**t2).sum(-1, keepdim=True)
        p = exp_t(z - normaliser, t2)
        log_t1 = (p_of(p, y) ** (1 - t1) - 1) / (1 - t1)
        return -log_t1 - (1 - (p ** (2 - t1)).sum(-1)) / (2 - t1)

    agree("bi_tempered", formula, tolerance=1e-8)


def test_bi_tempered_with_t2_one_is_on_softmax():
    z, y, _ = conformance.draw(losses.get("ce"), 0, 6, 5)
    p = z.softmax(-1)
    expected = (1 - p_of(p, y) ** 0.5) / 0.5 - (1 - (p**1.5).sum(-1)) / 1.5
    torch.testing.assert_close(losses.bi_tempered(z, y, t1=0.5, t2=1.0), expected)
    members = torch.tensor([1.0, 1.3], dtype=torch.float64)
    both = losses.bi_tempered(z.expand(2, -1, -1), y, t1=0.5, t2=members)
    torch.testing.assert_close(both[0], expected)


def test_bi_tempered_reference_values():
    """Tempered softmax of google/bi-tempered-loss's own test (t = 4)."""
    z = torch.tensor([[-0.5, 0.1, 2.0], [0.1, 1.5, -5.0], [4.0, -3.0, -6.0]], dtype=torch.float64)
    expected = torch.tensor(
        [
            [0.3205458, 0.32714278, 0.3523402],
            [0.3430056, 0.36491093, 0.29220778],
            [0.41369352, 0.30534995, 0.28299212],
        ],
        dtype=torch.float64,
    )
    values = losses.log_tempered_softmax(z, 4.0).exp()
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-7)


HAND = torch.tensor([math.log(0.5), math.log(0.3), math.log(0.2)], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("ce", {}, -math.log(0.5)),
        ("mae", {}, 0.5),
        ("mae", {"scale": 2.0}, 1.0),
        ("rce", {}, 2.0),
        ("sce", {"alpha": 6.0, "beta": 0.1}, 6 * math.log(2) + 0.2),
        ("gce", {"q": 0.5}, 2 * (1 - math.sqrt(0.5))),
        ("truncated_gce", {"q": 0.5, "k": 0.75}, 2 * (1 - math.sqrt(0.75))),
        ("taylor_ce", {"order": 2.0}, 0.5 + 0.125),
        ("phuber_ce", {"tau": 1.5}, 1 + math.log(1.5) - 0.75),
        ("bounded_ce", {}, (1 - 0.25) / (1 + 0.25)),
        ("focal", {"gamma": 2.0}, 0.25 * math.log(2)),
        ("agce", {"a": 1.0, "q": 2.0}, (4 - 2.25) / 2),
        ("aul", {"a": 2.0, "q": 2.0}, (2.25 - 1) / 2),
        ("ael", {"a": 1.0}, math.exp(-0.5)),
        ("nce", {}, math.log(0.5) / math.log(0.03)),
        (
            "nce_amse",
            {"alpha": 2.0, "beta": 3.0, "a": 4.0},
            2 * math.log(0.5) / math.log(0.03) + (3.5**2 + 0.3**2 + 0.2**2),
        ),
        ("unhinged", {}, math.log(0.03) / 3 - math.log(0.5)),
        ("eps_softmax", {"m": 1.0}, -math.log(0.75)),
    ],
)
def test_hand_computed_constants(name, params, expected):
    value = losses.get(name).function(HAND[None], torch.tensor([0]), **params)
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_limits_between_losses():
    z, y, _ = conformance.draw(losses.get("ce"), 3, 8, 6)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(losses.gce(z, y, q=1e-6), losses.ce(z, y), **close)
    torch.testing.assert_close(losses.gce(z, y, q=1.0), losses.mae(z, y))
    torch.testing.assert_close(losses.taylor_ce(z, y, order=1.0), losses.mae(z, y))
    torch.testing.assert_close(losses.sgce(z, y, q=1e-6), losses.unhinged(z, y), **close)
    torch.testing.assert_close(losses.sgce(z, y, q=1.0), losses.mae(z, y) - 1 + 1 / 6)
    torch.testing.assert_close(losses.js(z, y, weight=1e-4), losses.ce(z, y), rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(losses.js(z, y, weight=0.9999), losses.mae(z, y), rtol=0.2, atol=0.2)
    torch.testing.assert_close(losses.focal(z, y, gamma=0.0), losses.ce(z, y))
    torch.testing.assert_close(losses.label_smoothing(z, y, smoothing=0.0), losses.ce(z, y))


def test_detached_modulator_changes_the_gradient_alone():
    """The field's repositories treat (1 − p)^γ as a weight: same values, other gradients."""
    z, y, _ = conformance.draw(losses.get("nfl"), 5, 8, 6)
    for function in (losses.focal, losses.nfl, losses.nnfl):
        leaf = z.clone().requires_grad_()
        true, detached = (function(leaf, y, modulator_gradient=g) for g in (1.0, 0.0))
        torch.testing.assert_close(true, detached)
        gradients = [torch.autograd.grad(v.sum(), leaf)[0] for v in (true, detached)]
        assert not torch.allclose(*gradients, rtol=1e-3)
    leaf = z.clone().requires_grad_()
    log_a = leaf.log_softmax(-1)
    weight = ((1 - log_a.exp()) ** 0.5).detach()
    expected = p_of(-weight * log_a, y) / (-weight * log_a).sum(-1)
    values = losses.nfl(leaf, y, modulator_gradient=0.0)
    torch.testing.assert_close(
        torch.autograd.grad(values.sum(), leaf)[0], torch.autograd.grad(expected.sum(), leaf)[0]
    )


def test_bounded_ce_takes_another_bound():
    z, y, _ = conformance.draw(losses.get("ce"), 0, 4, 5)
    other = losses.bounded_ce(z, y, bound=lambda value: value / (1 + value))
    torch.testing.assert_close(other, losses.ce(z, y) / (1 + losses.ce(z, y)))


def test_rescale_has_the_rescaled_weight_and_shift_is_the_logit_bias():
    """Gradients are −w(Δ)∇Δ: rescale replaces w(Δ) by w(sΔ), shift by w(Δ + ε) (2305.02139)."""
    z, y, _ = conformance.draw(losses.get("mae"), 1, 8, 6)
    z.requires_grad_()
    delta = losses.log_odds(z, y)
    (direction,) = torch.autograd.grad(delta.sum(), z)

    def weight(d):  # of MAE: a(1 − a)
        return (d.sigmoid() * (-d).sigmoid()).detach()[:, None]

    mae = losses.get("mae")
    (rescaled,) = torch.autograd.grad(losses.evaluate_rescaled(mae, z, y, 0.5).sum(), z)
    torch.testing.assert_close(rescaled, -weight(0.5 * delta) * direction)
    (shifted,) = torch.autograd.grad(losses.evaluate(mae, z, y, 1.3).sum(), z)
    torch.testing.assert_close(shifted, -weight(delta + 1.3) * direction)
    torch.testing.assert_close(losses.evaluate_rescaled(mae, z, y, 1.0), losses.mae(z, y))
    members = torch.tensor([0.5, 1.0], dtype=torch.float64)
    both = losses.evaluate_rescaled(mae, z.expand(2, -1, -1), y, members)
    torch.testing.assert_close(both[0], losses.evaluate_rescaled(mae, z, y, 0.5))
    with pytest.raises(ValueError, match="nce"):
        losses.evaluate_rescaled(losses.get("nce"), z, y, 0.5)


@pytest.mark.parametrize("classes", [2, 16, 17, 40])
def test_log_odds_and_largest_other(classes):
    """Values and gradient of the formula, on both sides of the change of layout."""
    generator = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(3, 6, classes, generator=generator, dtype=torch.float64)
    z.requires_grad_()
    y = torch.randint(classes, (3, 6), generator=generator)
    delta, largest_other = losses.log_odds_and_largest_other(z, y)
    labelled = torch.nn.functional.one_hot(y, classes).bool()
    others = z.masked_fill(labelled, -torch.inf)
    torch.testing.assert_close(delta, z[labelled].view(3, 6) - others.logsumexp(-1))
    assert torch.equal(largest_other, others.amax(-1))
    assert not largest_other.requires_grad
    assert torch.autograd.gradcheck(lambda x: losses.log_odds(x, y), (z,))
    shared = losses.log_odds(z, y[0])
    torch.testing.assert_close(shared[1], losses.log_odds(z[1], y[0]))
    # p so near 1 that log p, 1 − p from it and a sum with the labelled term would all lose it.
    sure = torch.tensor([[60.0, 0.0, 1.0]])
    expected = 60.0 - math.log(1.0 + math.e)
    assert float(losses.log_odds(sure, torch.tensor([0]))) == pytest.approx(expected, rel=1e-6)


def test_of_probability_flag():
    """Exactly the flagged losses keep their value when the other classes are rearranged."""
    z = torch.tensor([[0.5, 1.0, -1.0, 0.2]], dtype=torch.float64)
    other = z.clone()
    other[0, 1:] = z[0, 1:].logsumexp(-1) - math.log(3)
    label = torch.tensor([0])
    for name in losses.names():
        loss = losses.get(name)
        same = torch.allclose(
            loss.function(z, label), loss.function(other, label), rtol=1e-9, atol=1e-12
        )
        assert same == loss.of_probability, name


def test_presets_are_valid_and_distinct():
    for name in losses.names():
        loss = losses.get(name)
        seen = [preset.name for preset in loss.presets]
        assert len(seen) == len(set(seen)), name
        for preset in loss.presets:
            assert preset.source
            assert set(loss.preset(preset.name)) == set(loss.defaults)
    assert losses.get("nce_rce").preset("apl-cifar100") == {
        "alpha": 10.0,
        "beta": 0.1,
        "log_zero": math.log(1e-4),
    }
    with pytest.raises(losses.LossParameterError, match="; allowed: gce, eps"):
        losses.get("gce").preset("nothing")


@pytest.mark.parametrize(("t1", "t2"), [(0.8, 1.2), (0.5, 4.0), (0.2, 1.05)])
def test_bi_tempered_with_five_iterations_is_the_reference_implementation(t1, t2):
    """Values and the gradient that google/bi-tempered-loss defines, at its default 5 iterations."""
    z, y, _ = conformance.draw(losses.get("ce"), 4, 10, 8, scale=3.0)

    def exp_t(x):
        return (1 + (1 - t2) * x) ** (1 / (1 - t2))

    start = scaled = z - z.max(-1, keepdim=True).values
    for _ in range(5):
        scaled = start * exp_t(scaled).sum(-1, keepdim=True) ** (1 - t2)
    partition = exp_t(scaled).sum(-1, keepdim=True)
    normaliser = -(partition ** (t2 - 1) - 1) / (1 - t2) + z.max(-1, keepdim=True).values
    p, e = exp_t(z - normaliser), one_hot(y, 8)
    expected = (
        -e * (p ** (1 - t1) - 1) / (1 - t1) - (e ** (2 - t1) - p ** (2 - t1)) / (2 - t1)
    ).sum(-1)
    forget = (p - e) * p ** (t2 - t1)
    escort = p**t2 / (p**t2).sum(-1, keepdim=True)
    gradient = forget - escort * forget.sum(-1, keepdim=True)

    leaf = z.clone().requires_grad_()
    values = losses.bi_tempered(leaf, y, t1=t1, t2=t2)
    torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-12)
    (actual,) = torch.autograd.grad(values.sum(), leaf)
    torch.testing.assert_close(actual, gradient, rtol=1e-10, atol=1e-12)
