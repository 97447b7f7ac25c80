"""Which networks a study trains, and which of them are paired."""

import itertools

import pytest
import yaml
from tests_support import BEST_STUDY, GRID_STUDY, JOINT_STUDY
from tests_support import logit_bias as run_command

from study.config.loader import parse_study
from study.planning.cells import Network
from study.planning.cohort_specs import cohort_spec, derived_seed, identity_columns
from study.planning.plan import CONFIRM_SEEDS_FROM, SEARCH_SEED, SWEEP_SEEDS_FROM, make_plan
from study.planning.search import ArmSearch
from study.results.schema import Stage
from trainables.theory import logit_bias

CONFIG = parse_study(yaml.safe_dump(GRID_STUDY).encode(), "grid")
PLAN = make_plan(CONFIG)

# As written by versions that knew no replicates.
IDS = ["search-25dfe2c8c4a12954", "sweep-5a99b94943511afd", "confirm-8b010789ac6b7892"]
SAMPLER_SEED = 5186876529927999414
POINT_SEEDS = [4106597371, 1876592786]


def test_cells_are_the_product_with_one_cell_of_plain_ce() -> None:
    ids = [cell.cell_id for cell in PLAN.cells]
    assert len(ids) == len(set(ids))
    assert ids.count("digits/symmetric-0.4/mlp-8x1/ce") == 1
    assert set(ids) == {
        f"{data}/{noise}/mlp-8x1/{loss}"
        for data, noise, loss in itertools.product(
            ["digits", "digits-5"], ["clean", "symmetric-0.4"], ["mae", "gce-q=0.5", "ce"]
        )
    }


def test_analytic_epsilon_follows_from_the_class_count_alone() -> None:
    for cell, arms in PLAN.arms.items():
        epsilons = {arm.name: arm.epsilon for arm in arms}
        if cell.loss.name == "ce":
            assert epsilons == {"ce": 0.0}
            continue
        expected = logit_bias.solve_epsilon(cell.classes)
        assert epsilons["tuned"] is None
        assert epsilons["zero"] == 0.0
        assert epsilons["analytic:activation"] == pytest.approx(expected)
        assert epsilons["half"] == pytest.approx(expected / 2)
        assert epsilons["double"] == pytest.approx(expected * 2)


def test_sweep_contains_zero_and_analytic_epsilon() -> None:
    for cell in PLAN.cells:
        grid = PLAN.epsilon_grid(cell)
        if cell.takes_epsilon:
            assert 0.0 in grid
            assert PLAN.analytic[cell]["activation"] in grid
            assert grid == sorted(set(grid))
            assert set(grid) >= {CONFIG.search.epsilon.low, CONFIG.search.epsilon.high}
        else:
            assert grid == []


def test_sweep_is_a_full_factorial_on_common_seeds() -> None:
    cell = next(c for c in PLAN.cells if c.takes_epsilon)
    networks = PLAN.sweep_networks(cell)
    assert len(networks) == len(PLAN.epsilon_grid(cell)) * 2 * 2
    by_seed = {s: {(n.epsilon, n.lr) for n in networks if n.seed == s} for s in (1000, 1001)}
    assert by_seed[1000] == by_seed[1001]


def test_stages_never_share_a_seed() -> None:
    sweep = {n.seed for cell in PLAN.cells for n in PLAN.sweep_networks(cell)}
    assert SEARCH_SEED not in sweep
    assert min(sweep) >= SWEEP_SEEDS_FROM
    assert max(sweep) < CONFIRM_SEEDS_FROM
    drawn = [
        derived_seed(CONFIG, seed, purpose)
        for seed in (SEARCH_SEED, *sweep, CONFIRM_SEEDS_FROM, CONFIRM_SEEDS_FROM + 1)
        for purpose in ("noise", "init", "order")
    ]
    assert len(set(drawn)) == len(drawn)


