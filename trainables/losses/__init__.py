"""Noise-robust losses as pure functions, and a table of what is known about each.

    loss(logits, labels, *, parameters…) -> values

Logits are [..., batch, classes], labels int64 [..., batch] (or [batch], shared by all members),
values [..., batch]. Nothing is reduced. Every parameter, the logit bias included, may be a tensor
of the leading member dimensions, so that each network of a cohort has its own.
"""

from trainables.losses._basic import ce as ce
from trainables.losses._basic import gce as gce
from trainables.losses._basic import mae as mae
from trainables.losses._common import add_logit_bias as add_logit_bias
from trainables.losses._common import evaluate as evaluate
from trainables.losses._registry import Loss as Loss
from trainables.losses._registry import LossParameterError as LossParameterError
from trainables.losses._registry import Parameter as Parameter
from trainables.losses._registry import UnknownLossError as UnknownLossError
from trainables.losses._registry import get as get
from trainables.losses._registry import names as names
from trainables.losses._registry import register as register
from trainables.losses._registry import registered as registered
