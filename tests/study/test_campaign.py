"""Nothing is lost, nothing is doubled, and the order of events does not change what is trained."""

import random
from collections import Counter
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import GRID_STUDY, JOINT_STUDY, ROUNDS_STUDY

from study.campaign import Campaign, Cohort, ForeignRowsError
from study.plan import Network, Plan, identity_columns, make_plan
from study.study_file import parse_study

PLANS = {
    name: make_plan(parse_study(yaml.safe_dump(study).encode(), name))
    for name, study in (("grid", GRID_STUDY), ("joint", JOINT_STUDY), ("rounds", ROUNDS_STUDY))
}


def value(network: Network) -> float:
    """What training would reach, as far as a campaign cares: a function of the network alone."""
    return random.Random(network.network_id).random()


def row(plan: Plan, network: Network) -> dict[str, Any]:
    """The row of a network; in a study with rungs every fourth is pruned."""
    pruned = bool(plan.config.search.rungs) and network.point is not None and value(network) < 0.25
    return {
        **identity_columns(plan.config, network),
        "val_acc_noisy": value(network),
        "epochs": 1 if pruned else 4,
        "status": "pruned" if pruned else "complete",
    }


def finish(campaign: Campaign, cohort: Cohort, rows: list[dict[str, Any]]) -> None:
    done = {n.network_id: row(campaign.plan, n) for n in cohort.networks}
    rows += done.values()
    campaign.tell(cohort.cohort_id, done)


def run(plan: Plan, order: random.Random, workers: int, deaths: int) -> list[dict[str, Any]]:
    """A whole study with cohorts ending in any order and the driver dying now and then."""
    rows: list[dict[str, Any]] = []
    while True:
        shuffled = order.sample(rows, len(rows))
        campaign = Campaign(
            plan, shuffled, workers=workers, largest_cohort=order.choice([1, 3, 32])
        )
        in_flight: list[Cohort] = []
        steps = order.randrange(1, 12) if deaths else 10**6
        deaths -= 1
        for _ in range(steps):
            while len(in_flight) < workers and (cohort := campaign.next_cohort()):
                in_flight.append(cohort)
            if not in_flight:
                assert campaign.is_done
                return rows
            ended = in_flight.pop(order.randrange(len(in_flight)))
            if order.random() < 0.1:
                campaign.give_up(ended.cohort_id)
            else:
                finish(campaign, ended, rows)


@pytest.fixture(scope="module", params=sorted(PLANS))
def undisturbed(request: pytest.FixtureRequest) -> tuple[Plan, set[str]]:
    plan = PLANS[request.param]
    rows: list[dict[str, Any]] = []
    campaign = Campaign(plan)
    while cohort := campaign.next_cohort():
        finish(campaign, cohort, rows)
    assert campaign.is_done
    return plan, {r["network_id"] for r in rows}


def test_a_study_trains_what_its_plan_counts(undisturbed: tuple[Plan, set[str]]) -> None:
    plan, ids = undisturbed
    for stage, count in plan.networks().items():
        assert sum(i.startswith(stage) for i in ids) == count


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), workers=st.integers(1, 5), deaths=st.integers(0, 6))
def test_workers_deaths_and_order_of_endings_change_nothing(
    undisturbed: tuple[Plan, set[str]], seed: int, workers: int, deaths: int
) -> None:
    plan, expected = undisturbed
    rows = run(plan, random.Random(seed), workers, deaths)
    ids = [r["network_id"] for r in rows]
    assert len(ids) == len(set(ids))
    assert set(ids) == expected


def test_cohorts_share_group_stage_and_seed() -> None:
    campaign = Campaign(PLANS["grid"], workers=2)
    rows: list[dict[str, Any]] = []
    while cohort := campaign.next_cohort():
        assert len({(n.cell.group_id, n.stage, n.seed) for n in cohort.networks}) == 1
        arms = [(n.cell, n.arm) for n in cohort.networks]
        if cohort.stage == "search":
            assert len(set(arms)) == len(arms)  # each search stays sequential
        finish(campaign, cohort, rows)


def test_confirm_retrains_each_arms_best_search_point() -> None:
    plan = PLANS["grid"]
    rows = run(plan, random.Random(0), workers=2, deaths=0)
    for r in rows:
        if r["stage"] != "confirm":
            continue
        tried = [
            s
            for s in rows
            if s["stage"] == "search" and (s["cell_id"], s["arm"]) == (r["cell_id"], r["arm"])
        ]
        assert len(tried) == plan.config.search.networks_per_cell
        best = max(tried, key=lambda s: s["val_acc_noisy"])
        assert (r["epsilon"], r["lr"], r["loss"]) == (best["epsilon"], best["lr"], best["loss"])


def test_every_arm_has_the_same_budget_and_its_own_points() -> None:
    plan = PLANS["grid"]
    rows = [r for r in run(plan, random.Random(1), workers=3, deaths=0) if r["stage"] == "search"]
    points = [(r["cell_id"], r["point"]) for r in rows]
    assert len(points) == len(set(points))
    budgets = Counter((r["cell_id"], r["arm"]) for r in rows)
    assert set(budgets.values()) == {plan.config.search.networks_per_cell}
    assert set(budgets) == {(c.cell_id, a.name) for c, arms in plan.arms.items() for a in arms}


def test_confirm_alone_says_that_the_search_is_missing() -> None:
    campaign = Campaign(PLANS["grid"], stages=["confirm"])
    assert campaign.lacks_search
    assert not Campaign(PLANS["grid"], stages=["search", "confirm"]).lacks_search
    searched = [r for r in run(PLANS["grid"], random.Random(1), 3, 0) if r["stage"] == "search"]
    assert not Campaign(PLANS["grid"], searched, stages=["confirm"]).lacks_search


def test_a_round_is_trained_in_one_cohort_and_pruned_points_are_not_chosen() -> None:
    plan = PLANS["rounds"]
    campaign = Campaign(plan, workers=3, stages=["search"])
    rows: list[dict[str, Any]] = []
    while cohort := campaign.next_cohort():
        sizes = Counter((n.cell.cell_id, n.arm) for n in cohort.networks)
        assert set(sizes.values()) <= {3, 1}  # rounds of 3, and 7 = 3 + 3 + 1
        finish(campaign, cohort, rows)
    again = Campaign(plan, rows)
    confirm: list[dict[str, Any]] = []
    while cohort := again.next_cohort():
        finish(again, cohort, confirm)
    pruned = {(r["cell_id"], r["arm"], r["lr"]) for r in rows if r["status"] == "pruned"}
    assert pruned
    assert not pruned & {(r["cell_id"], r["arm"], r["lr"]) for r in confirm}


def test_only_chosen_stages_run() -> None:
    campaign = Campaign(PLANS["grid"], stages=["sweep"])
    rows: list[dict[str, Any]] = []
    while cohort := campaign.next_cohort():
        finish(campaign, cohort, rows)
    assert campaign.is_done
    assert {r["stage"] for r in rows} == {"sweep"}


def test_rows_of_another_study_are_refused() -> None:
    rows = run(PLANS["joint"], random.Random(0), workers=1, deaths=0)
    with pytest.raises(ForeignRowsError, match="does not belong to this study file"):
        Campaign(PLANS["grid"], rows)


def test_a_floor_value_does_not_stop_a_search() -> None:
    campaign = Campaign(PLANS["grid"], stages=["search"])
    while cohort := campaign.next_cohort():
        floor = {"val_acc_noisy": 0.1, "epochs": 1, "status": "diverged"}
        campaign.tell(cohort.cohort_id, {n.network_id: floor for n in cohort.networks})
    assert campaign.is_done
