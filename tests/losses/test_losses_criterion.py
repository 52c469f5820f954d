"""Deep supervision: the sum over layers."""

import pytest
import torch
import torch.nn.functional as F
from loss_toys import CLASSES, COUNT, DIMENSION, ON_FEATURES, ON_IMAGES, ON_PAIRS, batch
from torch import Tensor

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.losses.base import class_means
from robustbench_pcl.losses.criterion import build_criterion
from robustbench_pcl.specs.base import Part

DIMENSIONS = {4: DIMENSION, 2: DIMENSION}


def layered(seed: int = 0) -> tuple[Tensor, dict[int, Tensor], Tensor]:
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn((COUNT, CLASSES), generator=source, dtype=torch.float64)
    features = {layer: batch(seed=layer)[0] for layer in DIMENSIONS}
    return logits, features, torch.arange(COUNT) % CLASSES


@pytest.mark.parametrize("name", [CROSS_ENTROPY, *ON_IMAGES])
def test_the_criterion_s_terms_sum_to_the_mean_of_its_images(name):
    criterion = build_criterion(Part(name=name), DIMENSIONS, CLASSES, seed=0).double()
    logits, features, labels = layered()
    terms = criterion(logits, features, labels)
    images = criterion.per_image(logits, features, labels)
    assert sum(terms.values()).item() == pytest.approx(images.mean().item())
    assert terms["cross_entropy"].item() == pytest.approx(F.cross_entropy(logits, labels).item())


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_criterion_s_terms_are_scalars_by_name(name):
    criterion = build_criterion(Part(name=name), DIMENSIONS, CLASSES, seed=0).double()
    terms = criterion(*layered())
    final = [] if name in ON_PAIRS else ["cross_entropy"]
    assert list(terms) == [*final, *([] if name == CROSS_ENTROPY else [criterion.name])]
    assert criterion.with_cross_entropy == bool(final)
    assert all(value.ndim == 0 for value in terms.values())


@pytest.mark.parametrize("name", list(LOSSES))
def test_an_image_s_joint_loss_is_cross_entropy_and_its_loss_at_each_layer(name):
    """Also without a final layer: the logits are then those of the inference rule."""
    criterion = build_criterion(Part(name=name), DIMENSIONS, CLASSES, seed=0).double()
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
    criterion = build_criterion(Part(name=name), DIMENSIONS, CLASSES, seed=0).double()
    logits, features, labels = layered()
    embedding = torch.full((COUNT, 3), torch.nan)
    assert criterion(embedding, features, labels) == criterion(logits, features, labels)


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


@pytest.mark.parametrize("name", ON_PAIRS)
def test_calibrate_reaches_every_layer(name):
    criterion = build_criterion(Part(name=name), DIMENSIONS, CLASSES, seed=0).double()
    _, features, labels = layered()
    criterion.calibrate(features, labels)
    for layer in DIMENSIONS:
        means = class_means(features[layer], labels, CLASSES)
        assert torch.equal(criterion.losses[str(layer)].anchors(), means)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_deepest_layer_is_the_one_with_the_highest_number(name):
    criterion = build_criterion(Part(name=name), {12: 2, 4: 3, 9: 5}, CLASSES, seed=0)
    layer, loss = criterion.deepest()
    assert (layer, loss) == (12, criterion.losses["12"])


def test_plain_cross_entropy_has_no_deepest_layer():
    with pytest.raises(UserError, match=r"no points .* train with pcl"):
        build_criterion(Part(name=CROSS_ENTROPY), {}, CLASSES, seed=0).deepest()


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
