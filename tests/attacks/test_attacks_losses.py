"""What attacks maximise, one value per image."""

import copy

import pytest
import torch
import torch.nn.functional as F
from attack_toys import careless, state_of
from torch import nn

from robustbench_pcl.attacks import FGSM, PGD
from robustbench_pcl.attacks.losses import AttackLoss, logit_margin
from robustbench_pcl.errors import UserError


def test_margin_is_the_best_other_logit_less_the_own():
    logits = torch.tensor([[3.0, 1.0, 2.5], [3.0, 1.0, 2.5], [-1.0, -7.0, -1.0]])
    labels = torch.tensor([0, 1, 2])
    assert logit_margin(logits, labels).tolist() == [-0.5, 2.0, 0.0]


@pytest.mark.parametrize("name", ["cross-entropy", "margin"])
def test_attack_losses_have_one_value_per_image(case, name):
    model = copy.deepcopy(case.model).eval()
    found, passed = AttackLoss(name)(model, case.images, case.labels)
    logits = model(case.images)
    assert torch.equal(passed, logits)
    for index, (row, label) in enumerate(zip(logits, case.labels, strict=True)):
        others = torch.cat([row[:label], row[label + 1 :]])
        expected = {
            "cross-entropy": torch.logsumexp(row, 0) - row[label],
            "margin": others.max() - row[label],
        }[name]
        assert found[index].item() == pytest.approx(expected.item(), abs=1e-12)


class WithJoint(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images)

    def joint_loss(self, images, labels):
        logits = self.model(images)
        return -F.cross_entropy(logits, labels, reduction="none"), logits


def test_joint_is_the_loss_the_model_carries(case):
    """Here the model's own loss is the negative of the plain one, so the attack helps it."""
    model = WithJoint(case.model)
    images, labels = case.images, case.labels
    joint = FGSM(eps=0.05, loss="joint")(model, images, labels, exact=True)
    plain = FGSM(eps=0.05)(model, images, labels, targets=labels, exact=True)
    assert torch.equal(joint, plain)


def test_joint_needs_a_model_that_carries_its_loss(case):
    model = careless(case.model)
    before = state_of(model)
    with pytest.raises(UserError, match="Sequential has no prototypes to attack"):
        PGD(loss="joint")(model, case.images, case.labels)
    assert state_of(model) == before
