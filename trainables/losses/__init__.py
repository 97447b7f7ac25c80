"""Noise-robust losses as pure functions, and a registry of what is known about each.

    loss(logits, labels, *, parameter…) -> values

Logits are [..., batch, classes], labels int64 [..., batch] (or [batch], shared by all members),
values [..., batch]. Nothing is reduced. Every parameter, the logit bias included, may be a tensor
of the leading member dimensions [...]: each network of a cohort can then have its own value. A
loss that depends on the labelled class's probability alone is written as a function of log p (see
`of_probability`), and is called in the same way.

`Criterion` is a loss with its logit bias as a `torch.nn.Module`, for training loops of your own.

The package can be imported without PyTorch, for example to list the losses; only calling a loss
needs PyTorch.
"""

from typing import TYPE_CHECKING

from trainables.losses._absolute import (
    alpha_mae,
    gce,
    js,
    mae,
    rce,
    sce,
    sgce,
    truncated_gce,
    unhinged,
)
from trainables.losses._asymmetric import ael, agce, aul
from trainables.losses._common import add_logit_bias, log_probability, per_class, per_example
from trainables.losses._entropy import bounded_ce, ce, focal, label_smoothing, phuber_ce, taylor_ce
from trainables.losses._evaluate import (
    evaluate,
    evaluate_every_label,
    evaluate_log_odds,
    evaluate_rescaled,
)
from trainables.losses._joint import nce_amse
from trainables.losses._log_odds import log_odds, log_odds_and_largest_other, of_probability
from trainables.losses._negative_sums import anl_ce, anl_fl
from trainables.losses._normalised import nce, nfl, nnce, nnfl
from trainables.losses._outputs import eps_softmax, eps_softmax_mae, ldr_kl, logit_clip
from trainables.losses._registry import (
    Loss,
    LossParameterError,
    Parameter,
    Preset,
    UnknownLossError,
    get,
    names,
    register,
    registered,
)
from trainables.losses._sums import nce_ael, nce_agce, nce_aul, nce_mae, nce_rce, nfl_mae, nfl_rce
from trainables.losses._tempered import bi_tempered, log_tempered_softmax
from trainables.losses.schedules import EPSILON_SCHEDULES, epsilon_factor

if TYPE_CHECKING:
    from trainables.losses.criterion import Criterion

__all__ = [
    "EPSILON_SCHEDULES",
    "Criterion",
    "Loss",
    "LossParameterError",
    "Parameter",
    "Preset",
    "UnknownLossError",
    "add_logit_bias",
    "ael",
    "agce",
    "alpha_mae",
    "anl_ce",
    "anl_fl",
    "aul",
    "bi_tempered",
    "bounded_ce",
    "ce",
    "eps_softmax",
    "eps_softmax_mae",
    "epsilon_factor",
    "evaluate",
    "evaluate_every_label",
    "evaluate_log_odds",
    "evaluate_rescaled",
    "focal",
    "gce",
    "get",
    "js",
    "label_smoothing",
    "ldr_kl",
    "log_odds",
    "log_odds_and_largest_other",
    "log_probability",
    "log_tempered_softmax",
    "logit_clip",
    "mae",
    "names",
    "nce",
    "nce_ael",
    "nce_agce",
    "nce_amse",
    "nce_aul",
    "nce_mae",
    "nce_rce",
    "nfl",
    "nfl_mae",
    "nfl_rce",
    "nnce",
    "nnfl",
    "of_probability",
    "per_class",
    "per_example",
    "phuber_ce",
    "rce",
    "register",
    "registered",
    "sce",
    "sgce",
    "taylor_ce",
    "truncated_gce",
    "unhinged",
]


def __getattr__(name: str) -> object:
    """Import `Criterion` on use: it needs PyTorch and the rules for ε, the other names do not."""
    if name == "Criterion":
        from trainables.losses.criterion import Criterion

        return Criterion
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
