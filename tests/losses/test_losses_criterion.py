"""Deep supervision: the sum over layers, and the model that carries it."""

import pytest
import torch
import torch.nn.functional as F
from loss_toys import CLASSES, COUNT, DIMENSION, ON_FEATURES, batch
from torch import Tensor, nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.losses.base import class_means
from robustbench_pcl.losses.criterion import Criterion, build_criterion
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.models.classifier import build_classifier
from robustbench_pcl.specs.base import Part

# The criterion

DIMENSIONS = {4: DIMENSION, 2: DIMENSION}


def layered(seed: int = 0) -> tuple[Tensor, dict[int, Tensor], Tensor]:
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn((COUNT, CLASSES), generator=source, dtype=torch.float64)
    features = {layer: batch(seed=layer)[0] for layer in DIMENSIONS}
    return logits, features, torch.arange(COUNT) % CLASSES


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_criterion_s_terms_sum_to_the_mean_of_its_images(name):
    criterion = build_criterion(Part(name=name), DIMENSIONS, CLASSES, seed=0).double()
    logits, features, labels = layered()
    terms = criterion(logits, features, labels)
    images = criterion.per_image(logits, features, labels)
    assert images.shape == (COUNT,)
    assert sum(terms.values()).item() == pytest.approx(images.mean().item())
    assert terms["cross_entropy"].item() == pytest.approx(F.cross_entropy(logits, labels).item())
    assert list(terms) == ["cross_entropy", *([] if name == CROSS_ENTROPY else [criterion.name])]
    assert all(value.ndim == 0 for value in terms.values())


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_criterion_has_a_loss_a_layer_on_that_layer_s_features(name):
    criterion = build_criterion(Part(name=name), DIMENSIONS, CLASSES, seed=0).double()
    logits, features, labels = layered()
    criterion.initialise(features, labels)
    expected = sum(criterion.losses[str(layer)](features[layer], labels) for layer in DIMENSIONS)
    terms = criterion(logits, features, labels)
    assert terms[criterion.name].item() == pytest.approx(expected.item())
    swapped = {2: features[4], 4: features[2]}
    assert criterion(logits, swapped, labels)[criterion.name].item() != pytest.approx(
        expected.item()
    )
    listed = {id(p) for group in criterion.parameter_groups(0.5) for p in group["params"]}
    assert listed == {id(value) for value in criterion.parameters()}


def test_initialise_reaches_every_layer():
    criterion = build_criterion(Part(name="pcl"), DIMENSIONS, CLASSES, seed=0).double()
    _, features, labels = layered()
    criterion.initialise(features, labels)
    for layer in DIMENSIONS:
        loss = criterion.losses[str(layer)]
        means = class_means(features[layer], labels, CLASSES)
        assert torch.allclose(loss.prototypes * loss.scale, means)


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_criterion_s_seed_decides_and_nothing_else_is_drawn(name):
    state = torch.random.get_rng_state()
    one, again = (
        build_criterion(Part(name=name), DIMENSIONS, CLASSES, seed=3).state_dict() for _ in "12"
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[key], again[key]) for key in one)


def test_parameters_reach_the_losses():
    part = Part(name="pcl", parameters={"separation": 2.0, "weight": 0.5})
    criterion = build_criterion(part, DIMENSIONS, CLASSES, seed=0)
    assert [(loss.separation, loss.weight) for loss in criterion.losses.values()] == [(2, 0.5)] * 2


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(name="plc"), "Did you mean pcl"),
        (Part(name="pcl", parameters={"seperation": 2}), "Did you mean separation"),
        (Part(name="pcl", parameters={"dimension": 2}), "no parameter of loss pcl"),
        (Part(name="pcl", parameters={"separation": 0}), "separation is 0"),
        (Part(name="pcl-authors", parameters={"repulsions": 2}), "Did you mean repulsion"),
        (Part(name="pcl-authors", parameters={"repulsion": 0}), "repulsion is 0"),
        (Part(name="cross-entropy", parameters={"weight": 2}), "no parameter called 'weight'"),
    ],
    ids=str,
)
def test_what_a_criterion_cannot_be_built_from(part, message):
    with pytest.raises(UserError, match=message):
        build_criterion(part, DIMENSIONS, CLASSES, seed=0)


# The supervised model


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
    joint = supervised.joint_loss(images, labels)
    assert sum(step.terms.values()).item() == pytest.approx(joint.mean().item())
    assert torch.equal(supervised(images), supervised.classifier(images))


def test_prototypes_are_part_of_the_state(supervised):
    names = set(supervised.state_dict())
    assert {"criterion.losses.3.prototypes", "criterion.losses.5.scale"} <= names
    assert isinstance(supervised, nn.Module)
    assert isinstance(supervised.criterion, Criterion)
