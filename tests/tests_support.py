"""Small study files and stand-in results that several tests share."""

from typing import Any

GRID_STUDY: dict[str, Any] = {
    "name": "grid",
    "seed": 5,
    "grid": {
        "dataset": ["digits", {"name": "digits", "classes": 5}],
        "noise": [{"kind": "symmetric", "rate": 0.0}, {"kind": "symmetric", "rate": 0.4}],
        "model": [{"name": "mlp", "width": 8, "depth": 1}],
        "loss": ["mae", {"name": "gce", "q": 0.5}],
    },
    "recipe": {"epochs": 1, "batch_size": 128},
    "search": {
        "networks_per_cell": 4,
        "epsilon": {"low": 0, "high": 8},
        "lr": {"low": 0.05, "high": 1, "log": True},
    },
    "sweep": {"points": 3, "seeds": 2, "lr_points": 2},
    "confirm": {
        "seeds": 2,
        "arms": ["tuned", "analytic:activation", "zero", "half", "double", "ce"],
    },
}

JOINT_STUDY: dict[str, Any] = {
    **GRID_STUDY,
    "name": "joint",
    "grid": {
        "dataset": ["digits"],
        "noise": [{"kind": "symmetric", "rate": 0.4}],
        "model": [{"name": "mlp", "width": 8, "depth": 1}],
        "loss": "joint",
        "losses": ["ce", "mae", "gce"],
    },
}

TINY_STUDY: dict[str, Any] = {
    **GRID_STUDY,
    "name": "tiny",
    "grid": {
        "dataset": ["digits"],
        "noise": [{"kind": "symmetric", "rate": 0.4}],
        "model": [{"name": "mlp", "width": 8, "depth": 1}],
        "loss": ["mae"],
    },
    "search": {**GRID_STUDY["search"], "networks_per_cell": 3},
    "confirm": {"seeds": 2, "arms": ["tuned", "analytic:activation", "zero", "ce"]},
}

ROUNDS_STUDY: dict[str, Any] = {
    **GRID_STUDY,
    "name": "rounds",
    "recipe": {"epochs": 4, "batch_size": 128},
    "search": {
        **GRID_STUDY["search"],
        "networks_per_cell": 7,
        "points_per_round": 3,
        "rungs": [{"epoch": 1, "keep": 0.5}],
    },
}
