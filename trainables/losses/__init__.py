"""Noise-robust losses as pure functions, and a table of what is known about each.

    loss(logits, labels, *, parameters…) -> values

Logits are [..., batch, classes], labels int64 [..., batch] (or [batch], shared by all members),
values [..., batch]. Nothing is reduced. Every parameter, the logit bias included, may be a tensor
of the leading member dimensions, so that each network of a cohort has its own.
"""

from trainables.losses._absolute import alpha_mae as alpha_mae
from trainables.losses._absolute import gce as gce
from trainables.losses._absolute import js as js
from trainables.losses._absolute import mae as mae
from trainables.losses._absolute import rce as rce
from trainables.losses._absolute import sce as sce
from trainables.losses._absolute import sgce as sgce
from trainables.losses._absolute import truncated_gce as truncated_gce
from trainables.losses._absolute import unhinged as unhinged
from trainables.losses._asymmetric import ael as ael
from trainables.losses._asymmetric import agce as agce
from trainables.losses._asymmetric import aul as aul
from trainables.losses._common import add_logit_bias as add_logit_bias
from trainables.losses._common import log_probability as log_probability
from trainables.losses._common import per_class as per_class
from trainables.losses._common import per_example as per_example
from trainables.losses._entropy import bounded_ce as bounded_ce
from trainables.losses._entropy import ce as ce
from trainables.losses._entropy import focal as focal
from trainables.losses._entropy import label_smoothing as label_smoothing
from trainables.losses._entropy import phuber_ce as phuber_ce
from trainables.losses._entropy import taylor_ce as taylor_ce
from trainables.losses._evaluate import evaluate as evaluate
from trainables.losses._evaluate import evaluate_log_odds as evaluate_log_odds
from trainables.losses._evaluate import evaluate_rescaled as evaluate_rescaled
from trainables.losses._log_odds import log_odds as log_odds
from trainables.losses._log_odds import log_odds_and_rival as log_odds_and_rival
from trainables.losses._log_odds import of_probability as of_probability
from trainables.losses._normalised import nce as nce
from trainables.losses._normalised import nfl as nfl
from trainables.losses._normalised import nnce as nnce
from trainables.losses._normalised import nnfl as nnfl
from trainables.losses._outputs import eps_softmax as eps_softmax
from trainables.losses._outputs import eps_softmax_mae as eps_softmax_mae
from trainables.losses._outputs import ldr_kl as ldr_kl
from trainables.losses._outputs import logit_clip as logit_clip
from trainables.losses._registry import Loss as Loss
from trainables.losses._registry import LossParameterError as LossParameterError
from trainables.losses._registry import Parameter as Parameter
from trainables.losses._registry import Preset as Preset
from trainables.losses._registry import UnknownLossError as UnknownLossError
from trainables.losses._registry import get as get
from trainables.losses._registry import names as names
from trainables.losses._registry import register as register
from trainables.losses._registry import registered as registered
from trainables.losses._sums import anl_ce as anl_ce
from trainables.losses._sums import anl_fl as anl_fl
from trainables.losses._sums import nce_ael as nce_ael
from trainables.losses._sums import nce_agce as nce_agce
from trainables.losses._sums import nce_aul as nce_aul
from trainables.losses._sums import nce_mae as nce_mae
from trainables.losses._sums import nce_rce as nce_rce
from trainables.losses._sums import nfl_mae as nfl_mae
from trainables.losses._sums import nfl_rce as nfl_rce
from trainables.losses._tempered import bi_tempered as bi_tempered
from trainables.losses._tempered import log_tempered_softmax as log_tempered_softmax
from trainables.losses.schedules import EPSILON_SCHEDULES as EPSILON_SCHEDULES
from trainables.losses.schedules import epsilon_factor as epsilon_factor
