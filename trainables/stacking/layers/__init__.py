"""Layers that hold the parameters of K networks, one module per kind of layer."""

from trainables.stacking.layers.batch_norm import StackedBatchNorm
from trainables.stacking.layers.conv_norm_relu import StackedConvNormReLU
from trainables.stacking.layers.convolutional import StackedConv2d, StackedPadChannels
from trainables.stacking.layers.linear import StackedLinear
from trainables.stacking.layers.registry import STACKED_LAYERS, stacks

__all__ = [
    "STACKED_LAYERS",
    "StackedBatchNorm",
    "StackedConv2d",
    "StackedConvNormReLU",
    "StackedLinear",
    "StackedPadChannels",
    "stacks",
]
