"""Whether the best ε follows the spread of the initial logits, which the architecture sets.

The rule `activation` assumes a spread of 1 for every model. If the real spread matters, the
difference of best and analytic ε correlates with it, and less so if the rule uses the measured
spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.data.load import Study
from analysis.inference.cell_records import CellVerdict
from trainables.theory.logit_bias import solve_epsilon

COLUMNS = [
    *("cell_id", "dataset", "classes", "model", "loss", "noise_kind", "noise_rate"),
    *("logit_std_init", "epsilon_best", "epsilon_best_low", "epsilon_best_high"),
    *("epsilon_at_1", "epsilon_at_spread", "off_at_1", "off_at_spread"),
]


def logit_spread(study: Study, judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row per cell that has a best ε and a recorded spread.

    Args:
        study: as loaded.
        judged: the cells' verdicts.

    Returns:
        the columns `COLUMNS`: factors of the cell; logit_std_init, the mean over its networks;
        the best ε with its 95 % interval; the ε of the rule `activation` for a spread of 1 and for
        the measured spread; the best ε minus each of them.
    """
    spreads = study.trials.groupby("cell_id")["logit_std_init"].mean()
    target = (study.config.get("logit_bias") or {}).get("target")
    rows = []
    for cell in judged:
        best, spread = cell.epsilon_best, float(spreads.get(cell.cell_id, np.nan))
        if best is None or best.on_edge or best.flat or not 0 < spread <= 100:
            continue
        at_one = solve_epsilon(cell.classes, target)
        at_spread = solve_epsilon(cell.classes, target, spread)
        rows.append(
            {
                **{k: getattr(cell, k) for k in COLUMNS[:7]},
                "logit_std_init": spread,
                "epsilon_best": best.value,
                "epsilon_best_low": best.low,
                "epsilon_best_high": best.high,
                "epsilon_at_1": at_one,
                "epsilon_at_spread": at_spread,
                "off_at_1": best.value - at_one,
                "off_at_spread": best.value - at_spread,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)
