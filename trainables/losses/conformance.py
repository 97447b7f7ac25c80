"""What every loss must do, a user-defined one included.

    from trainables.losses import Loss, Parameter, conformance
    conformance.check(Loss("power", power, (Parameter("t", 1.0, 0.5, 2.0),), bounded=True))

Each `check_*` takes a loss and a seed, and raises AssertionError with what is wrong. The logits are
random; parameters are drawn from their usual ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from trainables.losses._common import add_logit_bias
from trainables.losses._evaluate import evaluate, evaluate_log_odds
from trainables.losses._log_odds import log_odds
from trainables.losses._registry import Loss
from trainables.losses._torch import Tensor, torch

Check = Callable[[Loss, int], None]
Textbook = Callable[..., Tensor]
"""Plain formula `(probabilities [..., batch, classes], labels, **params) -> values`."""

_CLASSES = 7


def draw_params(loss: Loss, generator: torch.Generator) -> dict[str, float]:
    """Draw parameters uniformly from their usual ranges, log-uniformly where `Parameter.log`.

    Args:
        loss: the loss.
        generator: source of randomness.

    Returns:
        Parameter name → value, for all parameters.
    """
    params = {}
    for p in loss.parameters:
        share = float(torch.rand((), generator=generator, dtype=torch.float64))
        if p.log:
            value = math.exp(math.log(p.low) + share * (math.log(p.high) - math.log(p.low)))
        else:
            value = p.low + share * (p.high - p.low)
        params[p.name] = min(max(value, p.low), p.high)
    return params


def draw(
    loss: Loss, seed: int, *shape: int, scale: float = 2.0
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Draw logits, labels and parameters.

    Args:
        loss: the loss whose parameters are drawn.
        seed: seed of all draws.
        *shape: [..., batch, classes].
        scale: standard deviation of the logits.

    Returns:
        Float64 logits of `shape`, int64 labels [..., batch], and parameter name → value.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(shape[-1], shape[:-1], generator=generator)
    return logits, labels, draw_params(loss, generator)


def check_shape(loss: Loss, seed: int = 0) -> None:
    """Values have the shape of the labels and the dtype of the logits; inputs stay unchanged."""
    for dtype in (torch.float32, torch.float64):
        logits, labels, params = draw(loss, seed, 2, 3, 4, _CLASSES)
        logits = logits.to(dtype)
        before = logits.clone()
        values = loss.function(logits, labels, **params)
        assert values.shape == labels.shape, f"shape {tuple(values.shape)}, not [..., batch]"
        assert values.dtype == dtype, f"{dtype} logits gave {values.dtype} values"
        assert torch.equal(logits, before), "the logits were modified"


def check_defaults(loss: Loss, seed: int = 0) -> None:
    """The defaults of the function's arguments are those of `Loss.parameters`."""
    logits, labels, _ = draw(loss, seed, 4, _CLASSES)
    _assert_close(loss.function(logits, labels), loss.function(logits, labels, **loss.defaults), 0)


def check_gradient(loss: Loss, seed: int = 0) -> None:
    """Autograd agrees with finite differences."""
    logits, labels, params = draw(loss, seed, 5, _CLASSES)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: loss.function(z, labels, **(params | dict(loss.exact))),
        (logits,),
        eps=1e-6,
        atol=1e-6,
        raise_exception=False,
    ), f"autograd and finite differences disagree at {params}"


def check_textbook(loss: Loss, textbook: Textbook, seed: int = 0) -> None:
    """Values and gradients agree with a plain formula in float64, to 1e-9 relative.

    Args:
        loss: the loss.
        textbook: the formula, a function of the softmax probabilities.
        seed: seed of the logits and parameters.

    Raises:
        AssertionError: they differ.
    """
    logits, labels, params = draw(loss, seed, 16, _CLASSES)
    params.update(loss.exact)
    logits.requires_grad_()
    results = []
    for values in (
        loss.function(logits, labels, **params),
        textbook(logits.softmax(-1), labels, **params),
    ):
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        results.append((values.detach(), gradient))
    _assert_close(results[0][0], results[1][0], 1e-9)
    _assert_close(results[0][1], results[1][1], 1e-9)


