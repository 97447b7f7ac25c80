"""No network is lost or trained twice, and the order of events does not change what is trained."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml
from growing import choose_points, row
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import BEST_STUDY, GRID_STUDY, JOINT_STUDY, ROUNDS_STUDY

from study.config.loader import parse_study
from study.planning.plan import Plan, make_plan
from study.planning.scheduler import Cohort, Scheduler, StudyMismatchError
from study.planning.search import ArmSearch
from study.results.evidence import CellEvidence, ChosenPoint
from study.results.schema import Stage

GROWING = {"points": 4, "seeds": 2, "lr_points": 1, "until_interval": 1.0}
PLANS = {
    name: make_plan(parse_study(yaml.safe_dump(study).encode(), name))
    for name, study in (
        ("grid", GRID_STUDY),
        ("joint", JOINT_STUDY),
        ("rounds", ROUNDS_STUDY),
        (
            "liar",
            {**GRID_STUDY, "search": {**GRID_STUDY["search"], "rounds_in_flight": 2}},
        ),
        ("growing", {**GRID_STUDY, "sweep": GROWING}),
        ("best", BEST_STUDY),
        ("best-growing", {**BEST_STUDY, "sweep": GROWING}),
        ("best-joint", {**BEST_STUDY, "grid": JOINT_STUDY["grid"]}),
        ("best-rounds", {**ROUNDS_STUDY, **{k: BEST_STUDY[k] for k in ("grid", "confirm")}}),
        ("best-no-sweep", {**BEST_STUDY, "sweep": None}),
    )
}


def finish(scheduler: Scheduler, cohort: Cohort, rows: list[dict[str, Any]]) -> None:
    done = {n.network_id: row(scheduler.plan, n) for n in cohort.networks}
    rows += done.values()
    scheduler.tell(cohort.cohort_id, done)


def width(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Width of the interval: it is narrow from four seeds on."""
    return 5.0 - len({r["seed"] for r in rows})


def run(plan: Plan, order: random.Random, workers: int, deaths: int) -> list[dict[str, Any]]:
    """A whole study whose cohorts end in any order and whose driver dies from time to time."""
    rows: list[dict[str, Any]] = []
    while True:
        shuffled = order.sample(rows, len(rows))
        scheduler = Scheduler(
            plan,
            shuffled,
            workers=workers,
            largest_cohort=order.choice([1, 3, 32]),
            shared_gpus=order.choice([0, 0, 1]),
            interval_width=width,
            choose_points=choose_points,
        )
        in_flight: list[Cohort] = []
        steps = order.randrange(1, 12) if deaths else 10**6
        deaths -= 1
        for _ in range(steps):
            while len(in_flight) < workers and (cohort := scheduler.next_cohort()):
                in_flight.append(cohort)
            if not in_flight:
                assert scheduler.is_done
                return rows
            ended = in_flight.pop(order.randrange(len(in_flight)))
            if order.random() < 0.1:
                scheduler.requeue(ended.cohort_id)
            else:
                finish(scheduler, ended, rows)


@pytest.fixture(scope="module", params=sorted(PLANS))
def undisturbed(request: pytest.FixtureRequest) -> tuple[Plan, set[str]]:
    plan = PLANS[request.param]
    rows: list[dict[str, Any]] = []
    scheduler = Scheduler(plan, interval_width=width, choose_points=choose_points)
    while cohort := scheduler.next_cohort():
        finish(scheduler, cohort, rows)
    assert scheduler.is_done
    assert scheduler.networks_total == scheduler.networks_done == len(rows)
    return plan, {r["network_id"] for r in rows}


def test_a_study_trains_what_its_plan_counts(undisturbed: tuple[Plan, set[str]]) -> None:
    plan, ids = undisturbed
    for stage, count in plan.networks().items():
        sweep = plan.config.sweep
        growth = 2 if stage == "sweep" and sweep and sweep.until_interval else 1
        assert sum(i.startswith(stage) for i in ids) == growth * count


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


