"""Convolutional networks of the robust-loss literature, for images [batch, C, H, W]."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainables.models.conv_norm_relu import ConvNormReLU
from trainables.models.limits import check_image


class CNN8(nn.Sequential):
    """The eight-layer network of Ma et al. (ICML 2020) and later work on CIFAR-10.

    Three stages of 64, 128 and 196 channels, each of two 3×3 convolutions with batch norm and ReLU
    and a 2×2 max pooling; then two linear layers with 256 units between them.

    Args:
        input_shape: (C, H, W), at least 8 × 8 pixels.
        classes: number of classes.

    Raises:
        ValueError: the input is not an image, or it is too small.
    """

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        channels, height, width = _image(input_shape, smallest=8, name="cnn8")
        layers: list[nn.Module] = []
        for out in (64, 128, 196):
            for _ in range(2):
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2))
        layers += [
            nn.Flatten(),
            nn.Linear(channels * (height // 8) * (width // 8), 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Linear(256, classes),
        ]
        super().__init__(*layers)


class CifarResNet(nn.Module):
    """ResNet of 6n + 2 layers for 32×32 images (He et al. 2016, section 4.2).

    Three stages of n blocks with 16, 32 and 64 channels; shortcuts without parameters (option A).

    Args:
        input_shape: (C, H, W), at least 4 × 4 pixels.
        classes: number of classes.
        depth: number of layers, 6n + 2.

    Raises:
        ValueError: the input is not an image or is too small, or `depth` is not allowed.
    """

    def __init__(self, input_shape: tuple[int, ...], classes: int, *, depth: int = 32) -> None:
        super().__init__()
        channels, _, _ = _image(input_shape, smallest=4, name=f"resnet{depth}")
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth = {depth}; allowed: 6n + 2 layers (20, 32, 44, 56, …)")
        blocks: list[nn.Module] = []
        width = 16
        for stage in range(3):
            for block in range((depth - 2) // 6):
                out = 16 * 2**stage
                blocks.append(_Block(width, out, stride=2 if stage and not block else 1))
                width = out
        self.stem = ConvNormReLU(channels, 16)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        logits: torch.Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNormReLU(channels, out, stride=stride)
        self.second = ConvNormReLU(out, out)
        self.stride = stride
        self.shortcut = PadChannels(out - channels) if out > channels else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        if self.stride > 1:  # every second pixel; a slice would take its gradient longer on a GPU
            shortcut = nn.functional.avg_pool2d(x, 1, self.stride)
        shortcut = self.shortcut(shortcut)
        y: torch.Tensor = self.second(self.first(x), shortcut)
        return y


class PadChannels(nn.Module):
    """Append channels of zeros to images [batch, C, H, W].

    A layer instead of a call in `forward`, because `trainables.stacking` replaces it by a stacked
    layer.

    Args:
        channels: number of channels to append.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [batch, C + `channels`, H, W]."""
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.channels))


def imagenet_resnet(input_shape: tuple[int, ...], classes: int, *, layers: int = 34) -> nn.Module:
    """Torchvision's ResNet-18, -34 or -50.

    For images of at most 64 pixels the stem is one 3×3 convolution without pooling, as in the
    robust-loss papers on CIFAR.

    Args:
        input_shape: (C, H, W), at least 8 × 8 pixels.
        classes: number of classes.
        layers: 18, 34 or 50.

    Returns:
        the untrained network.

    Raises:
        ValueError: the input is not an image, or it is too small.
    """
    import torchvision  # not at the top: slow to import, and few studies need it

    channels, height, _ = _image(input_shape, smallest=8, name=f"resnet{layers}")
    network: Any = getattr(torchvision.models, f"resnet{layers}")(num_classes=classes)
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for i, block in enumerate(stage):
            if isinstance(block, torchvision.models.resnet.BasicBlock):
                stage[i] = _BasicBlock(block)
    if height <= 64:
        network.conv1 = ConvNormReLU(channels, 64)
        network.bn1 = network.relu = network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    built: nn.Module = network
    return built


class _BasicBlock(nn.Module):
    """Torchvision's block of two convolutions, of layers that a GPU computes faster."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        conv = block.conv1
        self.first = ConvNormReLU(conv.in_channels, conv.out_channels, stride=conv.stride[0])
        self.second = ConvNormReLU(conv.out_channels, conv.out_channels)
        self.downsample: nn.Module | None = block.downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y: torch.Tensor = self.second(self.first(x), shortcut)
        return y


def _image(input_shape: tuple[int, ...], smallest: int, name: str) -> tuple[int, int, int]:
    check_image(name, input_shape, smallest)
    channels, height, width = input_shape
    return channels, height, width