def check_extreme_logits(loss: Loss, seed: int = 0) -> None:
    """Value and gradient are finite for logits up to ±1e4, in both precisions."""
    for dtype in (torch.float32, torch.float64):
        logits, labels, params = draw(loss, seed, 8, _CLASSES)
        _check_finite(loss, (1e4 * logits.clamp(-1, 1)).to(dtype), labels, params)
        for value in (0.0, 1e4, -1e4):
            equal = torch.full((1, _CLASSES), value, dtype=dtype)
            _check_finite(loss, equal, labels[:1], params)
            for spike in (1e4, -1e4, 40.0, -40.0):
                spiked = equal.clone()
                spiked[0, 0] += spike
                for label in (0, 1):
                    _check_finite(loss, spiked, torch.tensor([label]), params)


def check_many_classes(loss: Loss, seed: int = 0, classes: int = 1_000_000) -> None:
    """Value and gradient are finite for a million classes in single precision."""
    logits, labels, params = draw(loss, seed, 1, classes, scale=1.0)
    _check_finite(loss, logits.float(), labels, params)


def check_symmetry(loss: Loss, seed: int = 0) -> None:
    """Σ_k L(·, k) is constant exactly where the loss is flagged symmetric."""
    logits, _, params = draw(loss, seed, 64, _CLASSES)
    every_label = torch.arange(_CLASSES).expand(64, _CLASSES).T
    total = loss.function(logits.expand(_CLASSES, -1, -1), every_label, **params).sum(0)
    spread = float((total.max() - total.min()) / total.abs().max().clamp_min(1.0))
    if loss.symmetric:
        assert spread < 1e-9, f"flagged symmetric, but Σ_k L varies by {spread:.2g}"
    else:
        assert spread > 1e-9, "Σ_k L is constant, but the loss is not flagged symmetric"


def check_bounded(loss: Loss, seed: int = 0) -> None:
    """Values stay bounded exactly where the loss is flagged bounded, also with a logit bias."""
    logits, labels, params = draw(loss, seed, 64, _CLASSES, scale=1.0)
    # These scales also reach a bound that the loss approaches as slowly as x^-0.01.
    near, far = (
        max(
            float(evaluate(loss, scale * logits, labels, epsilon, **params).abs().max())
            for epsilon in (0.0, 3.0)
        )
        for scale in (1e100, 1e150)
    )
    if loss.bounded:
        assert far < 1.1 * near, f"flagged bounded, but |L| reaches {far:.3g}"
    else:
        assert far > 1.1 * near, f"not flagged bounded, but |L| stays below {far:.3g}"


def check_permutation(loss: Loss, seed: int = 0) -> None:
    """The order of the classes does not matter."""
    logits, labels, params = draw(loss, seed, 16, _CLASSES)
    order = torch.randperm(_CLASSES, generator=torch.Generator().manual_seed(seed))
    renamed = torch.empty_like(order)
    renamed[order] = torch.arange(_CLASSES)
    _assert_close(
        loss.function(logits[:, order], renamed[labels], **params),
        loss.function(logits, labels, **params),
        1e-12,
    )


def check_logit_bias(loss: Loss, seed: int = 0) -> None:
    """ε = 0 gives the plain loss; ε is added to the labelled logit only."""
    logits, labels, params = draw(loss, seed, 16, _CLASSES)
    plain = loss.function(logits, labels, **params)
    assert torch.equal(evaluate(loss, logits, labels, 0.0, **params), plain)
    by_hand = logits.clone()
    for i, label in enumerate(labels):
        by_hand[i, label] += 1.7
    assert torch.equal(
        evaluate(loss, logits, labels, 1.7, **params), loss.function(by_hand, labels, **params)
    )
    assert torch.equal(add_logit_bias(logits, labels, 0.0), logits)


