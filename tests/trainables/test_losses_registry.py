"""The table of losses: look-up, own losses, and bad input."""

import pytest
import torch

from trainables import losses

LABELS = torch.tensor([0, 2, 1])


def own_loss(logits, labels, *, power=2.0):
    return losses.mae(logits, labels) ** power


OWN = losses.Loss("own", own_loss, (losses.Parameter("power", 2.0, 1.0, 3.0),), bounded=True)


def test_unknown_loss_lists_what_is_allowed():
    with pytest.raises(losses.UnknownLossError, match=r"'maee' \(did you mean mae\?\).*gce") as e:
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


def test_own_loss_in_one_line():
    with losses.registered(OWN):
        assert losses.get("own") is OWN
        with pytest.raises(ValueError, match="taken"):
            losses.register(OWN)
    assert "own" not in losses.names()


def test_dotted_name_gives_a_function_its_parameters():
    loss = losses.get("trainables.losses:gce")
    assert loss.defaults == {"q": 0.7}
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(losses.evaluate(loss, logits, LABELS), losses.gce(logits, LABELS))


def test_parameters_are_checked():
    gce = losses.get("gce")
    assert gce.check(q=0.5) == {"q": 0.5}
    with pytest.raises(losses.LossParameterError, match="no parameter r"):
        gce.check(r=1.0)
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