@pytest.mark.parametrize("name", ["grid", "best"])
def test_cohorts_share_group_and_stage_and_join_seeds(name: str) -> None:
    scheduler = Scheduler(PLANS[name], choose_points=choose_points)
    rows: list[dict[str, Any]] = []
    joins: set[str] = set()  # stages with a cohort of several seeds
    while cohort := scheduler.next_cohort():
        assert len({(n.cell.group_id, n.stage) for n in cohort.networks}) == 1
        seeds = [n.seed for n in cohort.networks]
        assert seeds == sorted(seeds)  # the same batches next to each other
        if len(set(seeds)) > 1:
            joins.add(cohort.stage)
        arms = [(n.cell, n.arm, n.seed) for n in cohort.networks]
        if cohort.stage == "search":
            assert len(set(arms)) == len(arms)  # each search stays sequential
        finish(scheduler, cohort, rows)
    assert joins >= ({"search", "confirm"} if name == "best" else {"confirm"})


@pytest.mark.parametrize(
    ("workers", "shared_gpus", "largest", "sizes"),
    [
        (4, 0, 64, {"search": 6, "sweep": 18}),  # each worker has a device: spread over all
        (4, 1, 64, {"search": 24, "sweep": 32}),  # four on one GPU: all of a round together
        (8, 2, 64, {"search": 12, "sweep": 32}),  # on both GPUs
        (4, 1, 16, {"search": 16, "sweep": 16}),  # resources.networks_per_cohort
        (4, 4, 64, {"search": 6, "sweep": 18}),
    ],
)
def test_workers_that_share_a_gpu_get_fewer_and_larger_cohorts(
    workers: int, shared_gpus: int, largest: int, sizes: dict[str, int]
) -> None:
    study = {
        **BEST_STUDY,
        "grid": {
            **BEST_STUDY["grid"],
            "dataset": ["digits"],
            "noise": [{"kind": "symmetric", "rate": rate} for rate in (0.0, 0.2, 0.4)],
            "loss": ["mae"],
        },
        "search": {**BEST_STUDY["search"], "replicates": 4, "networks_per_cell": 4},
        "sweep": {"points": 5, "seeds": 4, "lr_points": 1},
        "confirm": {"seeds": 2, "arms": ["best", "tuned", "analytic:activation"]},
    }
    plan = make_plan(parse_study(yaml.safe_dump(study).encode(), "shared"))
    for stage, size in sizes.items():
        scheduler = Scheduler(
            plan,
            workers=workers,
            shared_gpus=shared_gpus,
            largest_cohort=largest,
            stages=[Stage(stage)],
            choose_points=choose_points,
        )
        cohort = scheduler.next_cohort()
        assert cohort is not None
        assert len(cohort.networks) == size, stage


def test_confirm_retrains_each_arms_best_search_point() -> None:
    plan = PLANS["grid"]
    rows = run(plan, random.Random(0), workers=2, deaths=0)
    for r in rows:
        if r["stage"] != "confirm":
            continue
        points = [
            s
            for s in rows
            if s["stage"] == "search" and (s["cell_id"], s["arm"]) == (r["cell_id"], r["arm"])
        ]
        assert len(points) == plan.config.search.networks_per_cell
        best = max(points, key=lambda s: s["val_acc_noisy"])
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
    scheduler = Scheduler(PLANS["grid"], stages=[Stage.CONFIRM])
    assert scheduler.missing_stages == [Stage.SEARCH]
    assert not Scheduler(PLANS["grid"], stages=[Stage.SEARCH, Stage.CONFIRM]).missing_stages
    searched = [r for r in run(PLANS["grid"], random.Random(1), 3, 0) if r["stage"] == "search"]
    assert not Scheduler(PLANS["grid"], searched, stages=[Stage.CONFIRM]).missing_stages


