"""The project's GPU kernels against PyTorch's operations, layer by layer.

    python benchmarks/kernels.py [--members 16] [--batch 128]

One block (convolution, batch normalisation, sum, ReLU; forward and backward) of each width of a
ResNet-32, K networks side by side, bf16: with PyTorch's operations, with the fused normalisation
after cuDNN's convolution, and with the project's own convolution. Then each convolution alone.
Medians of Triton's `do_bench`, in microseconds. Needs a GPU with Triton.
Writes benchmarks/results/kernels-<date>.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from measure import save
from torch import nn

from trainables.kernels import RunningStatistics, convolve_normalise

SHAPES = ((16, 16, 32, 1), (16, 32, 32, 2), (32, 32, 16, 1), (64, 64, 8, 1))


def microseconds(function: Callable[[], object]) -> float:
    """Median time of a call on the GPU."""
    from triton.testing import do_bench

    return 1000 * float(do_bench(function, warmup=10, rep=60, return_mode="median"))


def block(
    members: int, batch: int, shape: tuple[int, int, int, int], how: str
) -> Callable[[], object]:
    """Forward and backward pass of one block."""
    channels, out, edge, stride = shape
    options: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    x = torch.randn(batch, members * channels, edge, edge, **options)
    x = x.relu().contiguous(memory_format=torch.channels_last).requires_grad_()
    x.is_known_to_be_finite = True
    filters = torch.randn(members * out, channels, 3, 3, **options).requires_grad_()
    ones = torch.ones(members * out, device="cuda", requires_grad=True)
    running = RunningStatistics(torch.zeros_like(ones), torch.ones_like(ones), 0.1, 1e-5)
    running = RunningStatistics(running.mean.detach(), running.var.detach(), 0.1, 1e-5)
    new_edge = edge // stride
    shortcut = torch.randn(batch, members * out, new_edge, new_edge, **options)
    shortcut = shortcut.contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(shortcut)

    def plain() -> torch.Tensor:
        z = nn.functional.conv2d(x.nan_to_num(), filters, None, stride, 1, 1, members)
        y = nn.functional.batch_norm(z, running.mean, running.var, ones, ones, True)
        return (y + shortcut).relu()

    def fused() -> torch.Tensor:
        own = how == "own convolution"
        return convolve_normalise(
            x, filters, ones, ones, running, shortcut,
            stride=stride, groups=members, use_kernel=own,
        )  # fmt: skip

    forward = plain if how == "torch" else fused
    leaves = [x, filters, ones, shortcut]
    return lambda: torch.autograd.grad(forward(), leaves, gradient)


def convolutions(
    members: int, batch: int, shape: tuple[int, int, int, int]
) -> dict[str, Callable[[], object]]:
    """The convolution alone: forward, gradient of the images, gradient of the filters."""
    from trainables.kernels import convolution
    from trainables.kernels.block import _packed

    channels, out, edge, stride = shape
    options: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    x = torch.randn(batch, members * channels, edge, edge, **options)
    x = x.contiguous(memory_format=torch.channels_last)
    filters = torch.randn(members * out, channels, 3, 3, **options)
    packed = _packed(filters, members)
    z = nn.functional.conv2d(x, filters, None, stride, 1, 1, members)
    gradient = torch.randn_like(z).contiguous(memory_format=torch.channels_last)

    def backward(*mask: bool) -> object:
        return torch.ops.aten.convolution_backward(
            gradient, x, filters, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], members, mask
        )

    calls: dict[str, Callable[[], object]] = {
        "forward, cuDNN": lambda: nn.functional.conv2d(x, filters, None, stride, 1, 1, members),
        "forward, own": lambda: convolution.convolve(x, packed, stride),
        "images, cuDNN": lambda: backward(True, False, False),
        "images, own": lambda: convolution.input_gradient(gradient, packed, x, stride),
        "filters, cuDNN": lambda: backward(False, True, False),
        "filters, own": lambda: convolution.filter_gradient(x, gradient, members, stride),
    }
    return calls


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return
    table: dict[str, dict[str, float]] = {}
    for shape in SHAPES:
        name = "{} → {} channels, {} pixels, stride {}".format(*shape)
        table[name] = {}
        for how in ("torch", "fused normalisation", "own convolution"):
            table[name][how] = microseconds(block(arguments.members, arguments.batch, shape, how))
        for how, call in convolutions(arguments.members, arguments.batch, shape).items():
            table[name][how] = microseconds(call)
        print(name, {how: round(us) for how, us in table[name].items()}, flush=True)
    save("kernels", vars(arguments), table)


if __name__ == "__main__":
    main()