def check_log_odds(loss: Loss, seed: int = 0) -> None:
    """A loss of p alone has the same values and gradients from log-odds as from logits."""
    if not loss.of_probability:
        return
    logits, labels, params = draw(loss, seed, 16, _CLASSES)
    leaf = logits.requires_grad_()
    results = []
    for values in (
        evaluate_log_odds(loss, log_odds(leaf, labels) + 0.7, **params),
        evaluate(loss, leaf, labels, 0.7, **params),
    ):
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        results.append((values, gradient))
    for from_log_odds, from_logits in zip(*results, strict=True):
        _assert_close(from_log_odds, from_logits, 1e-9)
    for dtype in (torch.float32, torch.float64):
        delta = torch.tensor([-2e4, -40.0, 0.0, 40.0, 2e4], dtype=dtype, requires_grad=True)
        values = evaluate_log_odds(loss, delta, **params)
        (gradient,) = torch.autograd.grad(values.sum(), delta)
        assert values.isfinite().all(), f"values {values.tolist()} at log-odds {delta.tolist()}"
        assert gradient.isfinite().all(), f"gradient is not finite at log-odds {delta.tolist()}"


def check_members(loss: Loss, seed: int = 0) -> None:
    """A cohort [K, batch, classes] with parameters [K] equals a loop over its members."""
    members = 5
    logits, labels, _ = draw(loss, seed, members, 6, _CLASSES)
    generator = torch.Generator().manual_seed(seed + 1)
    params_of = [draw_params(loss, generator) for _ in range(members)]
    stacked = {
        name: torch.tensor([params[name] for params in params_of], dtype=torch.float64)
        for name in loss.defaults
    }
    epsilon = torch.linspace(0.0, 3.0, members, dtype=torch.float64)
    cohort = evaluate(loss, logits, labels, epsilon, **stacked)
    cohort_with_shared_labels = evaluate(loss, logits, labels[0], epsilon, **stacked)
    for k, params in enumerate(params_of):
        for values, targets in ((cohort, labels[k]), (cohort_with_shared_labels, labels[0])):
            alone = evaluate(loss, logits[k], targets, float(epsilon[k]), **params)
            _assert_close(values[k], alone, 1e-10)


CHECKS: tuple[Check, ...] = (
    check_shape,
    check_defaults,
    check_gradient,
    check_extreme_logits,
    check_symmetry,
    check_bounded,
    check_permutation,
    check_logit_bias,
    check_log_odds,
    check_members,
)


def check(loss: Loss, *, seeds: int = 3, textbook: Textbook | None = None) -> None:
    """Run every check of `CHECKS`, and once a million classes.

    Args:
        loss: the loss.
        seeds: number of random draws per check.
        textbook: the loss as the paper prints it, a function of the softmax probabilities, for
            `check_textbook`; None to leave that check out.

    Raises:
        AssertionError: a check fails.
    """
    for seed in range(seeds):
        for check_one in CHECKS:
            check_one(loss, seed)
        if textbook is not None:
            check_textbook(loss, textbook, seed)
    check_many_classes(loss)


def _check_finite(loss: Loss, logits: Tensor, labels: Tensor, params: Mapping[str, float]) -> None:
    logits = logits.clone().requires_grad_()
    values = loss.function(logits, labels, **params)
    where = f"{logits.dtype} logits {logits.detach().flatten()[:4].tolist()}…, {dict(params)}"
    assert values.isfinite().all(), f"value {values.tolist()} for {where}"
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert gradient.isfinite().all(), f"gradient is not finite for {where}"


def _assert_close(actual: Tensor, expected: Tensor, relative: float) -> None:
    scale = float(expected.detach().abs().max().clamp_min(1e-3))
    worst = float((actual.detach() - expected.detach()).abs().max()) / scale
    assert worst <= relative, f"differs by {worst:.3g} relative to the largest value"
