"""Studies side by side, and how networks learn."""

import numpy as np
import pandas as pd
import pytest
from planted import BEST_ARMS, Planted, gaussian, write_study

from analysis.data.load import LoadError, load
from analysis.exploratory.compare import compare, published_accuracies, verdicts
from analysis.exploratory.dynamics import epoch_frame, network_dynamics, summarise
from analysis.exploratory.importance import grid_importance, importance_table


def test_two_studies_side_by_side(tmp_path):
    better, worse = (
        Planted(response=gaussian(3.03, top=0.93), tuned=3.2),
        Planted(response=gaussian(3.03, top=0.83), tuned=3.2),
    )
    folders = [
        str(write_study(tmp_path / name, [cell], arms=BEST_ARMS))
        for name, cell in (("a", better), ("b", worse))
    ]
    table = compare(folders).set_index("arm")
    assert table.loc["tuned", folders[0]] - table.loc["tuned", folders[1]] == pytest.approx(
        0.1, abs=0.01
    )
    assert table.loc["ce", f"{folders[0]} n"] == 5
    summary = verdicts(folders)
    assert list(summary["folder"]) == folders
    assert summary["value_n"].tolist() == [5, 5]
    assert set(summary["verdict"]) <= {"equivalent", "non_inferior", "undecided"}


def test_published_accuracies_are_joined_to_the_same_setting(tmp_path):
    cell = Planted("cifar100", 100, "symmetric", 0.4, loss="mae", model="resnet34")
    table = compare([str(write_study(tmp_path, [cell]))]).set_index(["loss", "arm"])
    assert table.loc[("mae", "zero"), "published"] == pytest.approx(0.0278)
    assert table.loc[("mae", "tuned"), "published"] == pytest.approx(0.446)
    assert table.loc[("ce", "ce"), "published"] == pytest.approx(0.3931)
    assert pd.isna(table.loc[("mae", "half"), "published"])


def test_published_table_has_one_accuracy_per_setting():
    known = published_accuracies()
    assert not known.duplicated(["dataset", "noise_kind", "noise_rate", "loss", "arm"]).any()
    assert known["accuracy"].between(0, 1).all()


def test_nothing_to_compare_is_refused(tmp_path):
    folder = str(write_study(tmp_path, [Planted()], stages=("search", "sweep")))
    with pytest.raises(LoadError, match="no confirm stage"):
        compare([folder])


def test_dynamics_of_a_known_curve(tmp_path):
    """Accuracy grows as 1 − exp(−3t), so 90 % of the end is reached at 64 % of the epochs."""
    study = load(str(write_study(tmp_path, [Planted(noise_rate=0.4)], epochs=50)))
    networks = network_dynamics(study, epoch_frame(study))
    assert networks["epochs_to_90"].between(31, 34).all()
    assert networks["best_minus_last"].abs().max() < 1e-12
    expected = -1.0 * study.trials.loc[networks.index, "train_acc_clean"]  # planted: all corrected
    assert np.allclose(networks["memorised"], expected)
    assert set(summarise(networks)["stage"]) == {"sweep", "confirm"}


GRID = [(e, lr, loss) for e in (0.0, 1.0, 2.0) for lr in (0.1, 0.2) for loss in ("mae", "gce")]


def test_importance_of_a_known_surface():
    rows = pd.DataFrame(GRID, columns=["epsilon", "lr", "loss"])
    rows["a"] = 0.1 * rows["epsilon"] + 1.0 * rows["lr"] + 0.2 * (rows["loss"] == "gce")
    share = grid_importance(rows, "a", ["epsilon", "lr", "loss"])
    variances = {
        "epsilon": np.var([0, 0.1, 0.2]),
        "lr": np.var([0.1, 0.2]),
        "loss": np.var([0, 0.2]),
    }
    for name, variance in variances.items():
        assert share[name] == pytest.approx(variance / sum(variances.values()))
    assert share["interaction"] == pytest.approx(0, abs=1e-12)
    assert grid_importance(rows[rows["lr"] == 0.1], "a", ["epsilon", "lr"]) is None
    assert grid_importance(rows.iloc[1:], "a", ["epsilon", "lr", "loss"]) is None
    assert grid_importance(rows.assign(a=0.5), "a", ["epsilon", "lr"]) is None


def test_importance_of_a_pure_interaction():
    rows = pd.DataFrame(GRID, columns=["epsilon", "lr", "loss"])
    sign = np.where(rows["lr"] == 0.1, 1, -1) * np.where(rows["loss"] == "mae", 1, -1)
    share = grid_importance(rows.assign(a=sign), "a", ["epsilon", "lr", "loss"])
    assert share["interaction"] == pytest.approx(1)


def test_losses_are_compared_where_both_were_swept(tmp_path):
    mae, gce = (
        Planted(loss="mae", response=gaussian(3.0)),
        Planted(loss="gce", response=gaussian(3.0, top=0.8)),
    )
    sweep = load(str(write_study(tmp_path, [mae, gce]))).stage("sweep")
    more = sweep[(sweep["loss"] == "gce")].assign(lr=0.9)
    table = importance_table(pd.concat([sweep, more]), "val_acc_clean")
    assert len(table) == 1
    assert table["losses"].item() == 2
    assert table["epsilon"].item() > 0.8
    assert table["loss"].item() > 0.005
