"""cluster-onprem.yaml launched on three simulated machines, which then lose power.

Minutes long, and skipped without root. LOGIT_BIAS_ROUNDS sets the number of rounds.
"""

import os
from typing import Any

import onprem
import pytest
from onprem import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.integration]
ROUNDS = int(os.environ.get("LOGIT_BIAS_ROUNDS", "3"))


@pytest.fixture(scope="module")
def expected(cluster: Cluster) -> dict[str, Any]:
    return onprem.undisturbed(cluster)


# In this order: the cluster that the first test makes is that of the others.
def test_a_worker_that_is_off_at_ray_up_joins_later(
    cluster: Cluster, expected: dict[str, Any]
) -> None:
    onprem.join_late(cluster, expected)


def test_the_head_trains_nothing_and_nobody_gets_in_without_the_token(cluster: Cluster) -> None:
    cluster.wait_for(3)
    command = "logit-bias submit here.yaml --address http://127.0.0.1:8265"
    refused = cluster.laptop.run(f"RAY_AUTH_MODE=disabled {command}", check=False)
    assert refused.returncode == 2
    assert "RAY_AUTH_MODE" in refused.stderr
    hosts = {row["host"] for row in cluster.rows("/shared/late")}
    assert hosts <= set(onprem.WORKERS)
    listening = cluster.head.run("ss -tlnH").stdout.split("\n")
    assert [line for line in listening if "127.0.0.1:8265" in line]
    assert not [line for line in listening if "10.77.0.1:8265" in line or "0.0.0.0:8265" in line]


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_worker_loses_power(round_: int, cluster: Cluster, expected: dict[str, Any]) -> None:
    cluster.wait_for(3)
    onprem.lose_a_worker(cluster, round_, expected)


def test_the_head_loses_power(cluster: Cluster, expected: dict[str, Any]) -> None:
    cluster.wait_for(3)
    onprem.lose_the_head(cluster, expected)


def test_ray_down_ends_ray_on_every_machine(cluster: Cluster) -> None:
    cluster.down()
    cluster.wait_for_end()
