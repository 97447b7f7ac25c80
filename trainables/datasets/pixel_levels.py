"""Grey images with more than 8 bits per pixel: which values become black and which white.

Pillow turns such an image into RGB by cutting every value off at 255. Networks are trained on 8
bits, so the values are scaled instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_BITS_PER_SAMPLE = 258  # a TIFF tag


def is_high_bit_depth(mode: str) -> bool:
    """Whether Pillow's mode has more than 8 bits per channel: `I;16` and its kin, `I` and `F`."""
    return mode.startswith("I;16") or mode in ("I", "F")


def kind(mode: str) -> str:
    """A high-bit-depth mode in words, for messages."""
    if mode == "F":
        return "floating-point"
    return "32-bit" if mode == "I" else "16-bit"


def usual_white(image: Image) -> float:
    """The value that is white by the file format; NaN where no rule says it.

    The largest value of the file's bits (12 or 16) for unsigned integers, and 1 for floating-point
    numbers. 32-bit integers, and 16-bit integers with a sign, have no usual white.

    Args:
        image: an open image with a high-bit-depth mode.
    """
    if image.mode == "F":
        return 1.0
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # those hold 16 bits
        return math.nan
    bits = 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]  # type: ignore[attr-defined]
    return float(2**bits - 1)


def values(image: Image) -> NDArray[np.float64]:
    """The pixels of a high-bit-depth image [H, W].

    Raises:
        ValueError: a pixel is not a finite number.
    """
    pixels: NDArray[np.float64] = np.asarray(image).astype(np.float64)
    if not np.isfinite(pixels).all():
        raise ValueError("a pixel is not a finite number")
    return pixels


@dataclass(frozen=True)
class Levels:
    """Which values of high-bit-depth images become 0 (black) and 255 (white).

    Attributes:
        black: None for 0.
        white: None for what is usual; see `usual_white`.
    """

    black: float | None = None
    white: float | None = None

    def to_8_bits(self, image: Image) -> Image:
        """The image in grey with 8 bits; values beyond black and white are cut off.

        Args:
            image: an open image with a high-bit-depth mode.

        Raises:
            ValueError: no rule says what is white, or a pixel is not a finite number.
        """
        from PIL import Image as images

        black = 0.0 if self.black is None else self.black
        white = usual_white(image) if self.white is None else self.white
        if not white > black:  # also where it is NaN
            raise ValueError(f"black = {black:g} and white = {white:g}: white must be above black")
        scaled = (values(image) - black) * (255 / (white - black))
        return images.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8))


USUAL = Levels()
"""No option is given."""
