"""Settings of the augmentation. They need no PyTorch, so a study file is checked fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


class AugmentationError(ValueError):
    """An augmentation that is not allowed; the message is one line for the user."""


@dataclass(frozen=True)
class AugmentationSettings:
    """What is done to training batches, in the order of the attributes; 0 or False skips a step.

    Attributes:
        crop: pixels of padding at every edge, before a crop of the original size at a random place.
        flip: whether images are flipped left to right, with probability ½.
        rotation: images are rotated by an angle uniform in ± `rotation` degrees, from 0 to 180.
        cutout: edge in pixels of a square that is filled, centred on a random pixel and cut off at
            the image's edge (DeVries & Taylor 2017, arXiv 1708.04552).

    Raises:
        AugmentationError: a value out of range.
    """

    crop: int = 0
    flip: bool = False
    rotation: float = 0.0
    cutout: int = 0

    def __post_init__(self) -> None:
        if not _is_number(self.rotation) or not 0 <= self.rotation <= 180:
            raise AugmentationError(
                f"augmentation rotation = {self.rotation!r}; allowed: 0 to 180 degrees"
            )
        for name in ("crop", "cutout"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise AugmentationError(
                    f"augmentation {name} = {value!r}; allowed: whole numbers of pixels from 0"
                )
        if not isinstance(self.flip, bool):
            raise AugmentationError(f"augmentation flip = {self.flip!r}; allowed: true, false")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """An augmentation from plain data.

        Raises:
            AugmentationError: an unknown setting or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise AugmentationError(
                    f"unknown augmentation {name!r}; allowed: {', '.join(known)}"
                )
        return cls(**settings)

    def check(self, input_shape: tuple[int, ...]) -> None:
        """Make sure that the augmentation suits the inputs.

        Args:
            input_shape: shape of one example.

        Raises:
            AugmentationError: the inputs are not images, or are smaller than the padding.
        """
        if self == type(self)():
            return
        if len(input_shape) != 3:
            raise AugmentationError(f"augmentation needs images, not inputs {input_shape}")
        if self.crop > min(input_shape[1:]):
            raise AugmentationError(
                f"augmentation crop = {self.crop}; allowed: up to the image, {input_shape[1:]}"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
