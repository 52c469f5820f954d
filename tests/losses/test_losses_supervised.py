"""The model that carries a criterion, with either rule of inference."""

import pytest
import torch
import torch.nn.functional as F
from loss_toys import CLASSES, ON_PAIRS
from torch import Tensor, nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.criterion import Criterion, build_criterion
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.models.classifier import Architecture, Classifier, build_classifier
from robustbench_pcl.specs.base import Part


@pytest.fixture
def supervised() -> SupervisedModel:
    classifier = build_classifier("conv6", (1, 8, 8), CLASSES, width=0.125, taps=(3, 5))
    criterion = build_criterion(Part(name="pcl"), {3: 16, 5: 8}, CLASSES, seed=0)
    return SupervisedModel(classifier, criterion)


def test_a_step_and_the_joint_loss_are_the_same_number(supervised):
    images = torch.rand((6, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = supervised(images).argmax(dim=1)
    labels[:2] = (labels[:2] + 1) % CLASSES
    step = supervised.step(images, labels)
    assert (step.count, step.correct.item()) == (6, 4)
    assert not step.correct.requires_grad
    joint, logits = supervised.joint_loss(images, labels)
    assert torch.equal(logits, supervised(images))
    assert sum(step.terms.values()).item() == pytest.approx(joint.mean().item())
    assert torch.equal(supervised(images), supervised.classifier(images))


def test_prototypes_are_part_of_the_state(supervised):
    names = set(supervised.state_dict())
    assert {"criterion.losses.3.prototypes", "criterion.losses.5.scale"} <= names
    assert isinstance(supervised, nn.Module)
    assert isinstance(supervised.criterion, Criterion)


def test_memory_is_part_of_the_state_if_there_is_any(supervised):
    memory = nn.BatchNorm1d(2)
    holding = SupervisedModel(supervised.classifier, supervised.criterion, memory=memory)
    assert holding.memory is memory
    added = set(holding.state_dict()) - set(supervised.state_dict())
    assert added == {f"memory.{name}" for name in memory.state_dict()}


# On images of two pixels, which are their own features

ANCHORS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
IMAGES = torch.tensor([[0.1, 0.2], [0.9, 0.3], [0.4, 0.8], [0.6, 0.1]]).view(4, 1, 1, 2)
NEAREST = [0, 1, 2, 1]
HEAD = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
BY_HEAD = [1, 2, 1, 2]


def on_pixels(loss: str, inference: str) -> SupervisedModel:
    head = nn.Identity()
    criterion = build_criterion(Part(name=loss), {1: 2}, 3, seed=0)
    if criterion.with_cross_entropy:
        head = nn.Linear(2, 3, bias=False)
        head.weight.data.copy_(HEAD)
    own = "prototypes" if loss == "pcl" else "centres"
    getattr(criterion.losses["1"], own).data.copy_(ANCHORS)
    classifier = Classifier(Architecture([nn.Flatten()], head), (1,), [0.0], [1.0])
    return SupervisedModel(classifier, criterion, inference)


def rule_s_logits(inference: str) -> Tensor:
    """By hand; the anchors' squared distances 1, 1 and 2 average to 4/3, and 16 / (4/3) is 12."""
    pixels = IMAGES.view(4, 2)
    if inference == "softmax":
        return pixels @ HEAD.T
    return -torch.stack([(pixels - anchor).square().sum(dim=1) for anchor in ANCHORS], dim=1) * 12


EVERY = [(loss, "nearest") for loss in ("pcl", "center", *ON_PAIRS)]
EVERY += [("pcl", "softmax"), ("center", "softmax")]


@pytest.mark.parametrize(("loss", "inference"), EVERY)
def test_the_model_answers_by_its_rule(loss, inference):
    model = on_pixels(loss, inference)
    answers = NEAREST if inference == "nearest" else BY_HEAD
    logits = model(IMAGES)
    assert torch.allclose(logits, rule_s_logits(inference), atol=1e-5)
    assert logits.argmax(dim=1).tolist() == answers
    labels = torch.tensor([*answers[:3], (answers[3] + 1) % 3])
    step = model.step(IMAGES, labels)
    assert (step.count, step.correct.item()) == (4, 3)
    assert not step.correct.requires_grad


@pytest.mark.parametrize(("loss", "inference"), EVERY)
def test_the_joint_loss_is_cross_entropy_of_the_rule_s_answer_and_the_loss(loss, inference):
    model, labels = on_pixels(loss, inference), torch.tensor([0, 2, 2, 1])
    own = model.criterion.losses["1"].per_image(IMAGES.view(4, 2), labels)
    expected = F.cross_entropy(rule_s_logits(inference), labels, reduction="none") + own
    found, logits = model.joint_loss(IMAGES, labels)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(logits, model(IMAGES))


@pytest.mark.parametrize("inference", ["softmax", "nearest"])
def test_the_final_layer_learns_by_its_own_logits_whatever_the_rule(inference):
    model, labels = on_pixels("pcl", inference), torch.tensor([0, 2, 2, 1])
    found = model.step(IMAGES, labels).terms["cross_entropy"]
    assert found.item() == pytest.approx(F.cross_entropy(rule_s_logits("softmax"), labels).item())


@pytest.mark.parametrize("loss", ON_PAIRS)
def test_a_model_without_a_final_layer_learns_by_the_loss_alone(loss):
    model, labels = on_pixels(loss, "nearest"), torch.tensor([0, 2, 2, 1])
    terms = model.step(IMAGES, labels).terms
    assert list(terms) == [loss]
    expected = model.criterion.losses["1"](IMAGES.view(4, 2), labels)
    assert terms[loss].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("inference", ["softmax", "nearest"])
def test_the_answer_and_the_joint_loss_have_gradients_in_the_images(inference):
    model, labels = on_pixels("center", inference), torch.tensor([0, 2, 2, 1])
    images = IMAGES.clone().requires_grad_(True)
    joint, _ = model.joint_loss(images, labels)
    for value in (F.cross_entropy(model(images), labels), joint.sum()):
        (found,) = torch.autograd.grad(value, images)
        assert (found.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_a_rule_that_the_criterion_does_not_train_is_refused(supervised):
    plain = build_criterion(Part(name="cross-entropy"), {}, CLASSES, seed=0)
    with pytest.raises(UserError, match="no points"):
        SupervisedModel(supervised.classifier, plain, "nearest")
