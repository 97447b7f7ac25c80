"""Commands that neither train nor search start fast: they import neither torch, Ray nor Optuna."""

import subprocess
import sys
from pathlib import Path

import pytest

FINDINGS = Path(__file__).parents[2] / "docs/findings"
HEAVY = ("torch", "torchvision", "ray", "optuna", "sklearn")
BAD = {
    "unknown key": "serach: 1",
    "loss": "grid: {dataset: [digits], noise: [{kind: as-is}], model: [mlp], loss: [maee]}",
    "model": "grid: {dataset: [digits], noise: [{kind: as-is}], model: [resnet35], loss: [mae]}",
    "image": "grid: {dataset: [clinc150], noise: [{kind: as-is}], model: [cnn8], loss: [mae]}",
    "augment": "recipe: {epochs: 1, batch_size: 8, augment: {crop: -1}}",
    "beside a module of one's own": "{serach: 1, grid: {dataset: [digits], noise: [{kind: as-is}], "
    "model: ['never_imported:Net'], loss: ['never_imported:loss']}}",
}
COMMANDS = {
    "help": ["--help"],
    "help of run": ["run", "--help"],
    "presets": ["presets"],
    "losses": ["losses"],
    "datasets": ["datasets"],
    "epsilon": ["epsilon", "--classes", "100"],
    "status": ["status", str(FINDINGS / "rivals")],
    "analyse": ["analyse", str(FINDINGS / "rivals"), "--into", "NEW"],
    **{f"plan, {name}": ["plan", "BAD", name] for name in BAD},
    "run, unknown key": ["run", "BAD", "unknown key"],
    "submit, unknown key": ["submit", "--address", "http://127.0.0.1:1", "BAD", "unknown key"],
}
RUN = """
import sys
sys.argv = ["logit-bias", *{arguments!r}]
from study.cli.main import main
try:
    main()
except SystemExit as end:
    code = end.code
else:
    code = 0
print("heavy:", [name for name in {heavy!r} if name in sys.modules])
sys.exit(code)
"""


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_neither_torch_nor_ray_nor_optuna_is_imported(arguments: list[str], tmp_path: Path) -> None:
    arguments = [str(tmp_path / "new") if word == "NEW" else word for word in arguments]
    is_bad = "BAD" in arguments
    if is_bad:
        *arguments, _, name = arguments
        file = tmp_path / "study.yaml"
        file.write_text(BAD[name])
        arguments.append(str(file))
    code = RUN.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == (2 if is_bad else 0), done.stderr
    assert done.stdout.endswith("heavy: []\n"), done.stdout
    assert done.stderr.count("\n") <= 1, done.stderr
    assert "never_imported" not in done.stderr
