"""The commands that read results: analyse, report, compare, power.

Commands import what they need, so that the command line starts fast.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from analysis.console import Json, bad_input, out, print_json
from analysis.formatting import table_value
from trainables.errors import BadInputError

commands = typer.Typer()

Folders = Annotated[list[str], typer.Argument(help="A study folder, or several to pool.")]
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
def compare(
    folders: Annotated[list[str], typer.Argument(help="Study folders.")],
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
        typer.Option(help="Take it from this analysed study folder."),
    ] = None,
    margin: Annotated[float, typer.Option(help="Margin, a fraction of accuracy.")] = 0.005,
    regret: Annotated[float, typer.Option(help="True regret to assume.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Say how many confirm seeds a margin needs, before a study is run."""
    import pandas as pd

    from analysis.inference.power import pilot_sd, power_table, seeds_needed

    if (sd is None) == (pilot is None):
        raise BadInputError("one of --sd and --pilot is needed")
    _checked_margin(margin)
    with bad_input():
        if pilot is not None:
            pairs = Path(pilot) / "analysis" / "tables" / "regret_by_seed.csv"
            if not pairs.is_file():
                raise BadInputError(f"{pairs}: no such file; first logit-bias analyse {pilot}")
            sd = pilot_sd(pd.read_csv(pairs))
        assert sd is not None
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


def _checked_margin(margin: float | None) -> float | None:
    if margin is not None and not 0 < margin < 1:
        raise BadInputError(f"--margin {margin:g}: allowed is 0 < margin < 1, a fraction")
    return margin
