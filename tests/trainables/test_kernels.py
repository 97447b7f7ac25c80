"""Triton kernels against PyTorch's operations: on a GPU, and in Triton's interpreter on a CPU."""

import os
import subprocess
import sys
from itertools import product

import pytest
import torch
from torch import nn

from trainables.kernels import RunningStatistics, convolve_normalise, is_finite

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
# Networks, channels, output channels, stride, edge in pixels, own convolution, shortcut.
CASES = [
    (2, 16, 16, 1, 6, True, True),
    (3, 16, 32, 2, 6, True, False),
    (2, 32, 16, 2, 5, True, True),
    (2, 32, 16, 1, 5, True, True),
    (2, 16, 16, 1, 6, False, True),
    (2, 3, 16, 1, 7, False, False),
    (1, 20, 24, 2, 7, False, True),
]


def worst_error(
    case: tuple, device: str = "cpu", dtype: torch.dtype = torch.float32, training: bool = True
) -> float:
    """The largest relative difference of result, gradients and running statistics."""
    members, channels, out, stride, edge, use_kernel, has_shortcut = case
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()

    new_edge = (edge - 1) // stride + 1
    all_out = members * out
    # A large mean, which would cost precision in a sum of squares.
    x, filters = leaf(3, members * channels, edge, edge), leaf(all_out, channels, 3, 3)
    weight, bias = leaf(all_out), leaf(all_out)
    shortcut = leaf(3, all_out, new_edge, new_edge) if has_shortcut else None
    gradient = torch.randn(3, all_out, new_edge, new_edge, generator=generator).to(device, dtype)
    leaves = [t for t in (x, filters, weight, bias, shortcut) if t is not None]

    def fused(running: RunningStatistics) -> torch.Tensor:
        options = {
            "training": training,
            "stride": stride,
            "groups": members,
            "use_kernel": use_kernel,
        }
        return convolve_normalise(
            x,
            filters,
            weight.float(),
            bias.float(),
            running,
            shortcut,
            **options,
        )

    def plain(running: RunningStatistics) -> torch.Tensor:
        z = nn.functional.conv2d(x, filters, None, stride, 1, 1, members)
        y = nn.functional.batch_norm(
            z.float(),
            running.mean,
            running.var,
            weight.float(),
            bias.float(),
            training,
            0.1,
            1e-5,
        )
        return (y if shortcut is None else y + shortcut).relu()

    outcomes = []
    for function in (fused, plain):
        statistics = (torch.linspace(a, 2, all_out, device=device) for a in (-1, 0.5))
        running = RunningStatistics(*statistics, 0.1, 1e-5)
        y = function(running)
        gradients = torch.autograd.grad((y * gradient).sum(), leaves) if training else ()
        outcomes.append([y.detach(), *gradients, running.mean, running.var])
    return max(
        float(((a.float() - b.float()).norm() / b.float().norm()).cpu())
        for a, b in zip(*outcomes, strict=True)
    )


def worst_update_error(nesterov: bool, decays: bool, device: str = "cpu") -> float:
    """The largest difference from three steps of `torch.optim.SGD` for each of three networks."""
    from trainables.kernels import sgd

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, 5, 2, 2, generator=generator).to(device)
    rates, decay = torch.tensor([0.1, 0.2, 0.7], device=device), 0.01 * (1 + torch.arange(3.0))
    ours = start.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 4))
    ours, velocity = ours.clone(), torch.zeros_like(ours)
    plain = [torch.nn.Parameter(network.clone()) for network in start]
    optimizers = [
        torch.optim.SGD(
            [p], float(r), momentum=0.9, nesterov=nesterov, weight_decay=float(w) * decays
        )
        for p, r, w in zip(plain, rates, decay, strict=True)
    ]
    for _ in range(3):
        gradient = torch.empty_like(ours).copy_(torch.randn(ours.shape, generator=generator))
        used = decay.to(device) if decays else None
        sgd.update(ours, gradient, velocity, -rates.view(3, 1, 1, 1, 1), used, 0.9, nesterov)
        for p, optimizer, g in zip(plain, optimizers, gradient, strict=True):
            p.grad = g
            optimizer.step()
    return float((ours - torch.stack([p.detach() for p in plain])).abs().max())


UPDATES = list(product([False, True], repeat=2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the tests below run them on the GPU")
def test_kernels_are_the_operations_in_tritons_interpreter() -> None:
    pytest.importorskip("triton")
    # In a process of its own: Triton reads the variable when it is imported.
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    errors = [float(line) for line in done.stdout.split()]
    assert len(errors) == 2 * len(CASES) + len(UPDATES)
    assert max(errors) < 1e-5


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("case", [case for case in CASES if not case[5]])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_normalisation_on_a_gpu(case: tuple, training: bool) -> None:
    torch.backends.cudnn.allow_tf32 = False
    assert worst_error(case, "cuda", training=training) < 1e-5


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize(("nesterov", "decays"), UPDATES)
def test_updates_on_a_gpu(nesterov: bool, decays: bool) -> None:
    assert worst_update_error(nesterov, decays, "cuda") < 1e-5


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize(
    ("channels", "out", "stride"), list(product((16, 32, 64), (16, 32, 64), (1, 2)))
)
@pytest.mark.parametrize("use_kernel", [True, False])
def test_half_precision_on_a_gpu(channels: int, out: int, stride: int, use_kernel: bool) -> None:
    case = (3, channels, out, stride, 17, use_kernel, stride == 1)
    assert worst_error(case, "cuda", torch.bfloat16) < 0.02


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("use_kernel", [True, False])
def test_the_same_bits_and_no_influence_between_networks(use_kernel: bool) -> None:
    def gradients(poisoned: bool) -> list[torch.Tensor]:
        generator = torch.Generator("cuda").manual_seed(0)
        x, filters = (
            torch.randn(shape, generator=generator, device="cuda").bfloat16()
            for shape in ((8, 48, 12, 12), (48, 16, 3, 3))
        )
        if poisoned:
            filters[16:32] = torch.nan
        leaves = [x.requires_grad_(), filters.requires_grad_()]
        running = RunningStatistics(
            torch.zeros(48, device="cuda"), torch.ones(48, device="cuda"), 0.1, 1e-5
        )
        ones = torch.ones(48, device="cuda")
        y = convolve_normalise(x, filters, ones, ones, running, groups=3, use_kernel=use_kernel)
        assert is_finite(y)
        assert y.isfinite().all()
        assert running.var[16:32].isfinite().all() == (not poisoned)
        return [y.detach(), *torch.autograd.grad(y.float().square().sum(), leaves)]

    clean, again, poisoned = gradients(False), gradients(False), gradients(True)
    others = [*range(16), *range(32, 48)]
    for a, b, c, axis in zip(clean, again, poisoned, (1, 1, 0), strict=True):
        assert torch.equal(a, b)
        kept = torch.tensor(others, device="cuda")
        assert torch.equal(a.index_select(axis, kept), c.index_select(axis, kept))


if __name__ == "__main__":
    for one in CASES:
        print(worst_error(one), worst_error(one, training=False))
    for update in UPDATES:
        print(worst_update_error(*update))
