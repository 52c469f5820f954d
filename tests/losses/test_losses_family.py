"""What holds for every loss on features, and the sums that they share."""

import inspect

import pytest
import torch
from loss_toys import (
    CLASSES,
    COUNT,
    DIMENSION,
    MINIMISED,
    ON_FEATURES,
    ON_IMAGES,
    ON_PAIRS,
    TRACKED,
    WITHOUT_ANCHORS,
    batch,
    placed,
)
from torch import Tensor

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.losses.base import class_means, squared_distances


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
def test_the_batch_s_loss_is_the_mean(name):
    loss, (features, labels) = placed(name), batch()
    assert torch.allclose(loss(features, labels), loss.per_image(features, labels).mean())


@pytest.mark.parametrize("name", ON_FEATURES)
@pytest.mark.parametrize("form", ["forward", "per_image"])
def test_gradients_in_the_features_are_those_of_finite_differences(name, form):
    loss, (features, labels) = placed(name, size=0.3), batch(size=0.3)
    value = getattr(loss, form)
    assert torch.autograd.gradcheck(lambda given: value(given, labels), features.requires_grad_())


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
@pytest.mark.parametrize("size", [0.0, 1.0])
def test_gradients_are_finite_where_features_coincide(name, size):
    """With each other, and with the anchors: a square root has no gradient at 0."""
    loss, (features, labels) = placed(name, size=0.0), batch()
    features = torch.full_like(features, size).requires_grad_(True)
    for value in (loss(features, labels), loss.per_image(features, labels).sum()):
        own = torch.autograd.grad(value, [features, *loss.parameters()], allow_unused=True)
        assert value.isfinite()
        assert all(gradient.isfinite().all() for gradient in own if gradient is not None)


@pytest.mark.parametrize("name", ON_FEATURES)
@pytest.mark.parametrize("labels", [[0] * 12, [0, 1, 2] * 4], ids=["one class", "several"])
def test_starting_from_features_that_are_all_the_same_makes_no_nan(name, labels):
    loss, labels = placed(name), torch.tensor(labels)
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
            getattr(placed(name, weight=weight), form)(features, labels)
            for weight in (1e-12, 1.0, 3.0)
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


@pytest.mark.parametrize("name", ON_FEATURES)
def test_members_document_every_parameter(name):
    member = LOSSES[name]
    for parameter in list(inspect.signature(member).parameters):
        assert f"{parameter}:" in member.__doc__


@pytest.mark.parametrize("name", ON_FEATURES)
def test_only_losses_on_pairs_go_without_a_final_layer(name):
    assert LOSSES[name].with_cross_entropy == (name not in ON_PAIRS)


@pytest.mark.parametrize("name", [*TRACKED, "pcl"])
def test_anchors_start_at_the_class_means_in_the_features_units(name):
    loss, (features, labels) = placed(name), batch(40, size=9.0)
    loss.initialise(features, labels)
    anchors = loss.anchors()
    assert anchors.shape == (CLASSES, DIMENSION)
    for label, anchor in enumerate(anchors):
        assert torch.allclose(anchor, features[labels == label].mean(dim=0))


@pytest.mark.parametrize("name", ON_IMAGES)
def test_calibrating_changes_no_loss_that_learns_its_anchors(name):
    loss = placed(name)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    loss.calibrate(*batch(40, size=9.0))
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@pytest.mark.parametrize("name", WITHOUT_ANCHORS)
def test_a_loss_without_anchors_says_so(name):
    with pytest.raises(UserError, match=r"no points .* train with pcl"):
        placed(name).anchors()


def test_a_class_without_images_starts_at_the_overall_mean():
    features = torch.tensor([[0.0], [2.0], [7.0]])
    means = class_means(features, torch.tensor([0, 0, 2]), 4)
    assert means.tolist() == [[1.0], [3.0], [7.0], [3.0]]


def test_squared_distances_keep_what_inner_products_lose():
    point = torch.full((1, 3), 1000.0)
    near = point + torch.tensor([[2.0**-10, 0.0, 0.0]])
    assert squared_distances(near, point).item() == 2.0**-20
