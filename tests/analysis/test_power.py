"""`logit-bias power`: the expected half-widths and powers are those that the analysis reaches."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import BEST_ARMS, Planted, write_study
from typer.testing import CliRunner

from analysis.cli import commands
from analysis.inference.design import (
    NetworkCounts,
    Pilot,
    Spread,
    pilot_of,
    smallest_design,
)
from analysis.inference.procedure import Gain, procedure
from analysis.inference.value import Contrast, cost, estimate
from analysis.response.top import MIDDLE, SCENARIOS
from analysis.verdict import compute
from study.results.folder import StudyFolder
from study.results.plan_summary import read_plan_summary

COUNTS = NetworkCounts(per_replicate=32, sweep=90, per_seed=4, per_replicate_seed=2)
ADJUSTMENT = np.abs(np.random.default_rng(1).normal(0, 0.002, (SCENARIOS, 120)))
STUDIES = 400


def simulated_values(sd: float, seeds: int, cost_: float = 0.0) -> list[Contrast]:
    """Contrasts whose measured mean is the cost minus a draw of what the surface adds."""
    rng = np.random.default_rng(2)
    shortfalls = rng.choice(ADJUSTMENT[MIDDLE], STUDIES)
    return [
        Contrast(
            "c", "d", pd.Series(rng.normal(cost_ - shortfall, sd, seeds)), adjustment=ADJUSTMENT
        )
        for shortfall in shortfalls
    ]


def simulated_gains(sd_search: float, sd_seed: float, replicates: int, seeds: int) -> list[Gain]:
    rng = np.random.default_rng(3)
    gains = []
    for _ in range(STUDIES):
        truth = np.repeat(rng.normal(0, sd_search, replicates), seeds)
        table = pd.DataFrame(
            {
                "replicate": np.repeat(np.arange(replicates), seeds),
                "seed": np.arange(replicates * seeds),
                "difference": rng.normal(truth, sd_seed),
            }
        )
        gains.append(Gain("c", "d", table))
    return gains


@pytest.mark.parametrize(("sd", "seeds"), [(0.004, 5), (0.01, 10), (0.001, 20)])
def test_the_value_reaches_the_expected_half_width(sd: float, seeds: int) -> None:
    ends = [e.ends() for c in simulated_values(sd, seeds) if (e := estimate([c])) is not None]
    widths = [(high - low) / 2 for low, high in filter(None, ends)]
    assert len(widths) == STUDIES
    assert Spread(sd, adjustment=ADJUSTMENT).half_width(seeds) == pytest.approx(
        np.mean(widths), rel=0.1
    )


@pytest.mark.parametrize(
    ("sd_search", "sd_seed", "replicates", "seeds"), [(0.004, 0.006, 3, 3), (0.001, 0.01, 6, 4)]
)
def test_the_procedure_reaches_the_expected_half_width(
    sd_search: float, sd_seed: float, replicates: int, seeds: int
) -> None:
    results = [
        procedure([g], 0.005) for g in simulated_gains(sd_search, sd_seed, replicates, seeds)
    ]
    widths = [(r.high - r.low) / 2 for r in results if r and r.low is not None and r.high]
    pilot = Pilot(Spread(0.01), sd_search, sd_seed, 0.0, COUNTS)
    predicted = pilot.procedure(seeds).half_width(replicates)
    assert predicted == pytest.approx(np.mean(widths), rel=0.1)


@pytest.mark.parametrize("true_cost", [0.0, 0.002, 0.005])
def test_the_value_has_the_predicted_power(true_cost: float) -> None:
    records = [cost(c, 0.005) for c in simulated_values(0.004, 8, true_cost)]
    reached = np.mean([r.high < 0.005 for r in records if r.high is not None])
    predicted = Spread(0.004, adjustment=ADJUSTMENT).power(8, 0.005, true_cost)
    assert predicted == pytest.approx(reached, abs=0.05)


def test_the_smallest_design_is_the_smallest() -> None:
    pilot = Pilot(Spread(0.008, 1e-7, ADJUSTMENT), 0.004, 0.006, 1e-7, COUNTS)
    wanted = 0.005
    design = smallest_design(pilot, wanted, 0.005)
    assert max(design.value_half_width, design.procedure_half_width) <= wanted
    assert pilot.value.half_width(design.seeds - 1) > wanted
    for replicates in range(3, 30):
        for replicate_seeds in range(1, 15):
            networks = COUNTS.total(design.seeds, replicates, replicate_seeds)
            half_width = pilot.procedure(replicate_seeds).half_width(replicates)
            assert networks >= design.networks or half_width > wanted
    assert design.networks == COUNTS.total(
        design.seeds, design.replicates, design.replicate_seeds
    ) == 90 + 32 * design.replicates + 4 * design.seeds + (
        2 * design.replicates * design.replicate_seeds
    )  # fmt: skip


def test_what_more_seeds_do_not_improve_is_refused() -> None:
    pilot = Pilot(Spread(0.001, 1e-5), 0.001, 0.001, 0.0, COUNTS)
    with pytest.raises(ValueError, match=r"out of reach.*more test examples"):
        smallest_design(pilot, 0.005, 0.005)
    with pytest.raises(ValueError, match="half-width = 0"):
        smallest_design(pilot, 0.0, 0.005)


def test_a_pilot_gives_the_planted_sources(tmp_path: Path) -> None:
    cells = [Planted(noise_rate=0.1 * i, search_sd=0.5) for i in range(3)]
    folder = write_study(
        tmp_path, cells, sd=0.004, confirm_seeds=60, epochs=1, rng=5,
        arms=BEST_ARMS, replicates=30, replicate_seeds=8, plan=True, search=12,
    )  # fmt: skip
    plan = read_plan_summary(StudyFolder(str(folder)))
    judged = compute(str(folder)).judged
    pilot = pilot_of(judged, plan)
    paired = 0.004 * math.sqrt(2 / 3)  # two networks, mean over three cells
    slope = np.mean([cell.values["activation"].slope for cell in judged])
    assert 0.5 < slope <= 1
    assert pilot.value.sd == pytest.approx(slope * paired, rel=0.25)
    assert pilot.sd_seed == pytest.approx(paired, rel=0.25)
    response = cells[0].response
    chosen = np.clip(np.random.default_rng(0).normal(3.6, 0.5, 20_000), 0, 8)
    assert pilot.sd_search == pytest.approx(response(chosen).std() / math.sqrt(3), rel=0.35)
    assert pilot.networks.per_replicate == 3 * 12
    assert pilot.networks.per_replicate_seed == 3 * 2
    assert plan is not None
    total = pilot.networks.total(60, 30, 8)
    assert total == sum(plan.networks.values())


def test_the_command_plans_from_a_pilot_and_from_numbers(tmp_path: Path) -> None:
    folder = write_study(
        tmp_path, [Planted(search_sd=0.3)], sd=0.004, epochs=1, arms=BEST_ARMS, plan=True,
        test_examples=400,
    )  # fmt: skip
    run = CliRunner().invoke
    wide = ["--half-width", "0.05"]
    answer = json.loads(run(commands, ["power", "--pilot", str(folder), *wide, "--json"]).stdout)
    assert answer["smallest"]["value_half_width"] <= 0.05
    assert answer["smallest"]["replicates"] >= 3
    assert {"seeds", "replicates", "networks"} <= answer["table"][0].keys()
    numbers = ["--sd", "0.008", "--sd-search", "0.004", "--half-width", "0.005"]
    result = run(commands, ["power", *numbers])
    assert result.exit_code == 0
    assert "Smallest design for ±0.50: confirm.seeds 9" in " ".join(result.stdout.split())


def test_a_pilot_without_replicates_is_refused(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [Planted()], epochs=1, plan=True)
    plan = read_plan_summary(StudyFolder(str(folder)))
    with pytest.raises(ValueError, match="no arms best and analytic"):
        pilot_of(compute(str(folder)).judged, plan)
