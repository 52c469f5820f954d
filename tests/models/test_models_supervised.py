"""The model that carries a criterion, and the two ways in which it decides a class."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.models.classifier import Architecture, Classifier, build_classifier
from robustbench_pcl.models.supervised import SupervisedModel, nearest

CLASSES, DIMENSION = 5, 4
ANCHORED = [name for name in LOSSES if LOSSES[name].has_anchors]
BY_LOGITS = [name for name in LOSSES if LOSSES[name].with_cross_entropy]
EVERY = [(loss, "nearest") for loss in ANCHORED]
EVERY += [(loss, "softmax") for loss in ANCHORED if loss in BY_LOGITS]
"""Every loss with anchors, and every way to decide a class that goes with it."""


@pytest.fixture
def supervised() -> SupervisedModel:
    classifier = build_classifier("conv6", (1, 8, 8), CLASSES, width=0.125, feature_layers=(3, 5))
    criterion = Criterion({"name": "pcl"}, {3: 16, 5: 8}, CLASSES, seed=0)
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


def test_prototypes_and_a_defence_s_memory_are_part_of_the_state(supervised):
    names = set(supervised.state_dict())
    assert {"criterion.losses.3.prototypes", "criterion.losses.5.scale"} <= names
    memory = nn.BatchNorm1d(2)
    holding = SupervisedModel(supervised.classifier, supervised.criterion, memory=memory)
    added = set(holding.state_dict()) - names
    assert added == {f"memory.{name}" for name in memory.state_dict()}


# On images of two pixels, which are their own features

ANCHORS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
IMAGES = torch.tensor([[0.1, 0.2], [0.9, 0.3], [0.4, 0.8], [0.6, 0.1]]).view(4, 1, 1, 2)
BY_NEAREST = [0, 1, 2, 1]
HEAD = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
BY_HEAD = [1, 2, 1, 2]


def on_pixels(loss: str, inference: str) -> SupervisedModel:
    head = nn.Identity()
    criterion = Criterion({"name": loss}, {1: 2}, 3, seed=0)
    if criterion.with_cross_entropy:
        head = nn.Linear(2, 3, bias=False)
        head.weight.data.copy_(HEAD)
    anchors, *_ = criterion.losses["1"].parameters()
    anchors.data.copy_(ANCHORS)
    classifier = Classifier(Architecture([nn.Flatten()], head), (1,), [0.0], [1.0])
    return SupervisedModel(classifier, criterion, inference)


def expected_logits(inference: str) -> Tensor:
    """By hand; the anchors' squared distances 1, 1 and 2 average to 4/3, and 16 / (4/3) is 12."""
    pixels = IMAGES.view(4, 2)
    if inference == "softmax":
        return pixels @ HEAD.T
    return -torch.stack([(pixels - anchor).square().sum(dim=1) for anchor in ANCHORS], dim=1) * 12


@pytest.mark.parametrize(("loss", "inference"), EVERY)
def test_the_class_is_decided_as_the_recipe_says(loss, inference):
    model = on_pixels(loss, inference)
    answers = BY_NEAREST if inference == "nearest" else BY_HEAD
    logits = model(IMAGES)
    assert torch.allclose(logits, expected_logits(inference), atol=1e-5)
    assert logits.argmax(dim=1).tolist() == answers
    labels = torch.tensor([*answers[:3], (answers[3] + 1) % 3])
    step = model.step(IMAGES, labels)
    assert (step.count, step.correct.item()) == (4, 3)
    assert not step.correct.requires_grad


@pytest.mark.parametrize(("loss", "inference"), EVERY)
def test_the_joint_loss_is_cross_entropy_of_the_deciding_logits_and_the_loss(loss, inference):
    model, labels = on_pixels(loss, inference), torch.tensor([0, 2, 2, 1])
    own = model.criterion.losses["1"].per_image(IMAGES.view(4, 2), labels)
    expected = F.cross_entropy(expected_logits(inference), labels, reduction="none") + own
    images = IMAGES.clone().requires_grad_(True)
    found, logits = model.joint_loss(images, labels)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(logits, model(images))
    for value in (F.cross_entropy(model(images), labels), found.sum()):
        (gradient,) = torch.autograd.grad(value, images)
        assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize(("loss", "inference"), EVERY)