def test_a_round_is_trained_in_one_cohort_and_pruned_points_are_not_chosen() -> None:
    plan = PLANS["rounds"]
    scheduler = Scheduler(plan, workers=3, stages=[Stage.SEARCH])
    rows: list[dict[str, Any]] = []
    while cohort := scheduler.next_cohort():
        sizes = Counter((n.cell.cell_id, n.arm) for n in cohort.networks)
        assert set(sizes.values()) <= {3, 1}  # rounds of 3, and 7 = 3 + 3 + 1
        finish(scheduler, cohort, rows)
    resumed = Scheduler(plan, rows)
    confirm: list[dict[str, Any]] = []
    while cohort := resumed.next_cohort():
        finish(resumed, cohort, confirm)
    pruned = {(r["cell_id"], r["arm"], r["lr"]) for r in rows if r["status"] == "pruned"}
    assert pruned
    assert not pruned & {(r["cell_id"], r["arm"], r["lr"]) for r in confirm}


def test_only_chosen_stages_run() -> None:
    scheduler = Scheduler(PLANS["grid"], stages=[Stage.SWEEP])
    rows: list[dict[str, Any]] = []
    while cohort := scheduler.next_cohort():
        finish(scheduler, cohort, rows)
    assert scheduler.is_done
    assert {r["stage"] for r in rows} == {"sweep"}


def test_rows_of_another_study_are_refused() -> None:
    rows = run(PLANS["joint"], random.Random(0), workers=1, deaths=0)
    with pytest.raises(StudyMismatchError, match="does not belong to this study file"):
        Scheduler(PLANS["grid"], rows)


def test_a_floor_value_does_not_stop_a_search() -> None:
    scheduler = Scheduler(PLANS["grid"], stages=[Stage.SEARCH])
    while cohort := scheduler.next_cohort():
        floor = {"val_acc_noisy": 0.1, "epochs": 1, "status": "diverged"}
        floor |= {"wall_s": 1.0, "networks_in_cohort": 1}
        scheduler.tell(cohort.cohort_id, {n.network_id: floor for n in cohort.networks})
    assert scheduler.is_done


def test_the_best_point_shown_is_the_earliest_of_equals() -> None:
    """Point 1 belongs to another arm than points 0 and 2."""
    scheduler = Scheduler(PLANS["grid"], stages=[Stage.SEARCH])
    lr_of_point_1: dict[str, float] = {}
    while cohort := scheduler.next_cohort():
        lr_of_point_1 |= {n.cell.cell_id: n.lr for n in cohort.networks if n.point == 1}
        done = {
            n.network_id: {
                **row(scheduler.plan, n),
                "val_acc_noisy": 0.5 if n.point else 0.1,
            }
            for n in cohort.networks
        }
        scheduler.tell(cohort.cohort_id, done)
    for cell_id, state in scheduler.search_state().items():
        assert state.best is not None
        assert (state.best.number, state.best.lr) == (1, lr_of_point_1[cell_id])
        assert state.best_text.endswith(f"lr {lr_of_point_1[cell_id]:.3g}")


def test_a_sweep_grows_until_the_interval_is_narrow_or_seeds_run_out() -> None:
    for most, seeds in ((20, 4), (3, 3)):
        sweep = {**GROWING, "most_seeds": most}
        study = yaml.safe_dump({**GRID_STUDY, "sweep": sweep}).encode()
        rows = run(make_plan(parse_study(study, "test")), random.Random(2), workers=2, deaths=3)
        for cell_id in {r["cell_id"] for r in rows if r["stage"] == "sweep"}:
            sweep_rows = [r for r in rows if r["stage"] == "sweep" and r["cell_id"] == cell_id]
            assert len({r["seed"] for r in sweep_rows}) == seeds


@pytest.mark.parametrize("deaths", [0, 4])
def test_a_search_ends_with_its_hours_and_every_arm_as_far_as_any_other(deaths: int) -> None:
    # Every network costs 18 worker seconds.
    search = {**GRID_STUDY["search"], "networks_per_cell": 9, "worker_hours": 50 * 18 / 3600}
    plan = make_plan(parse_study(yaml.safe_dump({**GRID_STUDY, "search": search}).encode(), "t"))
    arms = sum(map(len, plan.arms.values()))
    for seed in range(5):
        rows = run(plan, random.Random(seed), workers=3, deaths=deaths)
        points = Counter((r["cell_id"], r["arm"]) for r in rows if r["stage"] == "search")
        assert len(points) == arms
        assert len(set(points.values())) == 1
        assert 50 <= sum(points.values()) < 50 + 3 * arms
        confirm = sum(r["stage"] == "confirm" for r in rows)
        assert confirm == arms * plan.config.confirm.seeds


