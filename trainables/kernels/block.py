"""Convolution, batch normalisation, sum and ReLU as one differentiable operation."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:  # importing it needs Triton
    from trainables.kernels.normalisation import Moments

VARIABLE = "LOGIT_BIAS_KERNELS"
"""Environment variable; with the value `torch`, PyTorch's operations are used instead."""

_log = logging.getLogger(__name__)
_FINITE = "is_known_to_be_finite"  # attribute of a tensor


class RunningStatistics(NamedTuple):
    """Statistics that training updates; each [channels].

    Attributes:
        mean: running mean.
        var: running variance.
        momentum: weight of a batch's statistics.
        eps: added to the variance.
    """

    mean: torch.Tensor
    var: torch.Tensor
    momentum: float
    eps: float


def can_fuse(x: torch.Tensor, *, training: bool) -> bool:
    """Whether `convolve_normalise` takes images like `x`.

    Args:
        x: the images.
        training: whether the layer is in training; otherwise no gradient can be computed.
    """
    return (training or not torch.is_grad_enabled()) and are_available(x)


def are_available(x: torch.Tensor) -> bool:
    """Whether the kernels can be used for tensors like `x`; they need a GPU and Triton."""
    return (
        x.is_cuda
        and x.dtype != torch.float64
        and os.environ.get(VARIABLE) != "torch"
        and not torch.compiler.is_compiling()
        and _works_on(x.device)
    )


@functools.cache
def _works_on(device: torch.device) -> bool:
    """Whether Triton compiles and runs the kernels on a GPU."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        from trainables.kernels import sgd

        with torch.enable_grad(), torch.autocast("cuda", enabled=False):
            for out, stride in ((16, 1), (32, 2)):  # cuDNN's convolution, and the own one
                x = torch.randn(2, 16, 4, 4, device=device, dtype=torch.float16, requires_grad=True)
                filters = torch.randn(out, 16, 3, 3, device=device, dtype=torch.float16)
                filters.requires_grad_()
                ones = torch.ones(out, device=device)
                running = RunningStatistics(ones.clone(), ones.clone(), 0.1, 1e-5)
                y = convolve_normalise(
                    x, filters, ones, ones, running, stride=stride, use_kernel=out > 16
                )
                y.sum().backward()  # type: ignore[no-untyped-call]
        sgd.update(ones, ones.clone(), ones.clone(), ones, None, 0.9, False)
    except Exception as error:  # Triton and its compiler raise many types
        _log.warning(
            "Triton's kernels do not run on this GPU; training goes on without them, which is "
            "slower: %s",
            (str(error).strip() or type(error).__name__).splitlines()[0],
        )
        return False
    return True


def is_finite(x: torch.Tensor) -> bool:
    """Whether `x` is a result of `convolve_normalise`, which has finite numbers only."""
    return getattr(x, _FINITE, False)


def convolve_normalise(
    x: torch.Tensor,
    filters: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    running: RunningStatistics,
    shortcut: torch.Tensor | None = None,
    *,
    training: bool = True,
    stride: int = 1,
    padding: int = 1,
    groups: int = 1,
    use_kernel: bool | None = None,
) -> torch.Tensor:
    """relu(batch_norm(conv(x)) + shortcut).

    Numbers that are not finite become 0 at the convolution and in the result, forward and backward:
    cuDNN may merge narrow groups, and 0 · NaN = NaN. The running statistics keep them.

    Args:
        x: images [B, C, H, W].
        filters: [O, C / groups, h, w].
        weight: of the normalisation, [O].
        bias: of the normalisation, [O].
        running: statistics of the normalisation; modified in training.
        shortcut: images like the result; None for 0.
        training: whether to normalise by the batch's statistics and allow gradients; otherwise by
            the running statistics, without gradients.
        stride: of the convolution.
        padding: of the convolution.
        groups: of the convolution.
        use_kernel: whether the convolution is the project's own kernel; None for the faster one.

    Returns:
        images [B, O, H', W'], channels last.
    """
    lower = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
    # In the memory format of the convolution: cuDNN would convert them forward and backward.
    filters = filters.to(lower or filters.dtype, memory_format=torch.channels_last)
    if lower is not None:
        x = x.to(lower)
        shortcut = None if shortcut is None else shortcut.to(lower)
    options = _Options(stride, padding, groups, use_kernel, is_finite(x))
    arguments = x, filters, weight, bias, shortcut, running, options
    y: torch.Tensor = _ConvolveNormalise.apply(*arguments) if training else _evaluate(*arguments)
    setattr(y, _FINITE, True)
    return y


class _Options(NamedTuple):
    stride: int
    padding: int
    groups: int
    use_kernel: bool | None
    is_finite: bool


class _ConvolveNormalise(torch.autograd.Function):
    """The operation with its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        filters: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        shortcut: torch.Tensor | None,
        running: RunningStatistics,
        options: _Options,
    ) -> torch.Tensor:
        from trainables.kernels import normalisation

        x = _finite_channels_last(x, options)
        z, moments = _convolve(x, filters, options)
        matrix = _matrix(z)
        uses_kernel = moments is not None
        if moments is None:
            moments = normalisation.moments(matrix)
        mean, inverse = normalisation.combine(
            moments, len(matrix), running.mean, running.var, running.momentum, running.eps
        )
        columns = normalisation.Normalisation(mean, inverse, weight, bias)
        if shortcut is not None:
            shortcut = _matrix(shortcut.contiguous(memory_format=torch.channels_last))
        y = _images(normalisation.normalise(matrix, columns, shortcut), z)
        ctx.save_for_backward(x, filters, z, None if shortcut is None else y, *columns)
        ctx.options, ctx.uses_kernel = options, uses_kernel
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from trainables.kernels import convolution, normalisation

        x, filters, z, y, *columns = ctx.saved_tensors
        options: _Options = ctx.options
        gradient = gradients[0].to(z.dtype).contiguous(memory_format=torch.channels_last)
        result = normalisation.normalise_backward(
            _matrix(gradient),
            _matrix(z),
            None if y is None else _matrix(y),
            normalisation.Normalisation(*columns),
        )
        for_z = _images(result.x, z)
        for_shortcut = None if result.shortcut is None else _images(result.shortcut, z)
        needs_x = ctx.needs_input_grad[0]
        for_x = for_filters = None
        if ctx.uses_kernel:
            packed = convolution.filter_gradient(x, for_z, options.groups, options.stride)
            by_pixel = packed.permute(0, 4, 1, 2, 3).flatten(0, 1).to(filters.dtype)
            for_filters = by_pixel.permute(0, 3, 1, 2)  # channels last, as the filters are
            if needs_x:
                own = _packed(filters, options.groups)
                for_x = convolution.input_gradient(for_z, own, x, options.stride)
        else:
            for_x, for_filters, _ = torch.ops.aten.convolution_backward(
                for_z,
                x,
                filters,
                None,
                [options.stride] * 2,
                [options.padding] * 2,
                [1, 1],
                False,
                [0, 0],
                options.groups,
                [needs_x, True, False],
            )
        return for_x, for_filters, result.weight, result.bias, for_shortcut, None, None