def test_the_final_layer_learns_by_its_own_logits_whatever_decides(loss, inference):
    model, labels = on_pixels(loss, inference), torch.tensor([0, 2, 2, 1])
    terms = model.step(IMAGES, labels).terms
    own = terms.pop(loss.replace("-", "_"))
    assert own.item() == pytest.approx(
        model.criterion.losses["1"](IMAGES.view(4, 2), labels).item()
    )
    expected = F.cross_entropy(expected_logits("softmax"), labels).item()
    found = {name: value.item() for name, value in terms.items()}
    assert found == ({"cross_entropy": pytest.approx(expected)} if loss in BY_LOGITS else {})


# The nearest anchor


def random_criterion(name: str, size: float = 1.0) -> Criterion:
    """The loss at layers 7 and 3, in that order, with its parameters anywhere."""
    criterion = Criterion({"name": name}, {7: DIMENSION, 3: DIMENSION}, CLASSES, 0).double()
    source = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in criterion.parameters():
            value.copy_(size * torch.randn(value.shape, generator=source, dtype=value.dtype))
    return criterion


def features_of(count: int) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randn((count, DIMENSION), generator=source, dtype=torch.float64)


def square(vector: Tensor) -> float:
    return sum(entry**2 for entry in vector.tolist())


@pytest.mark.parametrize("name", ANCHORED)
def test_logits_are_squared_distances_to_the_deepest_anchors_in_units_of_those_between(name):
    criterion, features = random_criterion(name), features_of(100)
    anchors = criterion.losses["7"].anchors()
    apart = [square(one - other) for one, other in itertools.permutations(anchors, 2)]
    unit = sum(apart) / len(apart)
    logits = nearest(criterion, {3: -features, 7: features})
    for feature, found in zip(features, logits, strict=True):
        expected = [-16 * square(feature - anchor) / unit for anchor in anchors]
        assert found.tolist() == pytest.approx(expected)
    assert set(logits.argmax(dim=1).tolist()) == set(range(CLASSES))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_on_its_own_anchor_an_image_is_16_above_the_others_at_any_size(size):
    criterion = random_criterion("center")
    loss = criterion.losses["7"]
    with torch.no_grad():
        loss.centres.copy_(torch.eye(CLASSES, DIMENSION) - 0.5)
        loss.centres[CLASSES - 1] = (1 - 5**0.5) / 4 - 0.5  # as far from the others as they are
        loss.centres.mul_(size)
    logits = nearest(criterion, {7: loss.centres.detach()})
    expected = 16 * torch.eye(CLASSES, dtype=torch.float64) - 16
    assert torch.allclose(logits, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_cross_entropy_on_the_distances_has_a_gradient_at_any_size(size):
    """In the features' own units it is exactly zero in float32 where they are large."""
    criterion = random_criterion("center", size).float()
    features = criterion.losses["7"].centres.detach().clone().requires_grad_(True)
    labels = torch.arange(CLASSES)
    (found,) = torch.autograd.grad(
        F.cross_entropy(nearest(criterion, {7: features}), labels), features
    )
    assert (found.norm(dim=1) * size > 1e-8).all()
    raw = -torch.cdist(features, features.detach()).square()
    (lost,) = torch.autograd.grad(F.cross_entropy(raw, labels), features)
    assert bool((lost == 0).all()) == (size == 1e3)


@pytest.mark.parametrize("name", ANCHORED)
def test_the_distances_gradient_reaches_the_features_and_no_anchor(name):
    criterion, features = random_criterion(name), features_of(12).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda given: nearest(criterion, {7: given}), features)
    labels = torch.arange(12) % CLASSES
    F.cross_entropy(nearest(criterion, {7: features}), labels).backward()
    assert features.grad.abs().amax(dim=1).min() > 0
    assert all(value.grad is None for value in criterion.parameters())


@pytest.mark.parametrize("name", ANCHORED)
def test_anchors_that_coincide_make_no_nan(name):
    criterion = random_criterion(name, size=0.0)
    logits = nearest(criterion, {7: features_of(12)})
    assert logits.isfinite().all()
    assert F.softmax(logits, dim=1).isfinite().all()


@pytest.mark.parametrize("loss", list(LOSSES))
def test_what_the_criterion_does_not_train_cannot_decide(loss, supervised):
    criterion = Criterion({"name": loss}, {3: 16}, CLASSES, seed=0)
    refused = {
        "nearest": (loss not in ANCHORED, "gives the classes no points"),
        "softmax": (loss not in BY_LOGITS, "has no final layer to classify by"),
    }
    for inference, (refuses, words) in refused.items():
        if refuses:
            with pytest.raises(UserError, match=words):
                SupervisedModel(supervised.classifier, criterion, inference)
        else:
            SupervisedModel(supervised.classifier, criterion, inference)
