"""A search that is rebuilt from rows proposes the same points as an uninterrupted one."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import yaml
from tests_support import GRID_STUDY, JOINT_STUDY, ROUNDS_STUDY

from study.config.loader import parse_study
from study.planning.cells import Network
from study.planning.plan import make_plan
from study.planning.search import ArmSearch, ReplayError
from study.results.schema import Status

CONSTANT_LIAR_STUDY = {**GRID_STUDY, "search": {**GRID_STUDY["search"], "rounds_in_flight": 3}}
SAMPLERS = ["tpe", "random", "qmc", "grid"]


def new_search(study: dict, arm_name: str, sampler: str = "tpe") -> ArmSearch:
    changes = {"search": {**study["search"], "networks_per_cell": 15, "sampler": sampler}}
    if sampler == "grid":
        losses = len(study["grid"].get("losses", [None]))
        changes["search"]["grid"] = {"epsilon": 5, "lr": 3 // losses}
    plan = make_plan(parse_study(yaml.safe_dump({**study, **changes}).encode(), "test"))
    cell, arms = next((c, a) for c, a in plan.arms.items() if c.takes_epsilon)
    index = [arm.name for arm in arms].index(arm_name)
    return ArmSearch(plan.config, cell, arms[index], index, len(arms), plan.analytic[cell])


def value(network: Network) -> float:
    return 0.9 - 0.05 * abs(network.epsilon - 3) - 0.1 * abs(network.lr - 0.3)


def status(search: ArmSearch, network: Network) -> Status:
    """In studies with rungs, networks with a small learning rate are pruned."""
    is_pruned = search._config.search.rungs and network.lr < 0.2
    return Status.PRUNED if is_pruned else Status.COMPLETE


def tell(search: ArmSearch, networks: list[Network]) -> None:
    for network in networks:
        search.tell(network, value(network), 4, status(search, network))


def run(search: ArmSearch, order: random.Random | None = None) -> list[Network]:
    """Train to the end: one round at a time, or all possible rounds, ending in any order."""
    in_flight: list[list[Network]] = []
    while not search.is_done:
        while search.can_propose and (order or not in_flight):
            in_flight.append(search.propose())
        tell(search, in_flight.pop(order.randrange(len(in_flight)) if order else 0))
    return [point.network for point in search.completed]


def row(search: ArmSearch, network: Network) -> dict[str, Any]:
    return {
        "network_id": network.network_id,
        "point": network.point,
        "loss": network.loss.name,
        "loss_params": network.loss.params_json,
        "epsilon": network.epsilon,
        "lr": network.lr,
        "val_acc_noisy": value(network),
        "epochs": 4,
        "status": status(search, network),
    }


def replay(search: ArmSearch, networks: list[Network]) -> None:
    search.replay({n.point: row(search, n) for n in networks if n.point is not None})


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "study", [GRID_STUDY, JOINT_STUDY, ROUNDS_STUDY], ids=["grid", "joint", "rounds"]
)
@pytest.mark.parametrize("arm", ["tuned", "zero"])
def test_rebuilt_search_goes_on_as_if_never_stopped(study: dict, arm: str, sampler: str) -> None:
    whole = run(new_search(study, arm, sampler))
    assert len(whole) == 15
    for stop in (3, 6, 9):  # ends of rounds
        rebuilt = new_search(study, arm, sampler)
        replay(rebuilt, whole[:stop])
        assert run(rebuilt) == whole


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_rounds_that_come_back_in_any_order_change_nothing(sampler: str) -> None:
    """A restart with a missing middle round changes nothing either."""
    whole = run(new_search(CONSTANT_LIAR_STUDY, "tuned", sampler))
    for seed in range(5):
        assert run(new_search(CONSTANT_LIAR_STUDY, "tuned", sampler), random.Random(seed)) == whole
    rebuilt = new_search(CONSTANT_LIAR_STUDY, "tuned", sampler)
    replay(rebuilt, [*whole[:7], whole[8]])
    assert rebuilt.next_round() == [whole[7]]
    assert run(rebuilt) == whole


def best_search(
    replicates: int, replicate: int, arm_name: str = "tuned", sampler: str = "tpe"
) -> ArmSearch:
    """A search of a study with the arm `best`."""
    search = {**GRID_STUDY["search"], "networks_per_cell": 15, "replicates": replicates}
    search["sampler"] = sampler
    confirm = {"seeds": 2, "arms": ["best", "tuned", "analytic:activation", "zero"]}
    study = {**GRID_STUDY, "search": search, "confirm": confirm}
    plan = make_plan(parse_study(yaml.safe_dump(study).encode(), "test"))
    cell = next(c for c in plan.cells if c.takes_epsilon)
    arms = plan.searched_arms(cell)
    index = [arm.name for arm in arms].index(arm_name)
    analytic = plan.analytic[cell]
    return ArmSearch(plan.config, cell, arms[index], index, len(arms), analytic, replicate)


def test_the_first_replicate_is_the_search_of_a_study_without_replicates() -> None:
    arms = ["tuned", "analytic:activation"]
    plain = new_search({**GRID_STUDY, "confirm": {"seeds": 2, "arms": arms}}, "tuned")
    before = run(plain)
    first = run(best_search(1, 0))
    assert [(n.epsilon, n.lr) for n in first] == [(n.epsilon, n.lr) for n in before]
    assert [n.network_id for n in first] == [n.network_id for n in before]


def test_a_replicate_does_not_depend_on_how_many_there_are() -> None:
    assert run(best_search(3, 0)) == run(best_search(1, 0))
    second = run(best_search(2, 1))
    assert run(best_search(3, 1)) == second
    assert {n.seed for n in second} == {1}
    assert {n.replicate for n in second} == {1}


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_replicates_differ_in_what_they_propose_and_are_numbered_apart(sampler: str) -> None:
    arms = ("tuned", "analytic:activation")
    searches = [run(best_search(2, r, arm, sampler)) for r in (0, 1) for arm in arms]
    points = [n.point for networks in searches for n in networks]
    assert sorted(points) == list(range(4 * 15))
    assert not {n.lr for n in searches[0]} & {n.lr for n in searches[2]}
    # Analytic ε and ε = 0 are tried first by each.
    assert [n.epsilon for n in searches[0][:2]] == [n.epsilon for n in searches[2][:2]]


def test_a_replicate_is_rebuilt_from_its_rows() -> None:
    whole = run(best_search(2, 1))
    for stop in (1, 6):
        rebuilt = best_search(2, 1)
        replay(rebuilt, whole[:stop])
        assert run(rebuilt) == whole
    with pytest.raises(ReplayError, match="does not belong"):
        replay(best_search(2, 1), run(best_search(2, 0))[:3])


def test_points_in_flight_differ() -> None:
    search = new_search(CONSTANT_LIAR_STUDY, "tuned")
    for _ in range(3):
        tell(search, search.propose())
    in_flight = [search.propose()[0] for _ in range(3)]
    assert not search.can_propose
    assert len({(n.epsilon, n.lr) for n in in_flight}) == 3


def test_rows_of_another_search_are_refused() -> None:
    whole = run(new_search(GRID_STUDY, "tuned"))
    for wrong in (
        [whole[0], whole[3]],  # a gap
        [whole[0], run(new_search({**GRID_STUDY, "seed": 6}, "zero"))[1]],
    ):
        with pytest.raises(ReplayError, match="does not belong"):
            replay(new_search(GRID_STUDY, "tuned"), wrong)


def test_a_withdrawn_round_is_proposed_again() -> None:
    search = new_search(GRID_STUDY, "tuned")
    before = search.propose()
    tell(search, before)
    first = search.propose()
    assert not search.can_propose
    search.withdraw(first[0])
    assert [point.network for point in search.completed] == before
    assert search.propose() == first


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_analytic_epsilon_and_zero_are_tried_first(sampler: str) -> None:
    networks = run(new_search(GRID_STUDY, "tuned", sampler))
    plan = make_plan(parse_study(yaml.safe_dump(GRID_STUDY).encode(), "test"))
    analytic = next(iter(plan.analytic.values()))
    assert [n.epsilon for n in networks[:2]] == [analytic["activation"], 0.0]
    assert {n.epsilon for n in networks[2:]}.isdisjoint({analytic["activation"], 0.0})


def test_quasi_monte_carlo_fills_the_range_evenly() -> None:
    networks = run(new_search(GRID_STUDY, "zero", "qmc"))
    eighths = {int(8 * (math.log(n.lr / 0.05) / math.log(20))) for n in networks[:8]}
    assert eighths == set(range(8))


def test_a_grid_search_trains_every_point_once() -> None:
    networks = run(new_search(GRID_STUDY, "tuned", "grid"))
    assert sorted({n.epsilon for n in networks}) == [0, 2, 4, 6, 8]
    assert sorted({n.lr for n in networks}) == pytest.approx([0.05, math.sqrt(0.05), 1.0])
    assert len({(n.epsilon, n.lr) for n in networks}) == 15
    fixed = run(new_search(GRID_STUDY, "zero", "grid"))
    assert len({n.lr for n in fixed}) == 15  # the whole budget goes to the learning rate
    joint = run(new_search(JOINT_STUDY, "tuned", "grid"))
    assert Counter(n.loss.name for n in joint) == {"ce": 5, "mae": 5, "gce": 5}
    assert len({n.lr for n in joint if n.loss.name == "ce"}) == 5


def test_epsilon_is_searched_only_where_it_is_free() -> None:
    tuned, zero = new_search(GRID_STUDY, "tuned"), new_search(GRID_STUDY, "zero")
    assert len({n.epsilon for n in run(tuned)}) > 5
    assert {n.epsilon for n in run(zero)} == {0.0}
    assert all(0.05 <= n.lr <= 1 for n in run(new_search(GRID_STUDY, "tuned")))


def test_losses_without_a_bias_never_get_one() -> None:
    networks = run(new_search(JOINT_STUDY, "tuned"))
    assert {n.loss.name for n in networks} > {"ce"}
    assert all(n.epsilon == 0 for n in networks if n.loss.name == "ce")


def test_tpe_learns() -> None:
    """Late points lie nearer the optimum than those of random searches with the same budget."""
    late = {
        sampler: [
            value(network)
            for seed in range(5)
            for network in run(new_search({**GRID_STUDY, "seed": seed}, "tuned", sampler))[-5:]
        ]
        for sampler in ("tpe", "random")
    }
    assert sum(late["tpe"]) / 25 > sum(late["random"]) / 25 + 0.02


def test_a_diverged_point_is_chosen_only_where_all_points_diverged() -> None:
    """A diverged network counts with 1/c, and an untrained one may score less."""
    search = new_search(GRID_STUDY, "zero")
    for end, reached in (
        (Status.DIVERGED, 0.10),
        (Status.COMPLETE, 0.09),
        (Status.COMPLETE, 0.095),
    ):
        (network,) = search.propose()
        search.tell(network, reached, 1, end)
    assert search.best.value == 0.095
    alone = new_search(GRID_STUDY, "zero")
    (network,) = alone.propose()
    alone.tell(network, 0.1, 1, Status.DIVERGED)
    assert alone.best.value == 0.1