def test_replicates_never_share_a_seed_with_anything() -> None:
    study = {**BEST_STUDY, "search": {**BEST_STUDY["search"], "replicates": 1000}}
    study["sweep"] = {**BEST_STUDY["sweep"], "seeds": 1000}
    study["confirm"] = {**BEST_STUDY["confirm"], "seeds": 10_000, "replicate_seeds": 1000}
    plan = make_plan(parse_study(yaml.safe_dump(study).encode(), "largest"))
    cell = next(c for c in plan.cells if c.takes_epsilon)
    seeds = [SEARCH_SEED + r for r in plan.replicates]
    seeds += {n.seed for n in plan.sweep_networks(cell)}
    seeds += plan.confirm_seeds
    seeds += itertools.chain.from_iterable(map(plan.replicate_seeds, plan.replicates))
    assert len(set(seeds)) == len(seeds) == 1000 + 1000 + 10_000 + 1000 * 1000


def test_which_arms_are_searched_pooled_and_replicated() -> None:
    plan = make_plan(parse_study(yaml.safe_dump(BEST_STUDY).encode(), "best"))
    for cell, arms in plan.arms.items():
        kinds = {a.name: (a.is_searched, a.is_pooled, a.is_replicated) for a in arms}
        if not cell.takes_epsilon:
            assert kinds == {"ce": (True, True, False)}
            continue
        assert kinds == {
            "best": (False, True, False),
            "tuned": (True, False, True),
            "analytic:activation": (True, True, True),
            "zero": (False, True, False),
            "double": (False, True, False),
            "rescale": (True, True, False),
        }
        assert plan.analytic[cell]["activation"] * 2 in plan.epsilon_grid(cell)
    # mae: 3 arms, ce: 1 arm; mae: 5 pooled arms, ce: 1; 2 arms × 2 replicates × 3 seeds
    networks = plan.networks()
    assert networks[Stage.SEARCH] == (3 + 1) * 2 * 3
    assert networks[Stage.CONFIRM] == (5 + 1) * 2 + 2 * 2 * 3


def test_ids_and_seeds_of_a_study_without_best_are_those_of_earlier_versions() -> None:
    cell = next(c for c in PLAN.cells if c.takes_epsilon)
    networks = [
        Network(Stage.SEARCH, cell, cell.loss, 1.5, 0.25, SEARCH_SEED, "tuned", point=7),
        Network(Stage.SWEEP, cell, cell.loss, 0.0, 0.125, SWEEP_SEEDS_FROM),
        Network(Stage.CONFIRM, cell, cell.loss, 3.0, 0.5, CONFIRM_SEEDS_FROM, "zero"),
    ]
    assert [n.network_id for n in networks] == IDS
    assert PLAN.replicates == (None,)
    arms = PLAN.arms[cell]
    assert all(a.is_searched and a.is_pooled and not a.is_replicated for a in arms)
    search = ArmSearch(CONFIG, cell, arms[0], 0, len(arms), PLAN.analytic[cell])
    assert search._sampler.space.seed == SAMPLER_SEED
    assert [search._sampler.seed_of(n) for n in (0, 6)] == POINT_SEEDS
    assert [n.point for n in search.next_round()] == [0]
    row = identity_columns(CONFIG, search.next_round()[0])
    assert (row["seed"], row["replicate"]) == (SEARCH_SEED, None)


def network(stage: Stage, cell_index: int = 0, **changes: object) -> Network:
    cell = [c for c in PLAN.cells if c.takes_epsilon][cell_index]
    values: dict[str, object] = {"loss": cell.loss, "epsilon": 1.0, "lr": 0.1, "seed": 1}
    return Network(stage, cell, **{**values, **changes})


def test_arms_of_a_replicate_differ_in_nothing_but_what_is_compared() -> None:
    arms = [
        network(Stage.CONFIRM, arm="tuned", epsilon=2.0),
        network(Stage.CONFIRM, arm="zero", epsilon=0.0),
    ]
    spec = cohort_spec(CONFIG, arms)
    first, second = spec.members
    assert (first.noise_seed, first.init_seed) == (second.noise_seed, second.init_seed)
    assert (first.noise_kind, first.noise_rate) == (second.noise_kind, second.noise_rate)
    assert (first.epsilon, second.epsilon) == (2.0, 0.0)
    other = cohort_spec(CONFIG, [network(Stage.CONFIRM, arm="tuned", seed=2)])
    assert other.members[0].noise_seed != first.noise_seed
    assert other.members[0].init_seed != first.init_seed
    assert other.members[0].order_seed != first.order_seed == second.order_seed