def test_cohorts_with_a_checkpoint_are_formed_again() -> None:
    """Their checkpoints stay usable with any number of workers."""
    plan, rows = PLANS["liar"], []
    scheduler = Scheduler(plan, workers=3)
    for _ in range(4):
        cohort = scheduler.next_cohort()
        assert cohort
        finish(scheduler, cohort, rows)
    begun = [scheduler.next_cohort() for _ in range(4)]
    assert {c.stage for c in begun if c} >= {"search"}
    ids = [[n.network_id for n in c.networks] for c in begun if c]
    resumed = Scheduler(plan, rows, workers=1, begun=ids)
    cohorts = [resumed.next_cohort() for _ in ids]
    assert {c.cohort_id for c in cohorts if c} == {c.cohort_id for c in begun if c}
    for cohort in cohorts:
        assert cohort
        finish(resumed, cohort, rows)
    while cohort := resumed.next_cohort():
        finish(resumed, cohort, rows)
    assert resumed.is_done
    # A cohort is ignored if its networks have rows by now or belong to another study.
    assert Scheduler(plan, rows, begun=[*ids, ["search-0123"]]).is_done


@pytest.fixture(scope="module", params=["best", "best-joint", "best-rounds"])
def with_best(request: pytest.FixtureRequest) -> tuple[Plan, list[dict[str, Any]]]:
    """A plan with the arm `best`, and the rows of its study."""
    plan = PLANS[request.param]
    return plan, run(plan, random.Random(3), workers=3, deaths=2)


def test_each_replicate_searches_with_its_own_seed(
    with_best: tuple[Plan, list[dict[str, Any]]],
) -> None:
    plan, rows = with_best
    search = [r for r in rows if r["stage"] == "search"]
    assert {(r["seed"], r["replicate"]) for r in search} == {
        (r, r) for r in range(plan.config.search.replicates)
    }
    for cell_id in {r["cell_id"] for r in search}:
        of_cell = [r for r in search if r["cell_id"] == cell_id]
        budgets = Counter((r["arm"], r["replicate"]) for r in of_cell)
        arms = {"ce"} if cell_id.endswith("/ce") else {"tuned", "analytic:activation", "rescale"}
        assert {arm for arm, _ in budgets} == arms
        assert set(budgets.values()) == {plan.config.search.networks_per_cell}
        assert len({r["point"] for r in of_cell}) == len(of_cell)


def test_pooled_arms_and_choices_of_replicates_are_paired_on_seeds_of_their_own(
    with_best: tuple[Plan, list[dict[str, Any]]],
) -> None:
    plan, rows = with_best
    confirm = [r for r in rows if r["stage"] == "confirm"]
    seeds: dict[Any, set[int]] = {}
    for r in rows:
        replicate = r["replicate"] if r["stage"] == "confirm" else "none"
        seeds.setdefault((r["stage"], replicate), set()).add(r["seed"])
    for one in seeds:
        assert not any(seeds[one] & seeds[other] for other in seeds if other != one)
    assert {r: len(s) for (stage, r), s in seeds.items() if stage == "confirm"} == {
        None: plan.config.confirm.seeds,
        **dict.fromkeys(range(plan.config.search.replicates), plan.config.confirm.replicate_seeds),
    }
    for cell, arms in plan.arms.items():
        of_cell = [r for r in confirm if r["cell_id"] == cell.cell_id]
        pooled = {arm.name for arm in arms if arm.name != "tuned"}
        for seed in seeds["confirm", None]:
            assert sorted(r["arm"] for r in of_cell if r["seed"] == seed) == sorted(pooled)
        replicated = {"tuned", "analytic:activation"} if cell.takes_epsilon else set()
        for replicate in range(plan.config.search.replicates):
            for seed in seeds["confirm", replicate]:
                paired = [r["arm"] for r in of_cell if r["seed"] == seed]
                assert sorted(paired) == sorted(replicated)


