"""Convolutions of several narrow networks, 3×3 pixels, images stored channels last.

The channels of K networks lie side by side, [B, K·C, H, W]. Each program multiplies a tile of
pixels of one network by its filters, once for each of the nine pixels of the window (an implicit
matrix product). The networks of one tile run next to each other, so that they share the lines of
the cache.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import triton
import triton.language as tl

from trainables.kernels.normalisation import Moments

_WIDTHS = (16, 32, 64)  # channels of one network that the kernels are made for
_PIXELS = 128  # pixels of a tile
_PIXELS_OF_GRADIENT = 64
_PROGRAMS = 2048  # of the filters' gradient


def is_faster(x: torch.Tensor, weight: torch.Tensor, groups: int, stride: int) -> bool:
    """Whether these kernels compute a convolution of `x` with padding 1 faster than cuDNN.

    On an H100 they take a fifth of cuDNN's time where the number of channels changes, and up to
    three times as long where it does not (16 networks, batch 128; benchmarks/kernels.py).

    Args:
        x: images [B, groups · C, H, W].
        weight: filters [groups · O, C, h, w].
        groups: number of networks.
        stride: of the window.
    """
    out, channels = weight.shape[0] // groups, weight.shape[1]
    return (
        x.dtype in (torch.bfloat16, torch.float16)
        and tuple(weight.shape[2:]) == (3, 3)
        and channels in _WIDTHS
        and out in _WIDTHS
        and out != channels
        and stride in (1, 2)
    )


def convolve(x: torch.Tensor, filters: torch.Tensor, stride: int) -> tuple[torch.Tensor, Moments]:
    """Convolve each network's images by its filters, with padding 1.

    Args:
        x: images [B, K·C, H, W], channels last.
        filters: [K, 3, 3, C, O], contiguous.
        stride: of the window.

    Returns:
        images [B, K·O, H', W'], channels last, and the moments of their columns.
    """
    batch, _, height, width = x.shape
    members, _, _, channels, out = filters.shape
    new_height, new_width = (height - 1) // stride + 1, (width - 1) // stride + 1
    z = torch.empty(
        (batch, members * out, new_height, new_width),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    pixels = batch * new_height * new_width
    tiles = triton.cdiv(pixels, _PIXELS)
    partial = torch.empty(tiles, 2, members * out, dtype=torch.float32, device=x.device)
    _convolve[(members, tiles)](
        x, filters, z, partial, height, width, new_height, new_width,
        members * channels, members * out, pixels, stride, channels, out, _PIXELS,
    )  # fmt: skip
    return z, Moments(partial, _PIXELS)


def input_gradient(
    gradient: torch.Tensor, filters: torch.Tensor, like: torch.Tensor, stride: int
) -> torch.Tensor:
    """Gradient of the images of a convolution.

    Args:
        gradient: of the result, [B, K·O, H', W'], channels last.
        filters: of the convolution, [K, 3, 3, C, O], contiguous.
        like: the images [B, K·C, H, W], channels last.
        stride: of the window, 1 or 2.

    Returns:
        like the images.
    """
    if stride == 1:
        turned = filters.flip(1, 2).transpose(3, 4).contiguous()
        return convolve(gradient, turned, 1)[0]
    batch, columns, height, width = like.shape
    members, _, _, channels, out = filters.shape
    result = torch.empty_like(like)
    for row, column in product(range(2), repeat=2):  # even and odd pixels see other filters
        rows, their_columns = (height + 1 - row) // 2, (width + 1 - column) // 2
        pixels = batch * rows * their_columns
        if not pixels:
            continue
        _input_gradient[(members, triton.cdiv(pixels, _PIXELS))](
            gradient, filters, result, height, width, *gradient.shape[2:], rows, their_columns,
            columns, members * out, pixels, row, column, channels, out, _PIXELS,
        )  # fmt: skip
    return result


def filter_gradient(
    x: torch.Tensor, gradient: torch.Tensor, members: int, stride: int
) -> torch.Tensor:
    """Gradient of the filters of a convolution.

    Args:
        x: images [B, K·C, H, W], channels last.
        gradient: of the result, [B, K·O, H', W'], channels last.
        members: K.
        stride: of the window.

    Returns:
        shape [K, 3, 3, C, O], float32.
    """
    batch, all_channels, height, width = x.shape
    _, all_out, new_height, new_width = gradient.shape
    channels, out = all_channels // members, all_out // members
    pixels = batch * new_height * new_width
    tiles = triton.cdiv(pixels, _PIXELS_OF_GRADIENT)
    wanted = max(1, min(tiles, _PROGRAMS // (3 * members)))
    tiles_per_chunk = triton.cdiv(tiles, wanted)
    chunks = triton.cdiv(tiles, tiles_per_chunk)
    partial = torch.empty(
        chunks, members, 3, 3, channels, out, dtype=torch.float32, device=x.device
    )
    _filter_gradient[(members, 3, chunks)](
        x, gradient, partial, height, width, new_height, new_width,
        all_channels, all_out, pixels, tiles_per_chunk, members, stride,
        channels, out, _PIXELS_OF_GRADIENT,
    )  # fmt: skip
    return partial.sum(0)


@triton.jit
def _convolve(
    x, filters, z, partial, height, width, new_height, new_width, columns, new_columns, pixels,
    STRIDE: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr, PIXELS: tl.constexpr,
) -> Any:  # fmt: skip
    member = tl.program_id(0)
    tile = tl.program_id(1)
    m = tile * PIXELS + tl.arange(0, PIXELS)
    is_pixel = m < pixels
    column = m % new_width
    row = (m // new_width) % new_height
    image = m // (new_width * new_height)
    c = tl.arange(0, IN)
    o = tl.arange(0, OUT)
    total = tl.zeros([PIXELS, OUT], tl.float32)
    for i in tl.static_range(3):
        for j in tl.static_range(3):
            h = row * STRIDE + i - 1
            w = column * STRIDE + j - 1
            inside = is_pixel & (h >= 0) & (h < height) & (w >= 0) & (w < width)
            place = ((image * height + h) * width + w).to(tl.int64) * columns + member * IN
            a = tl.load(x + place[:, None] + c[None, :], mask=inside[:, None], other=0.0)
            window = ((member * 3 + i) * 3 + j) * IN
            b = tl.load(filters + (window + c[:, None]) * OUT + o[None, :])
            total = tl.dot(a, b, total)
    place = m.to(tl.int64) * new_columns + member * OUT
    value = total.to(z.dtype.element_ty)
    tl.store(z + place[:, None] + o[None, :], value, mask=is_pixel[:, None])
    # Moments of the numbers as stored.
    value = tl.where(is_pixel[:, None], value.to(tl.float32), 0.0)
    n = tl.minimum(PIXELS, pixels - tile * PIXELS).to(tl.float32)
    center = tl.sum(value, 0) / n
    deviation = tl.where(is_pixel[:, None], value - center[None, :], 0.0)
    place = 2 * tile * new_columns + member * OUT + o
    tl.store(partial + place, center)
    tl.store(partial + place + new_columns, tl.sum(deviation * deviation, 0))


@triton.jit
def _input_gradient(
    gradient, filters, result, height, width, new_height, new_width, rows, row_columns,
    columns, new_columns, pixels,
    ROW: tl.constexpr, COLUMN: tl.constexpr,
    IN: tl.constexpr, OUT: tl.constexpr, PIXELS: tl.constexpr,
) -> Any:  # fmt: skip
    # Stride 2: pixels (2a + ROW, 2b + COLUMN), which row i of the window touches where
    # ROW + 1 - i is even.
    member = tl.program_id(0)
    m = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    is_pixel = m < pixels
    b = m % row_columns
    a = (m // row_columns) % rows
    image = m // (row_columns * rows)
    c = tl.arange(0, IN)
    o = tl.arange(0, OUT)
    total = tl.zeros([PIXELS, IN], tl.float32)
    for i in tl.static_range(3):
        for j in tl.static_range(3):
            if (ROW + 1 - i) % 2 == 0 and (COLUMN + 1 - j) % 2 == 0:
                h = a + (ROW + 1 - i) // 2
                w = b + (COLUMN + 1 - j) // 2
                inside = is_pixel & (h < new_height) & (w < new_width)
                place = ((image * new_height + h) * new_width + w).to(tl.int64) * new_columns
                g = tl.load(
                    gradient + (place + member * OUT)[:, None] + o[None, :],
                    mask=inside[:, None], other=0.0,
                )  # fmt: skip
                window = ((member * 3 + i) * 3 + j) * IN
                f = tl.load(filters + (window + c[None, :]) * OUT + o[:, None])
                total = tl.dot(g, f, total)
    place = ((image * height + 2 * a + ROW) * width + 2 * b + COLUMN).to(tl.int64) * columns
    tl.store(
        result + (place + member * IN)[:, None] + c[None, :],
        total.to(result.dtype.element_ty), mask=is_pixel[:, None],
    )  # fmt: skip


@triton.jit
def _filter_gradient(
    x, gradient, partial, height, width, new_height, new_width, columns, new_columns, pixels,
    tiles_per_chunk, members,
    STRIDE: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr, PIXELS: tl.constexpr,
) -> Any:  # fmt: skip
    member = tl.program_id(0)
    i = tl.program_id(1)
    chunk = tl.program_id(2)
    c = tl.arange(0, IN)
    o = tl.arange(0, OUT)
    left = tl.zeros([IN, OUT], tl.float32)
    middle = tl.zeros([IN, OUT], tl.float32)
    right = tl.zeros([IN, OUT], tl.float32)
    for t in range(0, tiles_per_chunk):
        m = (chunk * tiles_per_chunk + t) * PIXELS + tl.arange(0, PIXELS)
        is_pixel = m < pixels
        column = m % new_width
        row = (m // new_width) % new_height
        image = m // (new_width * new_height)
        place = m.to(tl.int64) * new_columns + member * OUT
        g = tl.load(gradient + place[:, None] + o[None, :], mask=is_pixel[:, None], other=0.0)
        h = row * STRIDE + i - 1
        is_row = is_pixel & (h >= 0) & (h < height)
        first = ((image * height + h) * width + column * STRIDE).to(tl.int64)
        for j in tl.static_range(3):
            w = column * STRIDE + j - 1
            inside = is_row & (w >= 0) & (w < width)
            place = (first + j - 1) * columns + member * IN
            a = tl.load(x + place[:, None] + c[None, :], mask=inside[:, None], other=0.0)
            if j == 0:
                left = tl.dot(tl.trans(a), g, left)
            elif j == 1:
                middle = tl.dot(tl.trans(a), g, middle)
            else:
                right = tl.dot(tl.trans(a), g, right)
    start = partial + (((chunk * members + member) * 3 + i).to(tl.int64) * 3) * IN * OUT
    place = c[:, None] * OUT + o[None, :]
    tl.store(start + place, left)
    tl.store(start + IN * OUT + place, middle)
    tl.store(start + 2 * IN * OUT + place, right)
