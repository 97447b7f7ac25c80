"""Does the best ε follow the spread of the initial logits, which depth and architecture set?

The rule `activation` takes the spread for 1 whatever the model. If models' real spreads matter, the
difference of best and analytic ε goes with the spread, and less so where the measured spread goes
into the rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.data.load import Study
from analysis.inference.records import CellVerdict
from trainables.theory.logit_bias import solve_epsilon

COLUMNS = [
    *("cell_id", "dataset", "classes", "model", "loss", "noise_kind", "noise_rate"),
    *("logit_std_init", "epsilon_best", "epsilon_best_low", "epsilon_best_high"),
    *("epsilon_at_1", "epsilon_at_spread", "off_at_1", "off_at_spread"),
]


def logit_spread(study: Study, judged: Sequence[CellVerdict]) -> pd.DataFrame:
    """One row a cell with a best ε and a recorded spread.

    Args:
        study: as loaded.
        judged: cells of `verdict.json`.

    Returns:
        the cell's factors; logit_std_init (mean over its networks); the best ε with its 95 %
        interval; the `activation` rule's ε at spread 1 and at that spread; best ε minus each.
    """
    spreads = study.trials.groupby("cell_id")["logit_std_init"].mean()
    target = (study.config.get("logit_bias") or {}).get("target")
    rows = []
    for cell in judged:
        best, spread = cell.epsilon_best, float(spreads.get(cell.cell_id, np.nan))
        if best is None or best.on_edge or best.flat or not 0 < spread <= 100:
            continue
        usual = solve_epsilon(cell.classes, target)
        measured = solve_epsilon(cell.classes, target, spread)
        rows.append(
            {
                **{k: getattr(cell, k) for k in COLUMNS[:7]},
                "logit_std_init": spread,
                "epsilon_best": best.value,
                "epsilon_best_low": best.low,
                "epsilon_best_high": best.high,
                "epsilon_at_1": usual,
                "epsilon_at_spread": measured,
                "off_at_1": best.value - usual,
                "off_at_spread": best.value - measured,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)