def test_a_replicate_confirms_the_best_point_of_its_own_search(
    with_best: tuple[Plan, list[dict[str, Any]]],
) -> None:
    _, rows = with_best
    confirm = [r for r in rows if r["stage"] == "confirm" and r["replicate"] is not None]
    assert confirm
    key = ("cell_id", "arm", "replicate")
    for r in confirm:
        points = [
            s
            for s in rows
            if s["stage"] == "search" and s["status"] != "pruned" and all(s[k] == r[k] for k in key)
        ]
        best = max(points, key=lambda s: s["val_acc_noisy"])
        assert (r["epsilon"], r["lr"], r["loss"]) == (best["epsilon"], best["lr"], best["loss"])


def test_pooled_arms_are_chosen_from_all_evidence_of_their_kind() -> None:
    seen: dict[str, CellEvidence] = {}

    def noted(evidence: CellEvidence, arms: Mapping[str, float | None]) -> dict[str, ChosenPoint]:
        seen.update({f"{next(iter(evidence.losses))} {arm}": evidence for arm in arms})
        fixed.update(arms)
        return choose_points(evidence, arms)

    fixed: dict[str, float | None] = {}
    plan, rows = PLANS["best-rounds"], []
    scheduler = Scheduler(plan, choose_points=noted)
    while cohort := scheduler.next_cohort():
        finish(scheduler, cohort, rows)
    cell = next(cell for cell in plan.cells if cell.takes_epsilon)
    assert fixed == {"best": None, "rescale": 0.0, "ce": 0.0} | {
        arm.name: arm.epsilon for arm in plan.arms[cell] if arm.name in {"zero", "double"}
    } | {"analytic:activation": plan.analytic[cell]["activation"]}
    kinds = {"mae best": "surface", "mae rescale": "rescale", "ce ce": "ce"}
    for name, kind in kinds.items():
        evidence = seen[name]
        expected = [
            r
            for r in rows
            if r["stage"] != "confirm"
            and r["status"] != "pruned"
            and r["loss"] == name.split()[0]
            and (r["arm"] == kind or (kind == "surface" and r["arm"] != "rescale"))
        ]
        assert Counter(
            (x.stage, x.arm, x.seed, x.epsilon, x.lr, x.accuracy) for x in evidence.rows
        ) == Counter(
            (r["stage"], r["arm"], r["seed"], r["epsilon"], r["lr"], r["val_acc_noisy"])
            for r in expected
        )
        assert evidence.losses == {name.split()[0]: kind == "surface"}
    assert any(r["status"] == "pruned" for r in rows)
    # The sweep holds every ε that a pooled arm fixes.
    double = 2 * plan.analytic[cell]["activation"]
    assert {0.0, double / 2, double} <= {x.epsilon for x in seen["mae best"].rows if not x.arm}


def test_a_pooled_arm_with_rows_is_not_chosen_again() -> None:
    """Another processor may round the choice differently."""

    def other(evidence: CellEvidence, arms: Mapping[str, float | None]) -> dict[str, ChosenPoint]:
        return {arm: ChosenPoint(next(iter(evidence.losses)), 1.0, 0.123) for arm in arms}

    plan, rows = PLANS["best"], []
    before = Scheduler(plan, stages=[Stage.SEARCH, Stage.SWEEP])
    while cohort := before.next_cohort():
        finish(before, cohort, rows)
    interrupted = Scheduler(plan, rows, largest_cohort=2, choose_points=choose_points)
    points: dict[tuple[str, str], set[tuple[float, float]]] = {}
    while len(points) < 2 and (cohort := interrupted.next_cohort()):
        finish(interrupted, cohort, rows)
        points = pooled_points(rows)
    assert len(points) == 2
    resumed = Scheduler(plan, rows, choose_points=other)
    while cohort := resumed.next_cohort():
        finish(resumed, cohort, rows)
    after = pooled_points(rows)
    assert set(map(len, after.values())) == {1}
    assert {key: after[key] for key in points} == points
    assert {lr for key in after.keys() - points.keys() for _, lr in after[key]} == {0.123}
    assert Counter(r["stage"] for r in rows) == plan.networks()


