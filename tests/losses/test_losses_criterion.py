"""Deep supervision: cross-entropy and the sum over feature layers."""

import pytest
import torch
import torch.nn.functional as F
from loss_toys import (
    CLASSES,
    COUNT,
    DIMENSION,
    ON_FEATURES,
    ON_IMAGES,
    ON_PAIRS,
    batch,
    criterion_of,
    placed,
)
from torch import Tensor

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.losses.criterion import Criterion, FeatureLoss, class_means

DIMENSIONS = {4: DIMENSION, 2: DIMENSION}


def layered() -> tuple[Tensor, dict[int, Tensor], Tensor]:
    source = torch.Generator().manual_seed(0)
    logits = torch.randn((COUNT, CLASSES), generator=source, dtype=torch.float64)
    features = {layer: batch(seed=layer)[0] for layer in DIMENSIONS}
    return logits, features, torch.arange(COUNT) % CLASSES


def criterion_on_layers(name: str) -> Criterion:
    dump = LOSSES.configure(name).dump()
    return Criterion(dump, DIMENSIONS, CLASSES, seed=0).double()


@pytest.mark.parametrize("name", [CROSS_ENTROPY, *ON_IMAGES])
def test_the_terms_sum_to_the_mean_of_the_images(name):
    criterion = criterion_on_layers(name)
    logits, features, labels = layered()
    terms = criterion(logits, features, labels)
    images = criterion.per_image(logits, features, labels)
    assert sum(terms.values()).item() == pytest.approx(images.mean().item())
    assert terms["cross_entropy"].item() == pytest.approx(F.cross_entropy(logits, labels).item())


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_terms_are_scalars_by_name(name):
    criterion = criterion_on_layers(name)
    terms = criterion(*layered())
    final = [] if name in ON_PAIRS else ["cross_entropy"]
    assert list(terms) == [*final, *([] if name == CROSS_ENTROPY else [name.replace("-", "_")])]
    assert criterion.with_cross_entropy == bool(final)
    assert all(value.ndim == 0 for value in terms.values())


@pytest.mark.parametrize("name", list(LOSSES))
def test_an_image_s_joint_loss_is_cross_entropy_and_its_loss_at_each_layer(name):
    """Also without a final layer: the logits are then those that the class is decided by."""
    criterion = criterion_on_layers(name)
    logits, features, labels = layered()
    expected = [F.cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)]
    for layer, loss in criterion.losses.items():
        expected = [
            total + loss.per_image(row[None], label[None])[0]
            for total, row, label in zip(expected, features[int(layer)], labels, strict=True)
        ]
    assert criterion.per_image(logits, features, labels).tolist() == pytest.approx(
        [total.item() for total in expected]
    )


@pytest.mark.parametrize("name", ON_PAIRS)
def test_what_a_missing_final_layer_gives_is_not_looked_at(name):
    criterion = criterion_on_layers(name)
    logits, features, labels = layered()
    embedding = torch.full((COUNT, 3), torch.nan)
    assert criterion(embedding, features, labels) == criterion(logits, features, labels)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_each_layer_has_a_loss_on_its_own_features(name):
    criterion = criterion_on_layers(name)
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


@pytest.mark.parametrize(("step", "name"), [("initialise", "pcl"), ("calibrate", "triplet")])
def test_each_layer_is_shown_its_own_features(step, name):
    criterion = criterion_on_layers(name)
    _, features, labels = layered()
    getattr(criterion, step)(features, labels)
    for layer in DIMENSIONS:
        means = class_means(features[layer], labels, CLASSES)
        assert torch.allclose(criterion.losses[str(layer)].anchors(), means)


def test_the_deepest_layer_is_the_one_with_the_highest_number():
    criterion = Criterion({"name": "pcl"}, {12: 2, 4: 3, 9: 5}, CLASSES, seed=0)
    assert criterion.deepest() == (12, criterion.losses["12"])


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_seed_decides_and_nothing_else_is_drawn(name):
    state = torch.random.get_rng_state()
    one, again, other = (
        Criterion({"name": name}, DIMENSIONS, CLASSES, seed=seed).state_dict() for seed in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[key], again[key]) for key in one)
    if name in ("pcl-authors", "deep-softmax"):
        assert any(not torch.equal(one[key], other[key]) for key in one)


def test_a_dump_s_parameters_reach_every_layer():
    dump = LOSSES.configure("pcl", {"separation": 2.0, "weight": 0.5}).dump()
    criterion = Criterion(dump, DIMENSIONS, CLASSES, seed=0)
    assert [(loss.separation, loss.weight) for loss in criterion.losses.values()] == [(2, 0.5)] * 2


def test_a_dump_of_a_loss_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="Did you mean pcl"):
        Criterion({"name": "plc", "weight": 1.0}, DIMENSIONS, CLASSES, seed=0)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_terms_and_gradients_are_the_same_under_autocast(name):
    loss, (features, labels) = placed(name).float(), batch()
    criterion, logits = criterion_of(name, {3: loss}), torch.randn(12, 5)
    features = (30 + features.float()).requires_grad_(True)

    def value() -> Tensor:
        terms = criterion(logits, {3: features}, labels)
        return sum(terms.values()) + criterion.per_image(logits, {3: features}, labels).sum()

    expected = value()
    with torch.autocast("cpu", torch.bfloat16):
        found = value()
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(total, features)[0] for total in (found, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", list(LOSSES))
def test_it_calibrates_if_one_of_its_losses_says_how(name):
    losses = criterion_on_layers(name).losses.values()
    overridden = any(type(loss).calibrate is not FeatureLoss.calibrate for loss in losses)
    assert criterion_on_layers(name).calibrates == overridden == (name in ON_PAIRS)
