"""The entry point of `logit-bias`: the commands of all groups, and how each of them ends.

Each command imports what it needs. Light commands therefore start fast, and the base installation,
which has neither torch nor Ray, runs every command that needs neither of them.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings

import typer
from typer.exceptions import TyperException

from analysis.cli import commands as analysis_commands
from study.cli import catalogue, inspection, proposal, results, training
from study.cli.arguments import stop_signals
from study.results.credentials import without_credentials
from trainables.errors import INTERRUPTED, InterruptedByUserError, MissingExtraError, UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Does the analytic logit bias ε agree with the tuned one? Studies of noise-robust losses.",
)

for group in (proposal, training, inspection, results):
    app.add_typer(group.commands)
app.add_typer(analysis_commands)
app.add_typer(catalogue.commands)

_EXTRA_OF_MODULE = {
    **dict.fromkeys(("torch", "torchvision", "sklearn", "PIL", "filelock"), "train"),
    **dict.fromkeys(("ray", "optuna", "tensorboardX"), "study"),
    "mlflow": "mlflow",
}
_STUDY_COMMANDS = {"init", "plan", "run", "submit", "trial", "export-optuna", "merge"}


def main() -> None:
    """Run the command line. Exit 0 done, 1 failed, 2 bad input, 130 interrupted."""
    for number in stop_signals():
        signal.signal(number, _quit)
    warnings.formatwarning = _one_line_warning
    try:
        app(standalone_mode=False)
    except TyperException as error:
        if len(sys.argv) == 1:  # the whole help has been printed
            sys.exit(2)
        _fail(f"{error.format_message()} (see logit-bias --help)", 2)
    except UserError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        _fail(str(_missing_extra(error)), MissingExtraError.exit_code)
    except OSError as error:  # a full disk, a folder without permission, a path that is a file
        _fail(" ".join(str(error).split()), 1)


def _one_line_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """The notes of data sets are for the user; other warnings say where they come from."""
    if category.__name__ == "DatasetWarning":
        return f"{message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _missing_extra(error: ModuleNotFoundError) -> MissingExtraError:
    """An error that names the extra which installs the module; raises `error` if no extra does."""
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRA_OF_MODULE:
        raise error
    command = sys.argv[1]
    extra = "study" if command in _STUDY_COMMANDS else _EXTRA_OF_MODULE[module]
    return MissingExtraError(f"logit-bias {command}", module, extra)


def _quit(*_: object) -> None:
    """End at once. A library that is being imported could catch an exception and continue."""
    os.write(2, f"logit-bias: {INTERRUPTED}\n".encode())
    os._exit(InterruptedByUserError.exit_code)


def _fail(message: str, code: int) -> None:
    print(f"logit-bias: {without_credentials(message)}", file=sys.stderr)
    sys.exit(code)
