"""The label noise is recorded once; later runs check the data sets but draw nothing."""

from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from tests_support import TINY_STUDY

from study.config.loader import parse_study
from study.execution import run
from study.results.folder import StudyFolder
from trainables import noise
from trainables.errors import BadInputError


class RayStartsError(Exception):
    """Raised where a run would start Ray."""


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_ray(*_: Any, **__: Any) -> NoReturn:
        raise RayStartsError

    monkeypatch.setattr(run, "start_ray", start_ray)


def start(folder: Path, **grid: Any) -> None:
    """`run_study`, up to the start of Ray."""
    study = {**TINY_STUDY, "storage": str(folder), "grid": {**TINY_STUDY["grid"], **grid}}
    content = yaml.safe_dump(study).encode()
    run.run_study(parse_study(content, "tiny.yaml"), content)


def test_a_resumed_run_draws_no_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    draw = noise.apply

    def counted(*arguments: Any, **options: Any) -> noise.NoisySplits:
        draws.append(arguments)
        return draw(*arguments, **options)

    monkeypatch.setattr(noise, "apply", counted)
    with pytest.raises(RayStartsError):
        start(tmp_path)
    assert len(draws) == 1
    record = StudyFolder(str(tmp_path / "tiny")).read_transitions()
    assert record is not None
    with pytest.raises(RayStartsError):
        start(tmp_path)
    assert len(draws) == 1
    assert record.equals(StudyFolder(str(tmp_path / "tiny")).read_transitions())


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"dataset": ["fashion-mnist"]}, "fashion-mnist"),
        ({"dataset": [{"name": "cifar10"}], "noise": [{"kind": "human-worst"}]}, "cifar10"),
    ],
)
def test_a_missing_data_set_is_one_line_before_ray_starts(
    grid: dict[str, Any],
    message: str,
    is_recorded: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGIT_BIAS_DATA", str(tmp_path / "empty"))
    folder = StudyFolder(str(tmp_path / "tiny"))
    if is_recorded:
        folder.write_transitions([])
    with pytest.raises(BadInputError, match=message) as raised:
        start(tmp_path, **grid)
    assert "\n" not in str(raised.value)
    assert is_recorded or not (tmp_path / "tiny").exists()
