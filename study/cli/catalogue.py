"""The commands that need no study: epsilon, presets, losses, datasets, noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from analysis.console import Json, bad_input, out, print_json
from analysis.formatting import compact
from trainables.errors import BadInputError

commands = typer.Typer()
_Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="A further key, as in a study file."),
]


@commands.command()
def epsilon(
    classes: Annotated[
        int | None, typer.Option(help="Number of classes, 2 or more; default: of --dataset.")
    ] = None,
    loss: Annotated[str, typer.Option(help="See `logit-bias losses`.")] = "mae",
    parameter: Annotated[
        str, typer.Option(help="What to compute: epsilon, or a parameter of the loss (q of gce).")
    ] = "epsilon",
    rule: Annotated[
        list[str] | None, typer.Option(help="Only this rule; repeatable. Default: all.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(help="Mean initial activation of rule activation; default: the paper's."),
    ] = None,
    sigma: Annotated[float, typer.Option(help="Spread of the logits at initialisation.")] = 1.0,
    model: Annotated[
        str | None, typer.Option(help="Measure the logits of this untrained model instead …")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="… on this data set.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the initial error, as SVG.")] = None,
    as_json: Json = False,
) -> None:
    """Compute ε, or another parameter, from the number of classes. Trains nothing."""
    from trainables.theory.logit_bias import anchor_target
    from trainables.theory.rules import analytic_rules

    if (model is None) != (dataset is None):
        raise BadInputError("--model and --dataset go together")
    measured = None
    with bad_input():
        if model and dataset:
            from trainables.engine.initial_logits import measure_logits

            measured = measure_logits(dataset, model, classes=classes)
            classes = measured.classes
        if classes is None:
            raise BadInputError("--classes: a number of classes, 2 or more, is needed")
        rows = analytic_rules(
            classes,
            loss=loss,
            parameter=parameter,
            sigma=sigma,
            measured=measured,
            rules=rule,
            target=target,
        )
        best = next((row.value for row in rows if row.value is not None), None)
        if plot and best is not None:
            from analysis.report.theory_figure import draw

            draw(plot, loss=loss, classes=classes, value=best, parameter=parameter, logits=measured)
    if as_json:
        print_json(
            {
                "classes": classes,
                "loss": loss,
                "parameter": parameter,
                "sigma": sigma,
                "target": anchor_target() if target is None else target,
                "rule": rows[0].rule,
                parameter: best,
                "rules": [dataclasses.asdict(row) for row in rows],
            }
        )
        return
    table = Table("rule", parameter, "keeps", "assumes", box=None)
    for row in rows:
        value = row.note if row.value is None else f"{row.value:.3f}"
        table.add_row(row.rule, value, row.formula, row.assumption)
    out.print(table)
    if plot:
        print(f"picture: {plot}")


@commands.command()
def presets(as_json: Json = False) -> None:
    """List the studies that come with the program, with the question of each."""
    from study.config import shipped

    questions = {name: shipped.preset_question(name) for name in shipped.presets()}
    if as_json:
        print_json([{"name": n, "question": question} for n, question in questions.items()])
        return
    table = Table("preset", "question", box=None)
    for name, question in questions.items():
        table.add_row(name, question)
    out.print(table)


@commands.command()
def losses(as_json: Json = False) -> None:
    """List the losses: flags, parameters with defaults and ranges, presets, reference."""
    from trainables import losses as registry

    registered = [registry.get(name) for name in registry.names()]
    if as_json:
        print_json(
            [
                {
                    "name": loss.name,
                    "bounded": loss.bounded,
                    "symmetric": loss.symmetric,
                    "asymmetric": loss.asymmetric,
                    "searches_epsilon": loss.searches_epsilon,
                    "parameters": [dataclasses.asdict(p) for p in loss.parameters],
                    "presets": {p.name: dict(p.params) for p in loss.presets},
                    "reference": loss.reference,
                }
                for loss in registered
            ]
        )
        return
    table = Table("loss", "bounded", "symmetric", "parameters", "presets", "reference", box=None)
    for loss in registered:
        table.add_row(
            loss.name,
            "yes" if loss.bounded else "",
            "yes" if loss.symmetric else "asymmetric" if loss.asymmetric else "",
            ", ".join(f"{name} {compact(value)}" for name, value in loss.defaults.items()),
            ", ".join(p.name for p in loss.presets),
            loss.reference,
        )
    out.print(table)


@commands.command()
def datasets(
    root: Annotated[str | None, typer.Option(help="Folder of downloaded data sets.")] = None,
    as_json: Json = False,
) -> None:
    """List the data sets, and which of them are below --root or LOGIT_BIAS_DATA."""
    from trainables.datasets import overview

    with bad_input():
        rows = overview(root)
    if as_json:
        print_json([{**dataclasses.asdict(row.info), "where": row.availability} for row in rows])
        return
    table = Table(
        "data set", "where", "classes", "input", "train", "val", "test", "licence", box=None
    )
    for info, availability in rows:
        table.add_row(
            info.name,
            availability,
            str(info.classes),
            " × ".join(map(str, info.input_shape)),
            *(f"{size:,}" for size in (info.train_size, info.val_size, info.test_size)),
            info.licence,
        )
    out.print(table)
    print("also the path of a file (.npz, .csv, .json, .parquet …) or of a folder of images (…/)")


@commands.command()
def noise(
    dataset: Annotated[str, typer.Option(help="See `logit-bias datasets`.")],
    kind: Annotated[str, typer.Option(help="See docs/data.md.")] = "symmetric",
    rate: Annotated[float | None, typer.Option(help="From 0 to 1.")] = None,
    option: _Options = None,
    seed: Annotated[
        int | None, typer.Option(help="Draw labels with this seed; show that matrix.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the transition matrix of a label noise: rows true classes, columns noisy ones."""
    from trainables import datasets as sets
    from trainables import noise as kinds

    with bad_input():
        options = _parse(option)
        info = sets.info(dataset)
        kinds.check(info, kind, rate, **options)
        if seed is None and not kinds.get(kind).is_drawn_only:
            matrix, realised = kinds.matrix_for(info, kind, rate, **options), None
        else:
            splits = kinds.apply(sets.load(dataset), kind, rate, seed or 0, **options)
            matrix, realised = splits.train.transition, splits.train.rate
    if as_json:
        print_json({"transition": matrix.tolist(), "rate_real": realised})
        return
    names = sets.load(dataset).class_names if info.classes <= 20 and realised is not None else None
    print(kinds.matrix_as_text(matrix, names))
    if realised is not None:
        print(f"{100 * realised:.2f} % of the training labels are wrong")


def _parse(pairs: list[str] | None) -> dict[str, Any]:
    """`["block=5"]` → `{"block": 5}`, values read as in YAML."""
    import yaml

    options = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadInputError(f"--option {pair}: write KEY=VALUE")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadInputError(f"--option {pair}: not a YAML value") from error
    return options