def test_points_compete_within_their_own_search_alone() -> None:
    """Also where searches of several replicates train in one cohort."""
    rungs = {"points_per_round": 2, "rungs": [{"epoch": 1, "keep": 0.5}]}
    recipe = {**GRID_STUDY["recipe"], "epochs": 2}
    study = {**GRID_STUDY, "recipe": recipe, "search": {**GRID_STUDY["search"], **rungs}}
    config = parse_study(yaml.safe_dump(study).encode(), "rungs")
    searches = [
        (cell, arm, seed) for cell in (0, 1) for arm in ("tuned", "zero") for seed in (0, 1)
    ]
    networks = [
        network(Stage.SEARCH, c, arm=a, seed=s, lr=lr) for c, a, s in searches for lr in (0.1, 0.2)
    ]
    brackets = [member.bracket for member in cohort_spec(config, networks).members]
    assert len(set(brackets)) == len(searches)
    assert brackets[::2] == brackets[1::2]


def test_only_confirm_reads_the_test_set() -> None:
    for stage, reads in ((Stage.SEARCH, False), (Stage.SWEEP, False), (Stage.CONFIRM, True)):
        assert cohort_spec(CONFIG, [network(stage)]).reads_test is reads


def test_rows_hold_the_settings_that_the_worker_receives() -> None:
    n = network(Stage.CONFIRM, arm="tuned", epsilon=2.5, lr=0.3)
    member, row = cohort_spec(CONFIG, [n]).members[0], identity_columns(CONFIG, n)
    assert row["noise_rate_asked"] == member.noise_rate == n.cell.noise.rate
    seeds = ("noise_seed", "init_seed", "order_seed")
    for column in ("epsilon", "lr", "loss", *seeds, "network_id"):
        assert row[column] == getattr(member, column)


def test_network_ids_are_distinct_and_repeatable() -> None:
    networks = [n for cell in PLAN.cells for n in PLAN.sweep_networks(cell)]
    repeated = [n for cell in PLAN.cells for n in make_plan(CONFIG).sweep_networks(cell)]
    assert len({n.network_id for n in networks}) == len(networks)
    assert [n.network_id for n in networks] == [n.network_id for n in repeated]


def test_a_joint_search_is_one_cell_beside_plain_ce() -> None:
    plan = make_plan(parse_study(yaml.safe_dump(JOINT_STUDY).encode(), "joint"))
    assert [c.cell_id for c in plan.cells] == [
        "digits/symmetric-0.4/mlp-8x1/joint",
        "digits/symmetric-0.4/mlp-8x1/ce",
    ]


def test_the_rescale_control_scales_the_loss_and_has_no_bias() -> None:
    for cell, arms in PLAN.arms.items():
        if not cell.takes_epsilon:
            continue
        (arm,) = [a for a in arms if a.name == "rescale"]
        assert arm.epsilon == 0.0
        # Both controls start at the same mean of Δ: factor · |E[Δ]| = |E[Δ]| − shift's ε.
        odds = -logit_bias.mean_log_odds(cell.classes)
        assert arm.rescale * odds == pytest.approx(odds - logit_bias.shift_epsilon(cell.classes))
        network = Network(Stage.CONFIRM, cell, cell.losses[0], 0.0, 0.1, 7, "rescale", rescale=0.5)
        spec = cohort_spec(CONFIG, [network])
        assert spec.members[0].rescale == 0.5
        assert identity_columns(CONFIG, network)["rescale"] == 0.5


def test_losses_that_are_not_of_the_probability_alone_have_no_rescale_control() -> None:
    grid = {**GRID_STUDY["grid"], "loss": ["nce_agce"]}
    plan = make_plan(parse_study(yaml.safe_dump({**GRID_STUDY, "grid": grid}).encode(), "t"))
    names = {cell.losses[0].name: [a.name for a in arms] for cell, arms in plan.arms.items()}
    assert "tuned" in names["nce_agce"]
    assert "rescale" not in names["nce_agce"]


def test_a_rule_that_needs_absent_data_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOGIT_BIAS_DATA", raising=False)
    result = run_command("plan", "paper-cifar10")  # has the arm analytic:activation-measured
    assert result.returncode == 2
    assert result.stdout.startswith("15 cells; measuring the initial logits of 1 untrained model")
    assert result.stdout.count("\n") == 1
    assert "analytic:activation-measured: data set 'cifar10'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
