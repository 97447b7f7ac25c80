"""The blocks of the pages that show how to extend the program run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from planted import default_cells, write_study

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(python|yaml|sh)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# (\w+\.(?:py|yaml))\n")
COMMAND = "PYTHONPATH=. logit-bias "


def run_page(page: str, folder: Path) -> None:
    """Write the page's files into `folder`, run its Python blocks there, then its commands.

    The Python blocks of a page are one program, so a later block can use an earlier one. The folder
    contains a finished study, `results/quickstart`.
    """
    program, commands = [], []
    markdown = (DOCS / page).read_text()
    for match in BLOCK.finditer(markdown):
        language, code = match.groups()
        file = FILE_NAME.match(code)
        if file:
            (folder / file[1]).write_text(code)
        elif language == "python":
            lines_before = markdown[: match.start()].count("\n") + 1
            program.append((lines_before, code))
        elif language == "sh":
            commands += [line for line in code.splitlines() if line]
    assert program or commands
    # Line numbers of a traceback are those of the page.
    script = ""
    for lines_before, code in program:
        script += "\n" * (lines_before - script.count("\n")) + code
    (folder / page.replace(".md", "_page.py")).write_text(script)
    run([sys.executable, page.replace(".md", "_page.py")], folder)
    for command in commands:
        assert command.startswith(COMMAND), command
        arguments = command.removeprefix(COMMAND).split()
        run([sys.executable, "-m", "study.cli", *arguments], folder)


def run(command: list[str], folder: Path) -> None:
    """Run a command in `folder` and fail with its output."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(DOCS.parent)])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize(
    "page", ["extending.md", "losses.md", "theory.md", "report.md", "criterion.md"]
)
def test_blocks_of_the_page_run(page, tmp_path):
    write_study(tmp_path / "results" / "quickstart", default_cells())
    run_page(page, tmp_path)
