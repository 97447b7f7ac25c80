"""Batch normalisation with ReLU, forward and backward, on a matrix [rows, columns].

Images [B, C, H, W] that are stored channels last are the matrix [B · H · W, C]. Sums over rows are
computed in two steps, chunks of rows and then the chunks, in an order that does not change from run
to run. Numbers are float32 inside, whatever the type of the images.

A number that is not finite becomes 0 in every result that has the shape of the images, so that a
diverged network cannot affect its neighbours where a convolution merges their channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

_TILE = 4096  # numbers that one program handles at a time
_PROGRAMS = 1024  # about as many programs as keep a large GPU busy
_MOST_CHUNKS = 256
_LARGEST = 3.38e38  # below the largest bfloat16


class Moments(NamedTuple):
    """Mean and sum of squared deviations of chunks of rows.

    Attributes:
        chunks: shape [chunks, 2, columns], float32.
        rows_per_chunk: rows of every chunk but the last.
    """

    chunks: torch.Tensor
    rows_per_chunk: int


def moments(x: torch.Tensor) -> Moments:
    """Mean and squared deviations of chunks of the rows of `x` [rows, columns]."""
    rows, columns = x.shape
    tile_rows, tile_columns = _tile(columns)
    rows_per_chunk, chunks = _chunks(rows, columns, tile_rows, tile_columns)
    result = torch.empty(chunks, 2, columns, dtype=torch.float32, device=x.device)
    grid = (chunks, triton.cdiv(columns, tile_columns))
    _moments[grid](x, result, rows, columns, rows_per_chunk, tile_rows, tile_columns)
    return Moments(result, rows_per_chunk)


def combine(
    moments: Moments,
    rows: int,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Statistics of all rows; updates the running statistics.

    Args:
        moments: of chunks of the rows.
        rows: number of rows.
        running_mean: shape [columns]; modified.
        running_var: shape [columns]; modified.
        momentum: weight of the new statistics.
        eps: added to the variance.

    Returns:
        mean and 1/√(variance + eps), each [columns], float32.
    """
    chunks, _, columns = moments.chunks.shape
    mean, inverse = (torch.empty_like(moments.chunks[0, 0]) for _ in range(2))
    rows_at_once, tile_columns = min(256, triton.next_power_of_2(chunks)), 16
    _combine[(triton.cdiv(columns, tile_columns),)](
        moments.chunks,
        mean,
        inverse,
        running_mean,
        running_var,
        rows,
        columns,
        chunks,
        moments.rows_per_chunk,
        momentum,
        eps,
        rows_at_once,
        tile_columns,
    )
    return mean, inverse


class Normalisation(NamedTuple):
    """What maps a column to its normalised column; each [columns], float32.

    Attributes:
        mean: mean of the column.
        inverse: 1/√(variance + eps).
        weight: factor.
        bias: summand.
    """

    mean: torch.Tensor
    inverse: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor


def normalise(
    x: torch.Tensor, normalisation: Normalisation, shortcut: torch.Tensor | None
) -> torch.Tensor:
    """relu((x − mean) · inverse · weight + bias + shortcut).

    Args:
        x: shape [rows, columns].
        normalisation: of the columns.
        shortcut: like `x`; None for 0.
    """
    rows, columns = x.shape
    tile_rows, tile_columns = _tile(columns)
    y = torch.empty_like(x)
    grid = (triton.cdiv(rows, tile_rows), triton.cdiv(columns, tile_columns))
    has_shortcut = shortcut is not None
    _normalise[grid](
        x, shortcut if has_shortcut else x, y, *normalisation, rows, columns,
        has_shortcut, _LARGEST, tile_rows, tile_columns,
    )  # fmt: skip
    return y


class Gradients(NamedTuple):
    """Gradients of `normalise`.

    Attributes:
        x: like the images.
        shortcut: like the images; None where there is no shortcut.
        weight: shape [columns], float32.
        bias: shape [columns], float32.
    """

    x: torch.Tensor
    shortcut: torch.Tensor | None
    weight: torch.Tensor
    bias: torch.Tensor


