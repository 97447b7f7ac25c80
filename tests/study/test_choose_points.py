"""What the scheduler relies on when pooled arms are chosen with the program's own chooser."""

import random

import numpy as np
import pytest

from analysis.response.surface import choose_points
from study.results.evidence import CellEvidence, ChosenPoint, EvidenceRow
from study.results.schema import Stage, Status

EPSILON, LR = (0.0, 8.0), (0.05, 2.0)
BEST = {"mae": (3.0, 0.4), "gce": (1.0, 0.4)}  # accuracy falls in every direction from here


def row(stage: Stage, seed: int, loss: str, epsilon: float, lr: float) -> EvidenceRow:
    at_epsilon, at_lr = BEST[loss]
    accuracy = 0.9 - 0.01 * (epsilon - at_epsilon) ** 2 - 0.05 * np.log(lr / at_lr) ** 2
    accuracy -= 0.02 * (loss == "gce")
    arm = None if stage == Stage.SWEEP else "tuned"
    return EvidenceRow(stage, arm, seed, loss, epsilon, lr, max(0.1, accuracy))


def evidence(losses: dict[str, bool]) -> CellEvidence:
    draw = random.Random(0)
    rows = []
    for loss, takes_epsilon in losses.items():
        for seed in (0, 1):  # replicates of a search
            for _ in range(8):
                epsilon = draw.uniform(*EPSILON) if takes_epsilon else 0.0
                lr = float(np.exp(draw.uniform(*np.log(LR))))
                rows.append(row(Stage.SEARCH, seed, loss, epsilon, lr))
        for epsilon in (0.0, 2.0, 4.0, 6.0, 8.0) if takes_epsilon else ():
            for lr in (0.1, 0.3, 1.0):
                rows.append(row(Stage.SWEEP, 1000, loss, epsilon, lr))
    rows.append(EvidenceRow(Stage.SEARCH, "tuned", 0, "mae", 0.0, 2.0, 0.1, Status.DIVERGED))
    return CellEvidence(tuple(rows), losses, EPSILON, LR)


ARMS = {"best": None, "analytic:activation": 2.7218, "zero": 0.0, "double": 9.4436}


@pytest.mark.parametrize("losses", [{"mae": True}, {"mae": True, "gce": True}])
def test_every_arm_has_one_point_and_the_same_evidence_gives_the_same(
    losses: dict[str, bool],
) -> None:
    points = choose_points(evidence(losses), ARMS)
    assert points == choose_points(evidence(losses), ARMS)
    assert points.keys() == ARMS.keys()
    for arm, point in points.items():
        assert isinstance(point, ChosenPoint)
        assert point.loss in losses
        assert LR[0] * (1 - 1e-9) <= point.lr <= LR[1] * (1 + 1e-9)
        if ARMS[arm] is not None:
            assert point.epsilon == ARMS[arm]
    assert EPSILON[0] <= points["best"].epsilon <= EPSILON[1]


def test_an_arms_point_does_not_depend_on_the_other_arms() -> None:
    """A resumed study chooses only the arms that have no rows."""
    together = choose_points(evidence({"mae": True}), ARMS)
    for arm, epsilon in ARMS.items():
        assert choose_points(evidence({"mae": True}), {arm: epsilon}) == {arm: together[arm]}


def test_best_is_a_challenger_where_the_evidence_names_the_analytic_epsilon() -> None:
    """Two arms at one ε would show nothing; the other ε is one that may be better."""
    alone = choose_points(evidence({"mae": True}), {"best": None})["best"]
    arms = {"best": None, "analytic:activation": alone.epsilon}
    points = choose_points(evidence({"mae": True}), arms)
    assert points["analytic:activation"] == alone
    assert points["best"].epsilon != alone.epsilon
    others = [r for r in evidence({"mae": True}).rows if r.epsilon != alone.epsilon]
    reached = row(Stage.SWEEP, 0, *points["best"]).accuracy
    assert reached > sorted(r.accuracy for r in others)[-8]


def test_a_single_epsilon_has_no_challenger() -> None:
    rows = tuple(row(Stage.SEARCH, 0, "mae", 3.0, lr) for lr in np.geomspace(*LR, 16))
    points = choose_points(
        CellEvidence(rows, {"mae": True}, EPSILON, LR), {"best": None, "analytic:activation": 3.0}
    )
    assert points["best"].epsilon == points["analytic:activation"].epsilon == 3.0


def test_the_best_point_is_near_the_top() -> None:
    for losses in ({"mae": True}, {"mae": True, "gce": True}):
        best = choose_points(evidence(losses), {"best": None})["best"]
        assert best.loss == "mae"
        reached = row(Stage.SWEEP, 0, *best).accuracy
        assert reached > max(r.accuracy for r in evidence(losses).rows) - 0.01


def test_a_loss_without_a_bias_has_a_curve_over_the_learning_rate_only() -> None:
    for arm, fixed in (("best", None), ("ce", 0.0), ("analytic:activation", 2.7218)):
        point = choose_points(evidence({"mae": False}), {arm: fixed})[arm]
        assert (point.loss, point.epsilon) == ("mae", 0.0)
        assert np.log(point.lr / 0.4) == pytest.approx(0, abs=0.7)


def test_one_network_is_enough() -> None:
    rows = (EvidenceRow(Stage.SEARCH, "ce", 0, "mae", 0.0, 0.2, 0.8),)
    single = CellEvidence(rows, {"mae": False}, EPSILON, LR)
    assert choose_points(single, {"ce": 0.0})["ce"].loss == "mae"


def test_a_learning_rate_at_which_every_second_network_fails_is_not_chosen() -> None:
    """Accuracy rises with the learning rate; from 1 on, half of the networks fail."""
    draw = random.Random(0)
    rows = []
    for seed in range(4):
        for _ in range(16):
            lr = float(np.exp(draw.uniform(*np.log(LR))))
            accuracy = 0.85 + 0.01 * np.log(lr / 0.05) + draw.gauss(0, 0.003)
            if lr > 1.0 and draw.random() < 0.5:
                accuracy = 0.3
            epsilon = draw.choice([3.0, 4.0])
            rows.append(EvidenceRow(Stage.SEARCH, "tuned", seed, "mae", epsilon, lr, accuracy))
    arms = {"best": None, "analytic:activation": 3.0}
    points = choose_points(CellEvidence(tuple(rows), {"mae": True}, EPSILON, LR), arms)
    assert all(0.3 < point.lr < 1.2 for point in points.values())
