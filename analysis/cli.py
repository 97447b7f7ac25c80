"""The commands that read results: analyse, report, recommend, compare, power.

Commands import what they need, so that the command line starts fast.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from analysis.console import Json, bad_input, out, print_json
from analysis.formatting import count, points, table_value
from trainables.errors import BadInputError

if TYPE_CHECKING:
    from analysis.inference.design import Pilot

commands = typer.Typer()

Folders = Annotated[list[str], typer.Argument(help="A study folder or bundle, or several to pool.")]
Into = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Write below this folder; for several studies.")
]
Margin = Annotated[
    float | None, typer.Option(help="Margin, a fraction of accuracy; default: the study file's.")
]


@commands.command()
def analyse(
    folders: Folders, into: Into = None, margin: Margin = None, as_json: Json = False
) -> None:
    """Read the parquet of studies; write analysis/verdict.json and tables."""
    from analysis.inference.summary import verdict_paragraph
    from analysis.verdict import analyse as analyse_folders

    with bad_input():
        verdict = analyse_folders(folders, into, _checked_margin(margin))
    if as_json:
        print_json(verdict)
    else:
        print(verdict_paragraph(verdict))


@commands.command()
def report(folders: Folders, into: Into = None, margin: Margin = None) -> None:
    """Analyse studies, write the report, and print the verdict and the report's path."""
    from analysis.inference.summary import verdict_paragraph
    from analysis.report.html import analyse_and_report

    with bad_input():
        verdict, path = analyse_and_report(folders, into, _checked_margin(margin))
    print(f"\n{verdict_paragraph(verdict)}\n\nReport: {path}")


