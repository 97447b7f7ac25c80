"""Small study files, models and losses that several tests share."""

import contextlib
import io
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn


class WithLayerNorm(nn.Sequential):
    """A model that the engine cannot stack."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        features = torch.Size(input_shape).numel()
        super().__init__(nn.Flatten(), nn.LayerNorm(features), nn.Linear(features, classes))


def reducing_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss that returns the mean, like those of PyTorch; a study refuses it."""
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def by_matrix_product(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Minus the labelled logit, by an operation that autocast moves to half precision."""
    return -(logits @ torch.eye(logits.shape[-1])).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


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
        "arms": ["tuned", "analytic:activation", "zero", "half", "double", "rescale", "ce"],
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

BEST_STUDY: dict[str, Any] = {
    **TINY_STUDY,
    "name": "best",
    "search": {**TINY_STUDY["search"], "replicates": 2},
    "confirm": {
        "seeds": 2,
        "replicate_seeds": 3,
        "arms": ["best", "tuned", "analytic:activation", "zero", "double", "rescale", "ce"],
    },
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


class Partly(nn.Sequential):
    """The first layer is frozen; with `spare` there is a layer that `forward` does not use."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, *, spare: bool = False) -> None:
        first, last = nn.Linear(math.prod(input_shape), 8), nn.Linear(8, classes)
        super().__init__(nn.Flatten(), first.requires_grad_(False), nn.ReLU(), last)
        self._spare = nn.Linear(2, 5) if spare else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]."""
        for layer in list(self)[:4]:
            x = layer(x)
        return x


class Outcome(NamedTuple):
    """What a command leaves behind."""

    returncode: int
    stdout: str
    stderr: str


def logit_bias(*arguments: str, cwd: Path | None = None) -> Outcome:
    """Run the command line in this process, which has imported torch already."""
    from study.cli.main import main

    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    argv, folder = sys.argv, os.getcwd()
    sys.argv = ["logit-bias", *arguments]
    os.chdir(cwd or folder)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            main()
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.argv = argv
        os.chdir(folder)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Outcome(code, stdout.getvalue(), stderr.getvalue())
