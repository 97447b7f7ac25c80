"""Over cells: pooled regret, claims about many cells, agreement of values, trend with noise.

Cells of a study share seeds, and cells of a data set share more than that; so the mean over cells
is taken within seed before its interval, and the step to other data sets treats data sets, not
cells, as the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse.csgraph import connected_components
from statsmodels.stats.multitest import multipletests

from analysis.data.load import ANALYTIC
from analysis.inference.agreement import (
    CONFIDENCE,
    VERDICTS,
    Interval,
    conclude,
    judge,
    mean_interval,
)

SLOPE_MARGIN = 1.0  # ε per unit noise rate: 0.4 over a rate of 40 %
Cells = Sequence[dict[str, Any]]


def pool(judged: Cells, pairs: pd.DataFrame, margin: float) -> dict[str, Any]:
    """The pooled block of `verdict.json`, for each cell's primary rule.

    Args:
        judged: from `agreement.judge_cell`.
        pairs: columns cell_id, arm, seed, regret (of `agreement.regrets`, all cells).
        margin: δ.
    """
    sensitive = [c for c in judged if c["verdict"] != "insensitive"]
    regret = seed_mean(sensitive, pairs)
    counts = {v: sum(c["verdict"] == v for c in judged) for v in VERDICTS}
    verdict = conclude(regret, margin) if sensitive else "insensitive"
    return {
        "cells": len(judged),
        "counts": counts,
        "sensitive_cells": len(sensitive),
        "regret": regret.asdict(),
        "all_cells_regret": seed_mean(judged, pairs).asdict(),
        "between_datasets": between_datasets(sensitive, pairs),
        "confidence": CONFIDENCE,
        "margin": margin,
        "verdict": verdict if judged else "inconclusive",
        # Intersection–union: each cell at its own level, no correction.
        "non_inferior_in_every_cell": bool(judged) and counts["non_inferior"] == len(judged),
        # A list of the cells that passed is a selection: Holm.
        "non_inferior_cells_holm": holm(judged),
    }


def seed_mean(cells: Cells, pairs: pd.DataFrame) -> Interval:
    """Mean regret over cells with its t interval.

    Cells that share seeds are averaged within seed first, over the seeds that all of them have.
    Cells that share none (those of different studies) are independent, and so are cells that share
    fewer than two; degrees of freedom are then Satterthwaite's.
    """
    wanted = {c["cell_id"]: ANALYTIC + c["rule"] for c in cells if c["rule"]}
    mine = pairs[pairs["cell_id"].map(wanted) == pairs["arm"]]
    table = mine.pivot_table(index="seed", columns="cell_id", values="regret")
    if table.empty:
        return mean_interval([])
    blocks = [b for some in _sharing(table) for b in _by_seed(table[some])]
    if len(blocks) == 1:
        return mean_interval(blocks[0][1])
    share = np.array([weight for weight, _ in blocks]) / table.shape[1]
    mean = float(share @ [values.mean() for _, values in blocks])
    n = min(len(values) for _, values in blocks)
    if n < 2:
        return Interval(mean, None, None, n)
    part = share**2 * [values.var(ddof=1) / len(values) for _, values in blocks]
    variance, freedom = float(part.sum()), np.array([len(values) - 1 for _, values in blocks])
    dof = variance**2 / float((part**2 / freedom).sum()) if variance > 0 else float(freedom.sum())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, dof) * np.sqrt(variance))
    return Interval(mean, mean - half, mean + half, n)


def _sharing(table: pd.DataFrame) -> list[list[str]]:
    """Columns of a table (seeds, cells), those that share seeds (directly or not) together."""
    there = table.notna().to_numpy().astype(float)
    _, group = connected_components(there.T @ there, directed=False)
    return [list(table.columns[group == g]) for g in range(group.max() + 1)]


def _by_seed(table: pd.DataFrame) -> list[tuple[int, np.ndarray]]:
    """Independent parts of cells that share seeds: (cells, mean over them for each seed)."""
    shared = table.dropna()
    if len(shared) >= 2 or table.shape[1] == 1:
        return [(table.shape[1], shared.mean(axis=1).to_numpy())]
    return [(1, table[cell].dropna().to_numpy()) for cell in table]


def between_datasets(cells: Cells, pairs: pd.DataFrame) -> dict[str, Any] | None:
    """Random effects over data sets: what to expect on another one; None below two data sets."""
    by_dataset = pd.DataFrame(
        [
            {"dataset": name, "mean": i.mean, "variance": _variance(i)}
            for name in dict.fromkeys(c["dataset"] for c in cells)
            if (i := seed_mean([c for c in cells if c["dataset"] == name], pairs)).low is not None
        ]
    )
    if len(by_dataset) < 2:
        return None
    found = random_effects(by_dataset["mean"].to_numpy(), by_dataset["variance"].to_numpy())
    return {"datasets": len(by_dataset), **found}


def random_effects(
    effects: np.ndarray, variances: np.ndarray, confidence: float = CONFIDENCE
) -> dict[str, Any]:
    """Random-effects mean with the Hartung–Knapp–Sidik–Jonkman interval.

    Between-study variance by Paule & Mandel (1982). The HKSJ factor is kept at or above 1 (Röver,
    Knapp & Friede 2015), because with two or three studies that happen to agree the plain factor
    gives intervals narrower than those of one study.

    Args:
        effects: (k,) study means, k ≥ 2.
        variances: (k,) their squared standard errors.
        confidence: two-sided level.

    Returns:
        mean, low, high, tau (standard deviation between studies), prediction_low,
        prediction_high (Higgins et al. 2009; None below three studies).
    """
    y = np.asarray(effects, dtype=float)
    v = np.maximum(np.asarray(variances, dtype=float), 1e-16)
    k = len(y)

    def excess(tau2: float) -> float:
        w = 1 / (v + tau2)
        return float((w * (y - (w * y).sum() / w.sum()) ** 2).sum() - (k - 1))

    tau2 = 0.0
    if excess(0.0) > 0:
        low, high = 0.0, float(np.ptp(y) ** 2 + v.max())
        while excess(high) > 0:
            high *= 2
        for _ in range(200):
            tau2 = (low + high) / 2
            low, high = (tau2, high) if excess(tau2) > 0 else (low, tau2)
    w = 1 / (v + tau2)
    mean = float((w * y).sum() / w.sum())
    factor = max(1.0, float((w * (y - mean) ** 2).sum() / (k - 1)))
    error = float(np.sqrt(factor / w.sum()))
    half = float(stats.t.ppf((1 + confidence) / 2, k - 1)) * error
    out: dict[str, Any] = {"mean": mean, "low": mean - half, "high": mean + half}
    out |= {"tau": float(np.sqrt(tau2)), "prediction_low": None, "prediction_high": None}
    if k > 2:
        wide = float(stats.t.ppf((1 + confidence) / 2, k - 2)) * float(np.sqrt(tau2 + error**2))
        out |= {"prediction_low": mean - wide, "prediction_high": mean + wide}
    return out


def holm(judged: Cells, alpha: float = (1 - CONFIDENCE) / 2) -> list[str]:
    """The cells of which non-inferiority can be claimed together, by Holm at one-sided `alpha`."""
    tested = [
        (c["cell_id"], p)
        for c in judged
        if c["rule"]
        and c["verdict"] != "insensitive"
        and (p := c["by_rule"][c["rule"]]["non_inferiority_p"]) is not None
    ]
    if not tested:
        return []
    passed = multipletests([p for _, p in tested], alpha=alpha, method="holm")[0]
    return [name for (name, _), ok in zip(tested, passed, strict=True) if ok]


def margin_curve(
    judged: Cells, pairs: pd.DataFrame, margins: np.ndarray | None = None
) -> pd.DataFrame:
    """The conclusion against δ: verdict counts and pooled verdict for each margin.

    Returns:
        columns margin, one count a verdict, pooled (over the cells that are sensitive at the
        study's own margin, so that the average stays the same).
    """
    margins = np.round(np.arange(0.001, 0.0305, 0.0005), 6) if margins is None else margins
    sensitive = [c for c in judged if c["verdict"] != "insensitive"]
    average = seed_mean(sensitive, pairs)
    rows = []
    for margin in margins:
        verdicts = []
        for c in judged:
            found = c["regret"][c["rule"]] if c["rule"] else mean_interval([]).asdict()
            regret = Interval(*(found[k] for k in ("mean", "low", "high", "n")))
            control = Interval(**c["controls"]["zero"]) if "zero" in c["controls"] else None
            verdicts.append(judge(regret, control, float(margin))[0])
        pooled = conclude(average, float(margin)) if sensitive else "insensitive"
        rows.append(
            {"margin": margin, **{v: verdicts.count(v) for v in VERDICTS}, "pooled": pooled}
        )
    return pd.DataFrame(rows)


def value_agreement(judged: Cells) -> dict[str, dict[str, Any]]:
    """Agreement of the values, by rule: Bland & Altman (1986) of best ε − analytic ε over cells.

    Cells whose best ε lies on the edge of the range, or that have none because their curve is flat,
    are counted and left out. Cells of one data set
    are not independent, so the intervals are too narrow; they describe these cells.

    Returns:
        {rule: cells, on_edge, flat, bias, bias_low, bias_high, limit_low, limit_high (95 % limits
        of agreement), inside (share of cells whose analytic ε is in the indifference region),
        regret (mean over cells)}.
    """
    rules = list(dict.fromkeys(r for c in judged for r in c["epsilon_analytic"]))
    out = {}
    for rule in rules:
        mine = [c for c in judged if rule in c["epsilon_analytic"] and c["epsilon_best"]]
        edge = [c for c in mine if c["epsilon_best"]["on_edge"]]
        flat = [c for c in mine if c["epsilon_best"]["flat"]]
        usable = [c for c in mine if c not in edge and c not in flat]
        d = np.array([c["epsilon_best"]["value"] - c["epsilon_analytic"][rule] for c in usable])
        bias = mean_interval(d, 0.95)
        spread = float(d.std(ddof=1)) if len(d) > 1 else None
        inside = [c["response"]["analytic_inside"][rule] for c in mine]
        means = [m for c in judged if (m := c["regret"].get(rule, {}).get("mean")) is not None]
        limits: tuple[float | None, float | None] = (None, None)
        if spread is not None and bias.mean is not None:
            limits = (bias.mean - 1.96 * spread, bias.mean + 1.96 * spread)
        out[rule] = {
            "cells": len(mine),
            "on_edge": len(edge),
            "flat": len(flat),
            "bias": bias.mean,
            "bias_low": bias.low,
            "bias_high": bias.high,
            "limit_low": limits[0],
            "limit_high": limits[1],
            "inside": float(np.mean(inside)) if inside else None,
            "regret": float(np.mean(means)) if means else None,
        }
    return out


def noise_slopes(judged: Cells, places: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Does the best ε move with the noise rate? One least-squares slope a data set, model and loss.

    Clean cells belong to every noise kind. The interval comes from the drawn places of the maxima,
    cell by cell, so it is that of these cells' sweeps.

    Args:
        judged: cells of `verdict.json`.
        places: {cell_id: (draws,) drawn best ε}, from `analysis.response.fit.Response.peaks`.

    Returns:
        one dict a group: dataset, model, loss, noise_kind, rates, slope, low, high (95 %, ε per
        unit rate), equivalent (90 % interval within ±SLOPE_MARGIN), on_edge, flat (some cell's is).
    """
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for c in judged:
        if c["cell_id"] in places:
            groups.setdefault((c["dataset"], c["model"], c["loss"]), []).append(c)
    out = []
    for (dataset, model, loss), cells in groups.items():
        clean = [c for c in cells if c["noise_rate"] == 0][:1]
        kinds = dict.fromkeys(c["noise_kind"] for c in cells if c["noise_rate"] > 0)
        for kind in kinds:
            mine = clean + [c for c in cells if c["noise_rate"] > 0 and c["noise_kind"] == kind]
            rate = np.array([c["noise_rate"] for c in mine])
            if len(np.unique(rate)) < 2:
                continue
            drawn = np.stack([places[c["cell_id"]] for c in mine])  # (cells, draws)
            rng = np.random.default_rng(0)
            drawn = rng.permuted(drawn, axis=1)  # cells' draws are independent, not paired
            centred = rate - rate.mean()
            slope = centred @ drawn / (centred @ centred)
            q = np.quantile(slope, [0.025, 0.05, 0.5, 0.95, 0.975])
            out.append(
                {
                    **{"dataset": dataset, "model": model, "loss": loss, "noise_kind": kind},
                    "rates": [float(r) for r in rate],
                    **{"slope": float(q[2]), "low": float(q[0]), "high": float(q[4])},
                    "equivalent": bool(q[1] > -SLOPE_MARGIN and q[3] < SLOPE_MARGIN),
                    "on_edge": any(c["epsilon_best"]["on_edge"] for c in mine),
                    "flat": any(c["epsilon_best"]["flat"] for c in mine),
                }
            )
    return out


def _variance(interval: Interval) -> float:
    """Squared standard error of a t interval."""
    assert interval.high is not None
    assert interval.mean is not None
    half = interval.high - interval.mean
    return float((half / stats.t.ppf((1 + CONFIDENCE) / 2, interval.n - 1)) ** 2)
