"""Turns planned networks into what a worker receives and into columns known before training."""

from __future__ import annotations

from typing import Any

from study.config.choices import DatasetChoice, ModelChoice
from study.config.sections import StudyConfig
from study.planning.cells import Network
from study.results.schema import Stage
from trainables.engine.spec import CohortSpec, DataSpec, Member, ModelSpec, Recipe, Rung
from trainables.seeds import derive


def cohort_spec(config: StudyConfig, networks: list[Network]) -> CohortSpec:
    """What a worker receives to train networks side by side.

    Args:
        config: the study.
        networks: networks of one group and stage.
    """
    first = networks[0]
    recipe = config.recipe
    rungs = config.search.rungs if first.stage == Stage.SEARCH else []
    return CohortSpec(
        data=data_spec(first.cell.dataset),
        model=model_spec(first.cell.model),
        recipe=Recipe(**recipe.model_dump(exclude={"weight_decay"})),
        members=[
            Member(
                network_id=n.network_id,
                loss=n.loss.name,
                loss_params=n.loss.params,
                lr=n.lr,
                epsilon=n.epsilon,
                rescale=n.rescale,
                weight_decay=recipe.weight_decay,
                weight_l1=n.loss.weight_l1,
                noise_kind=n.cell.noise.kind,
                noise_rate=n.cell.noise.rate,
                noise_options=n.cell.noise.options,
                noise_seed=derived_seed(config, n.seed, "noise"),
                init_seed=derived_seed(config, n.seed, "init"),
                order_seed=derived_seed(config, n.seed, "order"),
                bracket=f"{n.cell.cell_id} {n.arm} {n.seed}" if rungs else None,
            )
            for n in networks
        ],
        reads_test=first.stage == Stage.CONFIRM,
        rungs=[Rung(rung.epoch, rung.keep) for rung in rungs],
        prune_metric=config.search.value_column,
    )


def data_spec(dataset: DatasetChoice) -> DataSpec:
    """A study file's data set as a worker loads it."""
    return DataSpec(dataset.name, dataset.classes, dataset.root, dataset.options)


def model_spec(model: ModelChoice) -> ModelSpec:
    """A study file's model as a worker builds and initialises it."""
    return ModelSpec(model.name, model.options, model.init, model.init_gain)


def derived_seed(config: StudyConfig, seed: int, purpose: str) -> int:
    """Seed of one source of randomness.

    It does not depend on cell, arm or ε, so networks with the same `seed` are paired.

    Args:
        config: the study.
        seed: the column `seed`.
        purpose: `noise`, `init`, `order` or `measure`.
    """
    return derive(config.seed, seed, purpose)


def identity_columns(config: StudyConfig, network: Network) -> dict[str, Any]:
    """The columns of `trials` that are known before the network is trained."""
    return {
        "study": config.name,
        "stage": network.stage.value,
        "cell_id": network.cell.cell_id,
        "network_id": network.network_id,
        "point": network.point,
        "arm": network.arm,
        "rule": network.rule,
        "dataset": network.cell.dataset.label,
        "skipped_files": network.cell.skipped_files,
        "model": network.cell.model.label,
        "loss": network.loss.name,
        "loss_params": network.loss.params_json,
        "epsilon": network.epsilon,
        "rescale": network.rescale,
        "lr": network.lr,
        "weight_decay": config.recipe.weight_decay,
        "noise_kind": network.cell.noise.kind,
        "noise_rate_asked": network.cell.noise.rate,
        "seed": network.seed,
        "replicate": network.replicate,
        "noise_seed": derived_seed(config, network.seed, "noise"),
        "init_seed": derived_seed(config, network.seed, "init"),
        "order_seed": derived_seed(config, network.seed, "order"),
    }
