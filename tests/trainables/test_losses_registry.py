"""The registry of losses: look-up, user-defined losses, bad input, and no torch."""

import json
import subprocess
import sys

import pytest
import torch

from trainables import losses

LABELS = torch.tensor([0, 2, 1])


def power_of_mae(logits, labels, *, power=2.0):
    return losses.mae(logits, labels) ** power


POWER_OF_MAE = losses.Loss(
    "power_of_mae", power_of_mae, (losses.Parameter("power", 2.0, 1.0, 3.0),), bounded=True
)


def test_unknown_loss_lists_what_is_allowed():
    with pytest.raises(losses.UnknownLossError, match=r"'maee'; allowed: .*gce.* mean mae\?") as e:
        losses.get("maee")
    assert "\n" not in str(e.value)
    for name in (
        "nowhere.module:f",
        "trainables.losses:nothing",
        ":f",
        "trainables.losses:__name__",
    ):
        with pytest.raises(losses.UnknownLossError, match="unknown loss"):
            losses.get(name)


def test_a_loss_can_be_registered_once():
    with losses.registered(POWER_OF_MAE):
        assert losses.get("power_of_mae") is POWER_OF_MAE
        with pytest.raises(ValueError, match="taken"):
            losses.register(POWER_OF_MAE)
    assert "power_of_mae" not in losses.names()


def test_dotted_name_gives_a_function_its_parameters():
    loss = losses.get("trainables.losses:gce")
    assert loss.defaults == {"q": 0.7}
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(losses.evaluate(loss, logits, LABELS), losses.gce(logits, LABELS))


def test_parameters_are_checked():
    gce = losses.get("gce")
    assert gce.check(q=0.5) == {"q": 0.5}
    with pytest.raises(losses.LossParameterError, match="no parameter r; allowed: q"):
        gce.check(r=1.0)
    with pytest.raises(losses.LossParameterError, match="no parameter r; allowed: none"):
        losses.get("ce").check(r=1.0)
    for value in (0.0, 1.5, float("nan")):
        with pytest.raises(losses.LossParameterError, match="q ="):
            gce.check(q=value)
    with pytest.raises(losses.LossParameterError, match="low"):
        losses.Parameter("q", 0.5, 0.6, 1.0)


def test_logit_bias_is_added_to_the_label_and_leaves_its_input():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    before = logits.clone()
    biased = losses.add_logit_bias(logits, LABELS, torch.tensor([0.0, 2.0]))
    assert torch.equal(logits, before)
    assert torch.equal(biased[0], logits[0])
    added = (biased - logits)[1]
    assert torch.allclose(added, 2.0 * torch.nn.functional.one_hot(LABELS, 4), atol=1e-6)
    # A positive bias makes the labelled class look more probable: the loss falls.
    assert (losses.ce(biased[1], LABELS) < losses.ce(logits[1], LABELS)).all()


DESCRIBE = """
import json
from trainables import losses

print(json.dumps([[
    name, loss.bounded, loss.symmetric, loss.asymmetric, loss.searches_epsilon,
    loss.of_probability, loss.defaults, loss.reference, dict(loss.exact), str(loss.parameters),
    [[preset.name, loss.preset(preset.name), preset.source] for preset in loss.presets],
] for name in losses.names() for loss in [losses.get(name)]]))
"""
NO_TORCH = "import sys; sys.modules['torch'] = None  # an import of it now fails\n"


def run(code):
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_everything_about_the_losses_is_known_without_torch():
    without_torch = json.loads(run(NO_TORCH + DESCRIBE))
    assert [row[0] for row in without_torch] == list(losses.names())
    assert without_torch == json.loads(run(DESCRIBE))


def test_calling_a_loss_without_torch_names_the_extra():
    message = run(
        NO_TORCH + "from trainables import errors, losses\n"
        "try:\n    losses.mae.of_log_p(-1.0)\n"
        "except errors.MissingExtraError as error:\n    print(error)"
    )
    assert message.count("\n") == 1
    assert "needs torch" in message
    assert "[train]" in message


def test_a_broken_torch_is_not_taken_for_an_absent_one(tmp_path):
    (tmp_path / "torch.py").write_text("import a_library_that_torch_needs")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from trainables import losses\nlosses.mae.of_log_p(-1.0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 1
    assert "No module named 'a_library_that_torch_needs'" in finished.stderr


def test_importing_the_losses_imports_no_torch_and_using_one_does():
    run("""
import sys
from trainables import losses
from trainables.losses import _common, _torch
assert "torch" not in sys.modules
assert not isinstance(1.0, _torch.Tensor)
import torch
bias = torch.tensor([0.0, 2.0])  # a tensor before any loss was used
logits, labels = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
assert losses.add_logit_bias(logits, labels, bias)[:, 0, 0].tolist() == [0.0, 2.0]
assert _common.torch is torch and _common.Tensor is torch.Tensor
""")


def test_a_criterion_leaves_no_stand_in_for_torch_behind():
    """Torch.compile cannot trace them."""
    run("""
from trainables import losses
losses.Criterion
import sys, torch
for name, module in list(sys.modules.items()):
    if name.startswith("trainables.losses."):
        assert getattr(module, "torch", torch) is torch, name
        assert getattr(module, "Tensor", torch.Tensor) is torch.Tensor, name
""")
