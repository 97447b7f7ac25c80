"""A study folder or bundle from somebody else runs no code (docs/security.md)."""

import hashlib
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from planted import Planted, write_study
from tests_support import TINY_STUDY, logit_bias

from analysis.recommendation.records import Setting
from analysis.recommendation.snippet import snippet
from study.results.bundle import MANIFEST
from trainables.tune import _load_state

CODE = """
from pathlib import Path
Path({mark!r}).touch()
import torch
def loss(logits, labels):
    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").reshape(labels.shape)
class Net(torch.nn.Sequential):
    def __init__(self, input_shape, classes):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(torch.Size(input_shape).numel(), classes))
"""  # noqa: E501


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the stranger's module creates when it is imported."""
    path, module = (
        tmp_path / "code-has-run",
        f"module_{hashlib.sha1(str(tmp_path).encode()).hexdigest()}",
    )
    (tmp_path / f"{module}.py").write_text(CODE.format(mark=str(path)))
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


def module(mark: Path) -> str:
    (found,) = mark.parent.glob("module_*.py")
    return found.stem


def study_file(mark: Path, kind: str, name: str = "planted") -> dict[str, Any]:
    grid = {**TINY_STUDY["grid"], "loss": ["mae"]}
    if kind == "loss":
        grid["loss"] = [f"{module(mark)}:loss"]
    elif kind == "losses":
        grid |= {"loss": "joint", "losses": ["ce", {"name": f"{module(mark)}:loss"}]}
    elif kind == "model":
        grid["model"] = [{"name": f"{module(mark)}:Net"}]
    return {**TINY_STUDY, "name": name, "grid": grid, "storage": str(mark.parent)}


def strangers_folder(mark: Path, kind: str = "loss") -> Path:
    folder = mark.parent / "planted"
    loss = f"{module(mark)}:loss" if kind != "model" else "mae"
    write_study(folder, [Planted(loss=loss), Planted(loss="gce")], search=8, sweep_points=5)
    (folder / "study.yaml").write_text(yaml.safe_dump(study_file(mark, kind)))
    return folder


ANALYSING = ["report", "compare", "recommend", "export --to bundle", "export --to csv"]


@pytest.mark.parametrize("command", ANALYSING)
def test_no_name_of_a_folder_is_imported_when_it_is_analysed(mark: Path, command: str) -> None:
    name, *options = command.split()
    done = logit_bias(name, str(strangers_folder(mark)), *options, cwd=mark.parent)
    assert done.returncode == 0, done.stderr
    assert not mark.exists()


RETRAINING = [
    "status {folder}",
    "trial {folder} sweep-000000",
    "export {folder} --to optuna",
    "export-optuna {folder} journal.log",
    "merge {folder} {other} --output {into}/planted",
    "plan {folder}/study.yaml",
    "run {folder}/study.yaml",
    "plan {folder}/study-files/0000-0.yaml",
    "submit {folder}/study.yaml --slurm --dry-run",
]


@pytest.mark.parametrize("kind", ["loss", "losses", "model"])
def test_what_needs_the_code_asks_for_trust_and_names_it(mark: Path, kind: str) -> None:
    folder = strangers_folder(mark, kind)
    (folder / "study-files").mkdir()
    shutil.copy(folder / "study.yaml", folder / "study-files/0000-0.yaml")
    other = shutil.copytree(folder, mark.parent / "other/planted")
    before = sorted(mark.parent.rglob("*"))
    for command in RETRAINING:
        text = command.format(folder=folder, other=other, into=mark.parent / "merged")
        done = logit_bias(*text.split(), cwd=mark.parent)
        assert done.returncode == 2, (text, done)
        assert len(done.stderr.strip().splitlines()) == 1
        assert f"'{module(mark)}:{'Net' if kind == 'model' else 'loss'}'" in done.stderr, text
        assert "--trust" in done.stderr
        assert not mark.exists(), text
    assert sorted(mark.parent.rglob("*")) == before


def test_with_trust_the_code_runs(mark: Path) -> None:
    """So the other tests would notice it."""
    folder = strangers_folder(mark)
    done = logit_bias("plan", f"{folder}/study.yaml", "--trust")
    assert mark.exists()
    assert "--trust" not in done.stderr


