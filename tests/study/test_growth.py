"""A finished study grows in its folder: what is new is trained, what is there is kept."""

from typing import Any

import pandas as pd
import pytest
from growing import BEST, GRID, changed, finish, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import BEST_STUDY, JOINT_STUDY

from analysis.data.superseded import superseded_choices
from study.config.loader import StudyFileError
from study.planning.growth import Growth, growth


def counts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `growth` takes: here one count per row."""
    return [{**r, "count": 1} for r in rows]


def grown(
    old: dict[str, Any], new: dict[str, Any], rows: list[dict[str, Any]], *earlier: dict[str, Any]
) -> Growth | None:
    plans = plan_of(old, *earlier), plan_of(new, *earlier, old)
    return growth(*plans, counts(rows), has_checkpoints=False, where="here")


def ids(rows: list[dict[str, Any]], *stages: str) -> set[str]:
    return {r["network_id"] for r in rows if not stages or r["stage"] in stages}


GROWN_AS_PLANNED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "replicates": (BEST, changed(BEST, search__replicates=4)),
    "seeds": (BEST, changed(BEST, confirm__replicate_seeds=5, sweep__seeds=3)),
    "noise": (BEST, changed(BEST, grid__noise=[*GRID["grid"]["noise"]])),
    "losses": (BEST, changed(BEST, grid__loss=["gce", "mae"])),
    "datasets": (BEST, changed(BEST, grid__dataset=[*GRID["grid"]["dataset"]])),
    "networks": (GRID, changed(GRID, search__networks_per_cell=7)),
    "networks-qmc": (
        changed(GRID, search__sampler="qmc"),
        changed(GRID, search__sampler="qmc", search__networks_per_cell=7),
    ),
    "networks-tpe": (
        changed(GRID, search__sampler="tpe", search__networks_per_cell=8),
        changed(GRID, search__sampler="tpe", search__networks_per_cell=11),
    ),
    "joint": (
        changed(JOINT_STUDY, search__sampler="random"),
        changed(JOINT_STUDY, search__sampler="random", search__networks_per_cell=7),
    ),
    "sweep-grid": (GRID, changed(GRID, sweep__points=5, sweep__lr_points=6)),
    "arm-ce": (
        changed(GRID, confirm__arms=["tuned", "analytic:activation"]),
        changed(GRID, confirm__arms=["tuned", "ce", "analytic:activation"]),
    ),
}


@pytest.mark.parametrize("name", GROWN_AS_PLANNED)
def test_a_grown_study_trains_what_one_planned_so_from_the_start_trains(name: str) -> None:
    old, new = GROWN_AS_PLANNED[name]
    rows: list[dict[str, Any]] = []
    finish(plan_of(old), rows)
    result = grown(old, new, rows)
    assert result is not None
    assert sum(result.kept.values()) == len(rows)
    plan = plan_of(new, old)
    scheduler = finish(plan, rows)
    assert scheduler.is_done
    assert scheduler.networks_done == scheduler.networks_total
    fresh: list[dict[str, Any]] = []
    finish(plan_of(new), fresh)
    assert ids(rows, "search", "sweep") == ids(fresh, "search", "sweep")
    # The choices of searches are those of the grown searches; earlier choices are left out.
    left_out = superseded_choices(pd.DataFrame(rows), new)
    assert left_out.sum() == scheduler.superseded
    choices = [r for r, out in zip(rows, left_out, strict=True) if is_choice(r) and not out]
    assert ids(choices) == ids([r for r in fresh if is_choice(r)])
    # Pooled arms with rows keep their points: each arm of a cell has one.
    pooled = [r for r in rows if r["stage"] == "confirm" and not is_choice(r)]
    points = {(r["cell_id"], r["arm"], r["epsilon"], r["lr"], r["loss"]) for r in pooled}
    assert len(points) == len({point[:2] for point in points})
    assert bool(scheduler.kept_points) == (name in ("replicates", "seeds"))
    # A resumed run of the grown study trains nothing else.
    again = list(rows)
    assert finish(plan, again).is_done
    assert again == rows


def is_choice(row: dict[str, Any]) -> bool:
    """Whether a row is a choice of a search, and no pooled arm of a study with the arm best."""
    return row["stage"] == "confirm" and (row["study"] != "best" or row["replicate"] is not None)


GROWABLE = {
    "search__networks_per_cell": st.integers(3, 9),
    "search__replicates": st.integers(1, 4),
    "sweep__seeds": st.integers(1, 3),
    "confirm__seeds": st.integers(2, 4),
    "confirm__replicate_seeds": st.integers(1, 3),
}


@settings(max_examples=15, deadline=None)
@given(
    files=st.lists(st.fixed_dictionaries(GROWABLE), min_size=2, max_size=3),
    stops=st.lists(st.integers(0, 12), min_size=3, max_size=3),
)
def test_however_a_study_grows_it_is_finished_and_no_row_is_lost(
    files: list[dict[str, int]], stops: list[int]
) -> None:
    """Interrupted or finished before it grows; with a sampler that learns."""
    rows: list[dict[str, Any]] = []
    earlier: list[dict[str, Any]] = []
    for changes, stop in zip(files, stops, strict=False):
        largest = {k: max([v, *(f[k] for f in files[: len(earlier)])]) for k, v in changes.items()}
        study = changed(BEST_STUDY, **largest)
        if earlier:
            grown(earlier[-1], study, rows, *earlier[:-1])
        kept = list(rows)
        is_last = len(earlier) == len(files) - 1
        scheduler = finish(plan_of(study, *earlier), rows, 10**6 if is_last else stop)
        assert rows[: len(kept)] == kept
        earlier.append(study)
    assert scheduler.is_done
    assert scheduler.networks_done == scheduler.networks_total
    assert len(ids(rows)) == len(rows)
    analysed = ~superseded_choices(pd.DataFrame(rows), study)
    confirm = pd.DataFrame(rows)[analysed & (pd.DataFrame(rows)["stage"] == "confirm")]
    assert not confirm.duplicated(["cell_id", "arm", "seed"]).any()
    assert len(confirm) == scheduler.networks_planned["confirm"]


@pytest.fixture(scope="module")
def best_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    finish(plan_of(BEST), rows)
    return rows


REFUSED = [
    ({"recipe__epochs": 2}, "recipe.epochs (was 1, is 2)"),
    ({"seed": 6}, "seed (was 5, is 6)"),
    ({"search__sampler": "qmc"}, "search.sampler (was random, is qmc)"),
    ({"search__lr__high": 2}, "search.lr.high (was 1.0, is 2.0)"),
    ({"search__select_on": "val_clean"}, "search.select_on (was val_noisy, is val_clean)"),
    ({"logit_bias": {"target": 0.2}}, "logit_bias.target (was null, is 0.2)"),
    (
        {"search__networks_per_cell": 2},
        "search.networks_per_cell (was 3, is 2; 8 rows would not be part of the study)",
    ),
    (
        {"search__replicates": 1},
        "search.replicates (was 2, is 1; 18 rows would not be part of the study)",
    ),
    ({"sweep__seeds": 1}, "sweep.seeds (was 2, is 1; 10 rows would not be part of the study)"),
    ({"sweep": None}, "is null; 20 rows would not be part of the study"),
    ({"sweep__points": 4}, "sweep.points (was 3, is 4; the earlier ε and learning rates"),
    ({"confirm__replicate_seeds": 1}, "confirm.replicate_seeds (was 3, is 1; 8 rows"),
    (
        {"confirm__arms": ["best", "tuned", "analytic:activation", "zero", "rescale", "ce"]},
        "confirm.arms",
    ),
    (
        {"confirm__arms": [*BEST["confirm"]["arms"], "analytic:gradient"]},
        "the arms with searches must stay as they are, and in their order",
    ),
    (
        {"grid__noise": [{"kind": "symmetric", "rate": 0.2}]},
        "grid.noise (was symmetric-0.4, is absent; 68 rows would not be part of the study)",
    ),
    ({"grid__loss": ["gce"]}, "grid.loss (was mae, is absent; 60 rows"),
    (
        {"grid__dataset": [{"name": "digits", "root": "elsewhere"}]},
        "grid.dataset digits.root (was null, is elsewhere)",
    ),
    ({"grid__loss": "joint", "grid__losses": ["mae", "ce"]}, "grid.loss"),
]


@pytest.mark.parametrize(("changes", "expected"), REFUSED, ids=[str(c) for c, _ in REFUSED])
def test_what_would_change_rows_is_refused_by_name(
    changes: dict[str, Any], expected: str, best_rows: list[dict[str, Any]]
) -> None:
    new = changed(BEST, **changes)
    with pytest.raises(StudyFileError) as refused:
        grown(BEST, new, best_rows)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
    # Without rows nothing stands against it.
    assert grown(BEST, new, []) is not None


def test_every_refused_key_is_named(best_rows: list[dict[str, Any]]) -> None:
    new = changed(BEST, seed=6, recipe__epochs=2, search__replicates=1, analysis={"margin": 0.1})
    with pytest.raises(StudyFileError) as refused:
        grown(BEST, new, best_rows)
    assert all(key in str(refused.value) for key in ("seed", "recipe.epochs", "search.replicates"))
    assert "margin" not in str(refused.value)


def test_the_analysis_and_the_order_of_the_grid_may_change(best_rows: list[dict[str, Any]]) -> None:
    result = grown(BEST, changed(BEST, analysis={"margin": 0.02}), best_rows)
    assert result is not None
    assert "analysis.margin: 0.005 → 0.02 (the analysis alone)" in "\n".join(result.lines())
    assert sum(result.new.values()) == 0
    both = changed(BEST, grid__noise=GRID["grid"]["noise"])
    turned = changed(both, grid__noise=both["grid"]["noise"][::-1])
    assert grown(both, turned, best_rows) is None


def test_what_was_planned_and_never_trained_may_be_withdrawn() -> None:
    rows: list[dict[str, Any]] = []
    large = changed(BEST, search__replicates=4, sweep=None)
    finish(plan_of(large), rows, at_most=2)
    assert grown(large, changed(large, search__networks_per_cell=2), rows) is not None


def test_what_differs_from_a_study_planned_so_is_said() -> None:
    old = changed(BEST, search__sampler="tpe", search__networks_per_cell=16, grid__loss=["mae"])
    rows: list[dict[str, Any]] = []
    finish(plan_of(old), rows)
    result = grown(old, changed(old, search__networks_per_cell=40), rows)
    assert result is not None
    said = "\n".join(result.remarks)
    assert "results from point 4 of each search on" in said
    assert "from point 10 on" in said
    assert "replicates from 1 on keep the numbers" in said
    assert "every search chooses again" in said
    assert "keep the points" in said
    more = grown(old, changed(old, confirm__seeds=4), rows)
    assert more is not None
    assert more.remarks == ()


def test_a_round_that_is_not_full_cannot_grow() -> None:
    old = changed(GRID, search__points_per_round=3, search__networks_per_cell=4)
    rows: list[dict[str, Any]] = []
    finish(plan_of(old), rows)
    with pytest.raises(StudyFileError, match="last round has 1 points"):
        grown(old, changed(old, search__networks_per_cell=9), rows)