@torch.no_grad()
def _evaluate(
    x: torch.Tensor,
    filters: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    shortcut: torch.Tensor | None,
    running: RunningStatistics,
    options: _Options,
) -> torch.Tensor:
    """The operation with the running statistics."""
    from trainables.kernels import normalisation

    z, _ = _convolve(_finite_channels_last(x, options), filters, options)
    inverse = (running.var + running.eps).rsqrt()
    columns = normalisation.Normalisation(running.mean, inverse, weight, bias)
    if shortcut is not None:
        shortcut = _matrix(shortcut.contiguous(memory_format=torch.channels_last))
    return _images(normalisation.normalise(_matrix(z), columns, shortcut), z)


def _finite_channels_last(x: torch.Tensor, options: _Options) -> torch.Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    return x if options.is_finite else x.nan_to_num(0.0, 0.0, 0.0)


def _convolve(
    x: torch.Tensor, filters: torch.Tensor, options: _Options
) -> tuple[torch.Tensor, Moments | None]:
    """The convolution, channels last; with the moments of its columns if the own kernel ran."""
    from trainables.kernels import convolution

    uses_kernel = options.use_kernel
    if uses_kernel is None:
        uses_kernel = options.padding == 1 and convolution.is_faster(
            x, filters, options.groups, options.stride
        )
    if uses_kernel:
        return convolution.convolve(x, _packed(filters, options.groups), options.stride)
    z = nn.functional.conv2d(x, filters, None, options.stride, options.padding, 1, options.groups)
    return z.contiguous(memory_format=torch.channels_last), None


def _packed(filters: torch.Tensor, groups: int) -> torch.Tensor:
    """Filters [K·O, C, 3, 3] as [K, 3, 3, C, O]."""
    return torch.unflatten(filters, 0, (groups, -1)).permute(0, 3, 4, 2, 1).contiguous()


def _matrix(images: torch.Tensor) -> torch.Tensor:
    """Images that are stored channels last as the matrix [B · H · W, C], without a copy."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def _images(matrix: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = like.shape
    return matrix.view(batch, height, width, channels).permute(0, 3, 1, 2)