def test_a_users_own_file_imports_what_it_names_and_not_what_its_folder_names(mark: Path) -> None:
    folder = strangers_folder(mark)
    own = mark.parent / "mine.yaml"
    own.write_text(yaml.safe_dump(study_file(mark, "plain")))
    for command in ("plan", "run"):
        refused = logit_bias(command, str(own))
        assert refused.returncode == 2
        assert f"{folder}/study.yaml: grid.loss[0] = '{module(mark)}:loss'" in refused.stderr
        assert not mark.exists()
    own.write_text(yaml.safe_dump(study_file(mark, "loss", name="another")))
    done = logit_bias("plan", str(own))
    assert done.returncode == 0, done.stderr
    assert mark.exists()


class _Runs:
    """Unpickling it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_is_read_as_numbers_alone(tmp_path: Path) -> None:
    mark, content = tmp_path / "code-has-run", io.BytesIO()
    torch.save({"state": _Runs(mark)}, content)
    for attack in (content.getvalue(), pickle.dumps(_Runs(mark))):
        assert _load_state(attack) is None
        assert not mark.exists()
    pickle.loads(attack)
    assert mark.exists()


@pytest.mark.parametrize("command", [*ANALYSING, "status", "trial sweep-000000"])
def test_yaml_makes_no_objects(tmp_path: Path, command: str) -> None:
    mark = tmp_path / "code-has-run"
    write_study(tmp_path / "planted", [Planted()], search=8, sweep_points=5)
    text = f"name: !!python/object/apply:os.system ['touch {mark}']"
    (tmp_path / "planted/study.yaml").write_text(text)
    name, *options = command.split()
    done = logit_bias(name, "planted", *options, cwd=tmp_path)
    assert (done.returncode == 0) == command.startswith("export")  # these copy the file
    assert "Traceback" not in done.stderr
    assert not mark.exists()


def bundle(path: Path, files: dict[str, bytes]) -> Path:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = json.dumps({"bundle_version": 1, "files": hashes}).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, MANIFEST: manifest}.items():
            archive.writestr(name, content)
    return path


def test_a_bundle_writes_nothing_outside_its_own_folder(tmp_path: Path) -> None:
    write_study(tmp_path / "in/planted", [Planted()], search=8, sweep_points=5)
    root = tmp_path / "in/planted"
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    outside = ["../../up", "study-files/../../../up.yaml", str(tmp_path / "up"), "analysis/../up"]
    path = bundle(tmp_path / "in/evil.zip", {**files, **dict.fromkeys(outside, b"x")})
    (tmp_path / "work").mkdir()
    for command in ("report", "export --to csv", "export --to bundle", "compare"):
        name, *options = command.split()
        done = logit_bias(name, str(path), *options, cwd=tmp_path / "work")
        assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "work/evil.bundle.zip") as copied:
        assert not [name for name in copied.namelist() if "up" in name]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "work"]
    assert sorted(p.name for p in (tmp_path / "in").iterdir()) == ["evil", "evil.zip", "planted"]
    assert [p.name for p in (tmp_path / "in/evil").iterdir()] == ["analysis"]


@pytest.mark.parametrize("name", ["study.yaml", MANIFEST])
def test_a_small_bundle_that_fills_the_memory_is_refused(tmp_path: Path, name: str) -> None:
    bomb = b" " * 2**28
    path = bundle(tmp_path / "bomb.zip", {"study.yaml": bomb} if name != MANIFEST else {})
    if name == MANIFEST:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, bomb)
    assert path.stat().st_size < 2**20
    done = logit_bias("status", str(path))
    assert done.returncode == 2
    assert f"{name} expands to 268,435,456 bytes" in done.stderr


def test_code_to_be_pasted_has_no_code_of_the_folder() -> None:
    """`recommend` prints it; names and numbers come from a folder."""
    names = ['mae"); print("', "mae\nprint()\n", "mae\\"]
    for name in names:
        setting = Setting("cell", "tuned", name, {}, name, 1.0, None, 0.1)
        recipe = {"epochs": "1); print(", "batch_size": "1\nprint()"}
        text = snippet(setting, 10, {"recipe": recipe})
        assert "print()" not in text.splitlines()
        code = compile(text, "snippet", "exec")
        assert name in code.co_consts
        assert "print" not in code.co_names
