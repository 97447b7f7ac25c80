"""Loss curves that must not change unintentionally.

After an intended change, `python tests/trainables/test_golden_curves.py` writes them anew; the
commit says why. They are computed in float64, so that another processor or library differs by far
less than the tolerance.
"""

import json
from pathlib import Path

import pytest
import torch

from trainables.engine.trainer import CohortSpec, DataSpec, Member, ModelSpec, Recipe, train

FILE = Path(__file__).parent / "golden" / "curves.json"
COLUMNS = ("train_loss", "grad_norm", "mean_delta", "val_acc_noisy")
LOSSES = [
    Member("ce", "ce", 0.1),
    Member("mae", "mae", 0.3),
    Member("mae*", "mae", 0.3, epsilon=1.0),
    Member("gce*", "gce", 0.2, epsilon=0.5, loss_params={"q": 0.6}, weight_decay=1e-3),
    Member("rescaled", "mae", 0.3, rescale=0.8),
    Member("nce_agce", "nce_agce", 0.05, noise_rate=0.6),
    Member("anl", "anl_ce", 0.02, weight_l1=1e-5),
]
SPECS = {
    "mlp": CohortSpec(
        data=DataSpec("digits"),
        model=ModelSpec("mlp", {"width": 16, "depth": 2}),
        recipe=Recipe(3, 128, nesterov=True, warmup_epochs=1, clip_norm=1.0),
        members=LOSSES,
    ),
    "many-classes-adamw": CohortSpec(
        data=DataSpec("digit-pairs"),
        model=ModelSpec("mlp", {"width": 16, "depth": 1}),
        recipe=Recipe(1, 500, optimizer="adamw", schedule="step", epsilon_schedule="linear"),
        members=[Member("mae*", "mae", 0.01, epsilon=3.0), Member("ce", "ce", 0.01)],
    ),
    "resnet20": CohortSpec(
        data=DataSpec("digits", classes=2),
        model=ModelSpec("resnet20", init="kaiming_glorot"),
        recipe=Recipe(1, 120, augment={"crop": 1}),
        members=[Member("mae*", "mae", 0.05, epsilon=1.0, noise_rate=0.2)],
    ),
}


def curves(name: str) -> dict[str, dict[str, list[float]]]:
    """{network: {column: values by epoch}} of one cohort."""
    return {
        result.network_id: {c: [getattr(e, c) for e in result.epochs] for c in COLUMNS}
        for result in train(SPECS[name], dtype=torch.float64)
    }


@pytest.mark.parametrize("name", SPECS)
def test_curves_are_the_golden_ones(name: str) -> None:
    golden = json.loads(FILE.read_text())[name]
    trained = curves(name)
    assert trained.keys() == golden.keys()
    for network, columns in trained.items():
        for column, values in columns.items():
            assert values == pytest.approx(golden[network][column], rel=1e-6), (network, column)


if __name__ == "__main__":
    torch.set_num_threads(1)
    text = json.dumps({name: curves(name) for name in SPECS}, indent=1)
    FILE.write_text(text + "\n")
    print(f"written: {FILE}")
