"""A search that is rebuilt from rows proposes what the uninterrupted one would have."""

import pytest
import yaml
from tests_support import GRID_STUDY, JOINT_STUDY, ROUNDS_STUDY

from study.plan import Network, make_plan
from study.search import ArmSearch
from study.study_file import parse_study


def new_search(study: dict, arm_name: str, sampler: str = "tpe") -> ArmSearch:
    changes = {"search": {**study["search"], "networks_per_cell": 15, "sampler": sampler}}
    plan = make_plan(parse_study(yaml.safe_dump({**study, **changes}).encode(), "test"))
    cell, arms = next((c, a) for c, a in plan.arms.items() if c.takes_epsilon)
    index = [arm.name for arm in arms].index(arm_name)
    return ArmSearch(plan.config, cell, arms[index], index, len(arms))


def value(network: Network) -> float:
    return 0.9 - 0.05 * abs(network.epsilon - 3) - 0.1 * abs(network.lr - 0.3)


def end(search: ArmSearch, network: Network) -> str:
    """Stands in for a lost race, in studies that race."""
    return "pruned" if search._config.search.rungs and network.lr < 0.2 else "complete"


def run_round(search: ArmSearch) -> list[Network]:
    networks = search.propose()
    for network in networks:
        search.tell(network, value(network), 4)
    return networks


def run(search: ArmSearch) -> list[Network]:
    while not search.is_done:
        for network in search.propose():
            search.tell(network, value(network), 4, end(search, network))
    return [tried.network for tried in search.tried]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize(
    "study", [GRID_STUDY, JOINT_STUDY, ROUNDS_STUDY], ids=["grid", "joint", "rounds"]
)
@pytest.mark.parametrize("arm", ["tuned", "zero"])
def test_rebuilt_search_goes_on_as_if_never_stopped(study: dict, arm: str, sampler: str) -> None:
    whole = run(new_search(study, arm, sampler))
    for stop in (3, 6, 9):  # ends of rounds
        rebuilt = new_search(study, arm, sampler)
        for n in whole[:stop]:
            rebuilt.replay(n.loss.label, n.epsilon, n.lr, value(n), 4, end(rebuilt, n))
        assert run(rebuilt) == whole


def test_a_withdrawn_point_is_proposed_again() -> None:
    search = new_search(GRID_STUDY, "tuned")
    before = run_round(search)
    first = search.propose()
    search.withdraw()
    assert [t.network for t in search.tried] == before
    assert search.propose() == first


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


def test_a_diverged_point_is_chosen_only_where_nothing_else_is_there() -> None:
    """Guessing scores 1/c, which a network that has not learnt may fall below."""
    search = new_search(GRID_STUDY, "zero")
    for end_, reached in (("diverged", 0.10), ("complete", 0.09), ("complete", 0.095)):
        (network,) = search.propose()
        search.tell(network, reached, 1, end_)
    assert search.best.value == 0.095
    alone = new_search(GRID_STUDY, "zero")
    (network,) = alone.propose()
    alone.tell(network, 0.1, 1, "diverged")
    assert alone.best.value == 0.1