def normalise_backward(
    gradient: torch.Tensor, x: torch.Tensor, y: torch.Tensor | None, normalisation: Normalisation
) -> Gradients:
    """Gradients of `normalise` where mean and variance are those of `x`.

    Args:
        gradient: of the result, [rows, columns].
        x: as in `normalise`.
        y: the result; None where there was no shortcut.
        normalisation: as in `normalise`.
    """
    rows, columns = x.shape
    tile_rows, tile_columns = _tile(columns)
    rows_per_chunk, chunks = _chunks(rows, columns, tile_rows, tile_columns)
    partial = torch.empty(chunks, 2, columns, dtype=torch.float32, device=x.device)
    blocks = triton.cdiv(columns, tile_columns)
    has_shortcut = y is not None
    mask = y if has_shortcut else x
    _gradient_sums[(chunks, blocks)](
        gradient, x, mask, *normalisation, partial, rows, columns, rows_per_chunk,
        has_shortcut, tile_rows, tile_columns,
    )  # fmt: skip
    sums = torch.empty_like(partial[0])
    at_once = min(256, triton.next_power_of_2(chunks))
    _sum[(triton.cdiv(2 * columns, 16),)](partial, sums, 2 * columns, chunks, at_once, 16)
    for_weight, for_bias = sums.unbind()
    for_x = torch.empty_like(x)
    for_shortcut = torch.empty_like(x) if has_shortcut else None
    _gradient[(triton.cdiv(rows, tile_rows), blocks)](
        gradient, x, mask, *normalisation, for_weight, for_bias, for_x,
        for_shortcut if has_shortcut else for_x, rows, columns,
        has_shortcut, _LARGEST, tile_rows, tile_columns,
    )  # fmt: skip
    return Gradients(for_x, for_shortcut, for_weight, for_bias)


def _tile(columns: int) -> tuple[int, int]:
    """Rows and columns of the tile that one program handles at a time."""
    tile_columns = min(128, triton.next_power_of_2(columns))
    return _TILE // tile_columns, tile_columns


