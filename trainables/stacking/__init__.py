"""K networks of one architecture, evaluated as one program.

`stack(model, K)` copies an ordinary module and replaces every layer that has parameters by a
stacked layer, whose parameters have a leading member axis. Everything between these layers (the
module's own `forward`, activations, residual sums, pooling) runs unchanged: members are merged into
the batch axis, so the module sees an ordinary batch of K·B examples. The module needs no change as
long as it treats the examples of a batch one by one.

    input [B, …]  ──first layer──▶  [K·B, …]  ──…──▶  logits [K, B, classes]

Before the first layer with parameters, all members share the same B examples, which are not copied.
K = 1 runs the same code.

This is `Arrangement.BATCH`: the arrangement on a CPU, where a member's result does not depend on K.
On a GPU, convolutional networks have one of two others:

- `Arrangement.GROUPED`: members lie in the channel axis, [B, K·C, H, W]; K convolutions are one
  grouped convolution and K batch norms are one. Fastest for narrow layers. A module whose own
  `forward` works on channels would mix its members; `verification.py` detects that.
- `Arrangement.STREAMS`: each member is evaluated as the ordinary module, on a CUDA stream
  (`streams.py`).
"""

from trainables.stacking.arrangements import Arrangement
from trainables.stacking.layers import STACKED_LAYERS, stacks
from trainables.stacking.layout import UnsupportedLayerError
from trainables.stacking.stacked_model import StackedModel, stack
from trainables.stacking.verification import check_stacking

__all__ = [
    "STACKED_LAYERS",
    "Arrangement",
    "StackedModel",
    "UnsupportedLayerError",
    "check_stacking",
    "stack",
    "stacks",
]
