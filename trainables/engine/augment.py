"""Augmentation of whole batches on the device, with an explicit generator.

Images have the shape [N, C, H, W] and stored units (0 … 255), uint8 or floating, before
normalisation. Random numbers are drawn on the CPU and then moved to the device, so a seed gives the
same augmentation on every device. Members that share a batch share its augmentation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainables.engine.augment_settings import AugmentationError as AugmentationError
from trainables.engine.augment_settings import AugmentationSettings

Draws = dict[str, Tensor]
"""{step of the augmentation: its random numbers, one row per image}."""


class Augmentation(AugmentationSettings):
    """Augmentation of training batches, by its settings; 0 or False skips a step."""

    def draw(self, n: int, size: tuple[int, int], generator: torch.Generator) -> Draws:
        """Draw the random numbers for a batch.

        Args:
            n: number of images.
            size: height and width in pixels.
            generator: on the CPU.

        Returns:
            what `apply` needs, on the CPU.
        """
        draws: Draws = {}
        if self.crop:
            draws["crop"] = draw_crops(n, self.crop, generator)
        if self.flip:
            draws["flip"] = draw_flips(n, generator)
        if self.rotation:
            draws["rotation"] = draw_angles(n, self.rotation, generator)
        if self.cutout:
            draws["cutout"] = draw_centres(n, size, generator)
        return draws

    def apply(self, x: Tensor, draws: Draws, fill: Tensor | float = 0) -> Tensor:
        """Augment a batch by given random numbers.

        Args:
            x: uint8 or floating images [N, C, H, W].
            draws: from `draw`, on the device of `x`.
            fill: value inside a cutout, a number or [1, C, 1, 1]; usually the training mean, which
                is 0 after normalisation. Rotation and crop fill with 0 (black), like torchvision.

        Returns:
            an augmented copy, or `x` itself where every step is skipped.
        """
        if self.crop:
            x = crop(x, self.crop, draws["crop"])
        if self.flip:
            x = flip(x, draws["flip"])
        if self.rotation:
            x = rotate(x, draws["rotation"])
        if self.cutout:
            x = cutout(x, self.cutout, draws["cutout"], fill)
        return x

    def __call__(self, x: Tensor, generator: torch.Generator, fill: Tensor | float = 0) -> Tensor:
        """Draw and apply: augment a batch.

        Args:
            x: as in `apply`, on any device.
            generator: on the CPU.
            fill: as in `apply`.
        """
        if self == Augmentation():
            return x
        size = x.shape[-2], x.shape[-1]
        draws = self.draw(len(x), size, generator)
        return self.apply(x, {name: drawn.to(x.device) for name, drawn in draws.items()}, fill)


def draw_crops(n: int, padding: int, generator: torch.Generator) -> Tensor:
    """Shifts down and to the right for `crop`, [N, 2], from 0 to 2 · `padding` pixels."""
    return torch.randint(2 * padding + 1, (2, n), generator=generator).T


def draw_flips(n: int, generator: torch.Generator) -> Tensor:
    """Whether to flip each image, [N], with probability ½."""
    return torch.rand(n, generator=generator) < 0.5


def draw_angles(n: int, degrees: float, generator: torch.Generator) -> Tensor:
    """Angles for `rotate` in radians, [N] float64, uniform in ± `degrees`."""
    turns = torch.rand(n, generator=generator, dtype=torch.float64) * 2 - 1
    return turns * degrees * torch.pi / 180


def draw_centres(n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Random pixels for `cutout`: row and column, [N, 2]."""
    return torch.stack([torch.randint(edge, (n,), generator=generator) for edge in size], 1)


def crop(x: Tensor, padding: int, shifts: Tensor) -> Tensor:
    """Shift each image by up to ± `padding` pixels in both directions, filled with 0.

    Args:
        x: images [N, C, H, W].
        padding: pixels, from 0 to the size of the image.
        shifts: from `draw_crops`.

    Returns:
        shape and type of `x`.
    """
    n, channels, height, width = x.shape
    padded = functional.pad(x, [padding] * 4)
    rows = shifts[:, :1] + torch.arange(height, device=x.device)
    columns = shifts[:, 1:] + torch.arange(width, device=x.device)
    return padded[
        torch.arange(n, device=x.device)[:, None, None, None],
        torch.arange(channels, device=x.device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def flip(x: Tensor, flipped: Tensor) -> Tensor:
    """Flip images left to right.

    Args:
        x: images [N, C, H, W].
        flipped: from `draw_flips`.

    Returns:
        shape and type of `x`.
    """
    return torch.where(flipped[:, None, None, None], x.flip(-1), x)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate each image about its centre; bilinear.

    Args:
        x: images [N, C, H, W].
        angles: from `draw_angles`.

    Returns:
        shape and type of `x`; 0 outside of the original image.
    """
    height, width = x.shape[-2:]
    cos, sin = angles.cos(), angles.sin()
    zero = torch.zeros_like(cos)
    # In units of half the image's edges, so that an image that is not square is not distorted.
    matrix = torch.stack([
        torch.stack([cos, -sin * height / width, zero], 1),
        torch.stack([sin * width / height, cos, zero], 1),
    ], 1)  # fmt: skip
    floating = x if x.is_floating_point() else x.to(torch.float32)
    grid = functional.affine_grid(matrix.to(floating.dtype), list(x.shape), align_corners=False)
    turned = functional.grid_sample(floating, grid, align_corners=False)
    return turned if x.is_floating_point() else turned.round().to(x.dtype)


def cutout(x: Tensor, size: int, centres: Tensor, fill: Tensor | float = 0) -> Tensor:
    """Fill a square with an edge of `size` pixels in each image.

    Args:
        x: images [N, C, H, W].
        size: edge of the square in pixels; the part outside of the image is cut off.
        centres: from `draw_centres`.
        fill: value inside the square, a number or [1, C, 1, 1].

    Returns:
        shape and type of `x`.
    """
    inside = []
    for axis, edge in enumerate(x.shape[-2:]):
        first = centres[:, axis] - size // 2
        pixel = torch.arange(edge, device=x.device)
        inside.append((pixel >= first[:, None]) & (pixel < first[:, None] + size))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    filling = torch.as_tensor(fill, device=x.device)
    if not x.is_floating_point():
        filling = filling.round()
    return torch.where(square, filling.to(x.dtype), x)