def _chunks(rows: int, columns: int, tile_rows: int, tile_columns: int) -> tuple[int, int]:
    """Rows per chunk, a multiple of a tile's, and number of chunks."""
    blocks = triton.cdiv(columns, tile_columns)
    wanted = max(1, min(_MOST_CHUNKS, _PROGRAMS // blocks))
    tiles = triton.cdiv(rows, tile_rows)
    rows_per_chunk = triton.cdiv(tiles, wanted) * tile_rows
    return rows_per_chunk, triton.cdiv(rows, rows_per_chunk)


@triton.jit
def _moments(x, result, rows, columns, rows_per_chunk, TR: tl.constexpr, TC: tl.constexpr) -> Any:
    chunk = tl.program_id(0)
    c = tl.program_id(1) * TC + tl.arange(0, TC)
    is_column = c < columns
    first = (chunk * rows_per_chunk).to(tl.int64)
    # Deviations from one of the numbers: a large mean would otherwise cost precision.
    origin = tl.load(x + first * columns + c, mask=is_column, other=0.0).to(tl.float32)
    total = tl.zeros([TR, TC], tl.float32)
    squares = tl.zeros([TR, TC], tl.float32)
    for start in range(0, rows_per_chunk, TR):
        r = first + start + tl.arange(0, TR)
        inside = (r < rows)[:, None] & is_column[None, :]
        place = r[:, None] * columns + c[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(inside, value - origin[None, :], 0.0)
        total += value
        squares += value * value
    n = tl.minimum(rows_per_chunk, rows - first).to(tl.float32)
    sums = tl.sum(total, 0)
    deviation = sums / n
    tl.store(result + 2 * chunk * columns + c, origin + deviation, mask=is_column)
    tl.store(
        result + (2 * chunk + 1) * columns + c,
        tl.sum(squares, 0) - sums * deviation,
        mask=is_column,
    )


@triton.jit
def _combine(
    moments, mean, inverse, running_mean, running_var, rows, columns, chunks, rows_per_chunk,
    momentum, eps, AT_ONCE: tl.constexpr, TC: tl.constexpr,
) -> Any:  # fmt: skip
    c = tl.program_id(0) * TC + tl.arange(0, TC)
    is_column = c < columns
    total = tl.zeros([AT_ONCE, TC], tl.float32)
    for start in range(0, chunks, AT_ONCE):
        i = start + tl.arange(0, AT_ONCE)
        inside = (i < chunks)[:, None] & is_column[None, :]
        place = 2 * i[:, None] * columns + c[None, :]
        n = tl.minimum(rows_per_chunk, rows - i * rows_per_chunk).to(tl.float32)[:, None]
        value = tl.load(moments + place, mask=inside, other=0.0)
        total += tl.where(inside, n * value, 0.0)
    center = tl.sum(total, 0) / rows
    squares = tl.zeros([AT_ONCE, TC], tl.float32)
    for start in range(0, chunks, AT_ONCE):
        i = start + tl.arange(0, AT_ONCE)
        inside = (i < chunks)[:, None] & is_column[None, :]
        place = 2 * i[:, None] * columns + c[None, :]
        n = tl.minimum(rows_per_chunk, rows - i * rows_per_chunk).to(tl.float32)[:, None]
        offset = tl.load(moments + place, mask=inside, other=0.0) - center[None, :]
        within = tl.load(moments + place + columns, mask=inside, other=0.0)
        squares += tl.where(inside, within + n * offset * offset, 0.0)
    deviations = tl.sum(squares, 0)
    tl.store(mean + c, center, mask=is_column)
    tl.store(inverse + c, 1.0 / tl.sqrt(deviations / rows + eps), mask=is_column)
    before = tl.load(running_mean + c, mask=is_column, other=0.0).to(tl.float32)
    after = before + momentum * (center - before)
    tl.store(running_mean + c, after, mask=is_column)
    before = tl.load(running_var + c, mask=is_column, other=0.0).to(tl.float32)
    after = before + momentum * (deviations / (rows - 1) - before)
    tl.store(running_var + c, after, mask=is_column)


@triton.jit
def _normalise(
    x, shortcut, y, mean, inverse, weight, bias, rows, columns,
    HAS_SHORTCUT: tl.constexpr, LARGEST: tl.constexpr, TR: tl.constexpr, TC: tl.constexpr,
) -> Any:  # fmt: skip
    r = tl.program_id(0).to(tl.int64) * TR + tl.arange(0, TR)
    c = tl.program_id(1) * TC + tl.arange(0, TC)
    is_column = c < columns
    inside = (r < rows)[:, None] & is_column[None, :]
    place = r[:, None] * columns + c[None, :]
    center = tl.load(mean + c, mask=is_column, other=0.0)
    factor = tl.load(inverse + c, mask=is_column, other=0.0)
    factor *= tl.load(weight + c, mask=is_column, other=0.0).to(tl.float32)
    summand = tl.load(bias + c, mask=is_column, other=0.0).to(tl.float32)
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    value = (value - center[None, :]) * factor[None, :] + summand[None, :]
    if HAS_SHORTCUT:
        value += tl.load(shortcut + place, mask=inside, other=0.0).to(tl.float32)
    value = tl.where((value > 0.0) & (value < LARGEST), value, 0.0)  # NaN is not greater than 0
    tl.store(y + place, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _gradient_sums(
    gradient, x, y, mean, inverse, weight, bias, result, rows, columns, rows_per_chunk,
    HAS_SHORTCUT: tl.constexpr, TR: tl.constexpr, TC: tl.constexpr,
) -> Any:  # fmt: skip
    chunk = tl.program_id(0)
    c = tl.program_id(1) * TC + tl.arange(0, TC)
    is_column = c < columns
    center = tl.load(mean + c, mask=is_column, other=0.0)
    factor = tl.load(inverse + c, mask=is_column, other=0.0)
    scale = tl.load(weight + c, mask=is_column, other=0.0).to(tl.float32)
    summand = tl.load(bias + c, mask=is_column, other=0.0).to(tl.float32)
    total = tl.zeros([TR, TC], tl.float32)
    products = tl.zeros([TR, TC], tl.float32)
    first = (chunk * rows_per_chunk).to(tl.int64)
    for start in range(0, rows_per_chunk, TR):
        r = first + start + tl.arange(0, TR)
        inside = (r < rows)[:, None] & is_column[None, :]
        place = r[:, None] * columns + c[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        value -= center[None, :]
        if HAS_SHORTCUT:
            is_on = tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0
        else:
            is_on = value * (factor * scale)[None, :] + summand[None, :] > 0.0
        value *= factor[None, :]
        g = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
        g = tl.where(inside & is_on, g, 0.0)
        total += g
        products += g * value
    tl.store(result + 2 * chunk * columns + c, tl.sum(products, 0), mask=is_column)
    tl.store(result + (2 * chunk + 1) * columns + c, tl.sum(total, 0), mask=is_column)


@triton.jit
def _sum(partial, result, columns, chunks, AT_ONCE: tl.constexpr, TC: tl.constexpr) -> Any:
    c = tl.program_id(0) * TC + tl.arange(0, TC)
    total = tl.zeros([AT_ONCE, TC], tl.float32)
    for start in range(0, chunks, AT_ONCE):
        i = start + tl.arange(0, AT_ONCE)
        inside = (i < chunks)[:, None] & (c < columns)[None, :]
        total += tl.load(partial + i[:, None] * columns + c[None, :], mask=inside, other=0.0)
    tl.store(result + c, tl.sum(total, 0), mask=c < columns)


@triton.jit
def _gradient(
    gradient, x, y, mean, inverse, weight, bias, for_weight, for_bias, for_x, for_shortcut,
    rows, columns,
    HAS_SHORTCUT: tl.constexpr, LARGEST: tl.constexpr, TR: tl.constexpr, TC: tl.constexpr,
) -> Any:  # fmt: skip
    r = tl.program_id(0).to(tl.int64) * TR + tl.arange(0, TR)
    c = tl.program_id(1) * TC + tl.arange(0, TC)
    is_column = c < columns
    inside = (r < rows)[:, None] & is_column[None, :]
    place = r[:, None] * columns + c[None, :]
    center = tl.load(mean + c, mask=is_column, other=0.0)
    factor = tl.load(inverse + c, mask=is_column, other=0.0)
    scale = tl.load(weight + c, mask=is_column, other=0.0).to(tl.float32)
    summand = tl.load(bias + c, mask=is_column, other=0.0).to(tl.float32)
    mean_product = tl.load(for_weight + c, mask=is_column, other=0.0) / rows
    mean_gradient = tl.load(for_bias + c, mask=is_column, other=0.0) / rows
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    value -= center[None, :]
    if HAS_SHORTCUT:
        is_on = tl.load(y + place, mask=inside, other=0.0).to(tl.float32) > 0.0
    else:
        is_on = value * (factor * scale)[None, :] + summand[None, :] > 0.0
    value *= factor[None, :]
    g = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
    g = tl.where(is_on & (tl.abs(g) < LARGEST), g, 0.0)
    if HAS_SHORTCUT:
        tl.store(for_shortcut + place, g.to(for_shortcut.dtype.element_ty), mask=inside)
    g = (g - mean_gradient[None, :] - value * mean_product[None, :]) * (factor * scale)[None, :]
    g = tl.where(tl.abs(g) < LARGEST, g, 0.0)
    tl.store(for_x + place, g.to(for_x.dtype.element_ty), mask=inside)
