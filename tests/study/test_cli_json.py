"""Every `--json` prints strict JSON."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from analysis.console import strict
from study.cli.main import app

ARGUMENTS = {
    "plan": ["tiny.yaml"],
    "status": ["out/tiny"],
    "trial": ["out/tiny", "NETWORK"],
    "analyse": ["out/tiny", "--into", "copy"],
    "recommend": ["out/tiny"],
    "compare": ["out/tiny"],
    "epsilon": ["--classes", "100"],
    "losses": [],
    "presets": [],
    "datasets": [],
    "noise": ["--dataset", "digits", "--kind", "pdn", "--rate", "0.2"],
    "power": ["--sd", "0.01"],
    "export": ["out/tiny", "--to", "bundle", "--output", "NEW.zip"],
    "merge": ["out/tiny", "copied/tiny", "--output", "NEW/tiny"],
}


def commands_with_json() -> set[str]:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {
        name
        for name, command in commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }


def test_every_command_with_json_is_tried_here() -> None:
    assert commands_with_json() == set(ARGUMENTS)


@pytest.mark.integration
@pytest.mark.parametrize("command", ARGUMENTS)
def test_json_is_strict(
    command: str, finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished_study)
    network = pq.read_table("out/tiny/trials/search")["network_id"][0].as_py()
    if command == "merge":
        shutil.copytree("out", tmp_path / "copied")
    words = [
        word.replace("NETWORK", network).replace("NEW", str(tmp_path / "new"))
        for word in ARGUMENTS[command]
    ]
    words = [str(tmp_path / word) if word.startswith("copied") else word for word in words]
    result = CliRunner().invoke(app, [command, *words, "--json"], standalone_mode=False)
    assert result.exception is None, result.exception

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    assert json.loads(result.stdout, parse_constant=refuse)


def test_what_is_not_finite_becomes_null() -> None:
    assert strict({"a": (float("inf"), float("nan"), 1.5)}) == {"a": [None, None, 1.5]}
    with pytest.raises(TypeError, match="Path is not a JSON value"):
        strict([Path("a")])