def pooled_points(rows: list[dict[str, Any]]) -> dict[tuple[str, str], set[tuple[float, float]]]:
    """{(cell id, pooled arm): its points in the rows of confirm}."""
    points: dict[tuple[str, str], set[tuple[float, float]]] = {}
    for r in rows:
        if r["stage"] == "confirm" and r["replicate"] is None:
            points.setdefault((r["cell_id"], r["arm"]), set()).add((r["epsilon"], r["lr"]))
    return points


def test_pooled_rows_that_this_plan_would_not_produce_are_refused() -> None:
    plan = PLANS["best"]
    rows = run(plan, random.Random(0), workers=1, deaths=0)
    pooled = next(r for r in rows if r["stage"] == "confirm" and r["replicate"] is None)
    for change in ({"lr": 0.5}, {"arm": "tuned"}, {"cell_id": "elsewhere"}, {"seed": 7}):
        changed = [r if r is not pooled else {**r, **change} for r in rows]
        with pytest.raises(StudyMismatchError, match="does not belong to this study file"):
            Scheduler(plan, changed, choose_points=choose_points)
    moved = {**pooled, "network_id": "confirm-0123"}
    with pytest.raises(StudyMismatchError):
        Scheduler(plan, [*rows, moved], choose_points=choose_points)


def test_pooled_arms_wait_for_the_sweep_and_choices_of_replicates_do_not() -> None:
    plan, rows = PLANS["best"], []
    scheduler = Scheduler(plan, stages=[Stage.SEARCH, Stage.CONFIRM], choose_points=choose_points)
    assert scheduler.missing_stages == [Stage.SWEEP]
    while cohort := scheduler.next_cohort():
        finish(scheduler, cohort, rows)
    confirm = [r for r in rows if r["stage"] == "confirm"]
    with_sweep = {cell.cell_id for cell in plan.cells if cell.takes_epsilon}
    assert {r["replicate"] for r in confirm if r["cell_id"] in with_sweep} == {0, 1}
    assert {r["replicate"] for r in confirm if r["cell_id"] not in with_sweep} == {None}
    alone = Scheduler(plan, stages=[Stage.CONFIRM])
    assert alone.missing_stages == [Stage.SEARCH, Stage.SWEEP]


def test_a_study_with_best_needs_a_chooser() -> None:
    rows = run(PLANS["best"], random.Random(0), workers=1, deaths=0)
    before = [r for r in rows if r["stage"] != "confirm"]
    with pytest.raises(ValueError, match="choose_points"):
        Scheduler(PLANS["best"], before).next_cohort()


def test_a_cohort_looks_at_few_searches_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the driver of a large study takes longer than its training."""
    looked = 0
    original = ArmSearch.can_propose.fget
    assert original is not None

    def counted(search: ArmSearch) -> bool:
        nonlocal looked
        looked += 1
        return bool(original(search))

    monkeypatch.setattr(ArmSearch, "can_propose", property(counted))
    per_network = []
    for cells in (5, 40):
        noise = [{"kind": "symmetric", "rate": i / 100} for i in range(cells)]
        study = {**BEST_STUDY, "grid": {**BEST_STUDY["grid"], "noise": noise}}
        plan = make_plan(parse_study(yaml.safe_dump(study).encode(), "large"))
        scheduler = Scheduler(plan, choose_points=choose_points, largest_cohort=4)
        rows: list[dict[str, Any]] = []
        looked = 0
        while cohort := scheduler.next_cohort():
            finish(scheduler, cohort, rows)
        assert scheduler.is_done
        per_network.append(looked / len(rows))
    assert per_network[1] <= per_network[0] * 1.05
