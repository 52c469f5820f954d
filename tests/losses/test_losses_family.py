"""What holds for every loss on features."""

import pytest
import torch
from loss_toys import (
    ANCHORED,
    CLASSES,
    COUNT,
    DIMENSION,
    MINIMISED,
    ON_FEATURES,
    ON_IMAGES,
    batch,
    placed,
)
from torch import Tensor

ON_THE_CLASS_MEANS = [name for name in ANCHORED if name != "pcl-authors"]
"""Their anchors start there; the authors' start at random."""


@pytest.mark.parametrize("name", ON_FEATURES)
def test_an_image_s_loss_does_not_depend_on_its_batch(name):
    loss, (features, labels) = placed(name), batch()
    whole = loss.per_image(features, labels)
    assert whole.shape == (COUNT,)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(
        loss.per_image(features[order], labels[order]), whole[order], rtol=0, atol=1e-14
    )
    for row in range(COUNT):
        alone = loss.per_image(features[row : row + 1], labels[row : row + 1])
        assert torch.allclose(alone, whole[row : row + 1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ON_IMAGES)
def test_the_batch_s_loss_is_the_mean_over_its_images(name):
    loss, (features, labels) = placed(name), batch()
    assert torch.allclose(loss(features, labels), loss.per_image(features, labels).mean())


@pytest.mark.parametrize("name", ON_FEATURES)
def test_gradients_in_the_features_are_those_of_finite_differences(name):
    loss, (features, labels) = placed(name, size=0.3), batch(size=0.3)
    features.requires_grad_()
    for form in (loss.forward, loss.per_image):
        assert torch.autograd.gradcheck(lambda given, form=form: form(given, labels), features)


@pytest.mark.parametrize("name", MINIMISED)
def test_gradients_in_its_parameters_are_those_of_finite_differences(name):
    loss, (features, labels) = placed(name, size=0.3), batch(size=0.3)
    own = [value.detach().clone().requires_grad_(True) for value in loss.parameters()]
    names = [key for key, _ in loss.named_parameters()]

    def value(*values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(loss, given, (features, labels))

    assert own
    assert torch.autograd.gradcheck(value, own)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_gradients_are_finite_where_features_coincide(name):
    """With each other, and with the anchors: a square root has no gradient at 0."""
    for size in (0.0, 1.0):
        loss, (features, labels) = placed(name, size=0.0), batch()
        features = torch.full_like(features, size).requires_grad_(True)
        for value in (loss(features, labels), loss.per_image(features, labels).sum()):
            own = torch.autograd.grad(value, [features, *loss.parameters()], allow_unused=True)
            assert value.isfinite()
            assert all(gradient.isfinite().all() for gradient in own if gradient is not None)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_starting_from_features_that_are_all_the_same_makes_no_nan(name):
    for classes in (1, 3):
        loss, labels = placed(name), torch.arange(12) % classes
        features = torch.ones(12, DIMENSION, dtype=torch.float64)
        loss.initialise(features, labels)
        assert all(value.isfinite().all() for value in loss.state_dict().values())
        assert loss(features, labels).isfinite()
        assert loss.per_image(features, labels).isfinite().all()


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_weight_multiplies_the_attraction(name):
    features, labels = batch(size=0.1)
    for form in ("per_image", "forward"):
        nothing, once, thrice = (
            getattr(placed(name, weight=weight), form)(features, labels) for weight in (0, 1, 3)
        )
        assert torch.allclose(thrice - nothing, 3 * (once - nothing), atol=1e-9)
        assert not torch.allclose(thrice, once)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_all_its_parameters_are_in_its_groups_once(name):
    loss = placed(name)
    groups = loss.parameter_groups(0.5)
    listed = [id(value) for group in groups for value in group["params"]]
    assert sorted(listed) == sorted(id(value) for value in loss.parameters())
    assert all(group["lr"] > 0 for group in groups)
    torch.optim.SGD(groups, lr=1.0)


@pytest.mark.parametrize("name", ON_THE_CLASS_MEANS)
def test_anchors_start_at_the_class_means_in_the_features_units(name):
    loss, (features, labels) = placed(name), batch(40, size=9.0)
    loss.initialise(features.requires_grad_(True), labels)
    for label, anchor in enumerate(loss.anchors()):
        assert torch.allclose(anchor, features[labels == label].mean(dim=0))
    assert all(value.is_leaf for value in loss.parameters())


@pytest.mark.parametrize("name", ON_IMAGES)
def test_calibrating_changes_no_loss_that_learns_its_anchors(name):
    loss = placed(name)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    loss.calibrate(*batch(40, size=9.0))
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@pytest.mark.parametrize("name", [name for name in ON_FEATURES if name != "pcl-authors"])
def test_the_size_of_the_features_does_not_matter_after_the_start(name):
    """Except to Eq. 11, which is printed in the features' own units, and to the authors' code."""
    features, labels = batch(40)
    found = []
    for size in (1e-2, 1.0, 1e3):
        loss = placed(name)
        loss.initialise(size * features, labels)
        unit = size**2 if name == "center" else 1
        found.append(loss(size * features, labels).item() / unit)
    assert found == pytest.approx([found[0]] * 3)
    assert abs(found[0]) > 1e-4
    assert len(features) > CLASSES