@commands.command()
def recommend(
    folder: Annotated[str, typer.Argument(help="A study folder; it may be unfinished.")],
    margin: Margin = None,
    noise_rate: Annotated[
        float | None,
        typer.Option(help="Share of wrong labels to assume where it is unknown, from 0 to 1."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recommend a loss, ε and learning rate, with what they gain over cross-entropy, and code."""
    from analysis.recommendation.recommend import recommend as recommend_loss
    from analysis.recommendation.text import recommendation_text

    if noise_rate is not None and not 0 <= noise_rate < 1:
        raise BadInputError(f"--noise-rate {noise_rate:g}: allowed is 0 ≤ rate < 1, a fraction")
    with bad_input():
        result = recommend_loss(folder, _checked_margin(margin), noise_rate)
    if as_json:
        print_json(result)
    else:
        print(recommendation_text(result))


@commands.command()
def compare(
    folders: Annotated[list[str], typer.Argument(help="Study folders or bundles.")],
    published: Annotated[bool, typer.Option(help="Put published figures beside them.")] = True,
    as_json: Json = False,
) -> None:
    """Put studies side by side, and next to published figures for the same data and noise."""
    from analysis.exploratory.compare import compare as compare_studies
    from analysis.exploratory.compare import verdicts

    with bad_input():
        accuracies = compare_studies(folders, published)
        frames = {"studies": verdicts(folders), "accuracies": accuracies}
    if as_json:
        print_json({name: json.loads(f.to_json(orient="records")) for name, f in frames.items()})
        return
    for frame in frames.values():
        table = Table(*map(str, frame.columns), box=None)
        for row in frame.itertuples(index=False):
            table.add_row(*(table_value(value) for value in row))
        out.print(table)


@commands.command()
def power(
    sd: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the paired difference, a fraction of accuracy."),
    ] = None,
    pilot: Annotated[
        str | None,
        typer.Option(help="Take the sources of variance from this study folder."),
    ] = None,
    half_width: Annotated[
        float | None,
        typer.Option(
            help="Plan replicates, seeds and networks for intervals of value and procedure that "
            "are this wide on each side, a fraction of accuracy."
        ),
    ] = None,
    sd_search: Annotated[
        float, typer.Option(help="With --sd and --half-width: the same between searches.")
    ] = 0.0,
    networks_per_search: Annotated[
        int, typer.Option(help="With --sd and --half-width: networks per searched arm.")
    ] = 16,
    margin: Annotated[float, typer.Option(help="Margin, a fraction of accuracy.")] = 0.005,
    regret: Annotated[
        float, typer.Option(help="True cost of analytic ε, and true gain of tuning, to assume.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Say which design a precision or a margin needs, before a study is run."""
    if (sd is None) == (pilot is None):
        raise BadInputError("one of --sd and --pilot is needed")
    _checked_margin(margin)
    if not -1 < regret < 1:
        raise BadInputError(f"--regret {regret:g}: allowed is a fraction between -1 and 1")
    if networks_per_search < 1:
        raise BadInputError(f"--networks-per-search {networks_per_search}: allowed is 1 or more")
    with bad_input():
        if half_width is None:
            _power_of_one_difference(sd, pilot, margin, regret, as_json)
        else:
            variances = _variances(sd, sd_search, networks_per_search, pilot)
            _power_of_designs(variances, half_width, margin, regret, as_json)


def _power_of_one_difference(
    sd: float | None, pilot: str | None, margin: float, regret: float, as_json: bool
) -> None:
    """Confirm seeds for one paired difference."""
    import pandas as pd

    from analysis.inference.power import pilot_sd, power_table, seeds_needed

    if sd is None:
        assert pilot is not None
        pairs = Path(pilot) / "analysis" / "tables" / "regret_by_seed.csv"
        if not pairs.is_file():
            raise BadInputError(f"{pairs}: no such file; first logit-bias analyse {pilot}")
        sd = pilot_sd(pd.read_csv(pairs))
    table, needed = power_table(sd, margin, regret), seeds_needed(sd, margin, regret=regret)
    if as_json:
        print_json(
            {
                "sd": sd,
                "margin": margin,
                "seeds_for_80_percent": needed,
                "table": table.to_dict("records"),
            }
        )
        return
    shown = Table("seeds", "non-inferiority", "equivalence", box=None)
    for row in table.itertuples():
        shown.add_row(str(row.seeds), f"{row.non_inferiority:.2f}", f"{row.equivalence:.2f}")
    out.print(shown)
    print(
        f"standard deviation {100 * sd:.2f} points, margin {100 * margin:g} points: "
        f"{needed} seeds for 80 % power"
    )


def _variances(
    sd: float | None, sd_search: float, networks_per_search: int, pilot: str | None
) -> Pilot:
    """Sources of variance, from numbers or from a pilot study."""
    from analysis.inference.design import NetworkCounts, Pilot, Spread, pilot_of
    from analysis.verdict import compute
    from study.results.folder import StudyFolder
    from study.results.plan_summary import read_plan_summary

    if pilot is not None:
        return pilot_of(compute(pilot).judged, read_plan_summary(StudyFolder.at(pilot)))
    assert sd is not None
    for name, value in (("--sd", sd), ("--sd-search", sd_search)):
        if not (math.isfinite(value) and value >= 0):
            raise BadInputError(f"{name} {value:g}: allowed is a number from 0")
    # One cell with the arms tuned, analytic (both searched), best and zero, without a sweep.
    counts = NetworkCounts(2 * networks_per_search, 0, per_seed=3, per_replicate_seed=2)
    return Pilot(Spread(sd), sd_search, sd, 0.0, counts)


def _power_of_designs(
    variances: Pilot, half_width: float, margin: float, regret: float, as_json: bool
) -> None:
    """The smallest design with a wanted precision, and usual designs beside it."""
    from analysis.inference.design import design_table, smallest_design

    smallest = smallest_design(variances, half_width, margin, regret)
    table = list(design_table(variances, smallest.replicate_seeds, margin, regret))
    if as_json:
        print_json(
            {
                "half_width": half_width,
                "margin": margin,
                "regret": regret,
                "smallest": smallest.to_json(),
                "table": [design.to_json() for design in table],
            }
        )
        return
    shown = Table("confirm seeds", "replicates", "networks", "value ±", "procedure ±", box=None)
    for design in table:
        shown.add_row(
            str(design.seeds),
            str(design.replicates),
            str(design.networks),
            points(design.value_half_width),
            points(design.procedure_half_width),
        )
    out.print(shown)
    print(
        f"{count(smallest.replicate_seeds, 'seed')} per replicate; half-widths in percentage "
        f"points of 90 % intervals. Smallest design for ±{points(half_width)}: "
        f"confirm.seeds {smallest.seeds}, search.replicates {smallest.replicates}, "
        f"confirm.replicate_seeds {smallest.replicate_seeds}, {smallest.networks} networks. Power "
        f"at a margin of {points(margin)} and a true difference of {points(regret)}: value "
        f"{100 * smallest.value_power:.0f} %, procedure {100 * smallest.procedure_power:.0f} %."
    )


def _checked_margin(margin: float | None) -> float | None:
    if margin is not None and not 0 < margin < 1:
        raise BadInputError(f"--margin {margin:g}: allowed is 0 < margin < 1, a fraction")
    return margin
