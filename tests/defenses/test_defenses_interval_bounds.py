"""Training on interval bounds: the loss as written out by hand, its gradient, its ramp."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from defense_toys import (
    generator,
    minimised,
    recording_model,
    settled,
    some_images,
    some_labels,
    tiny,
    tiny_batch,
)
from torch import Tensor, nn

from robustbench_pcl.certificates.network import network_of
from robustbench_pcl.certificates.operations import Box
from robustbench_pcl.defenses.interval_bounds import IntervalBounds, worst_logits
from robustbench_pcl.errors import UserError

DEFENSE = IntervalBounds(eps=0.1, kappa=0.3)


def worst(terms: dict[str, Tensor]) -> float:
    return terms["worst_case_cross_entropy"].item()


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def loss_of(gaps: list[float]) -> float:
    """Cross-entropy of logits that are so far below the label's."""
    return math.log1p(sum(math.exp(-gap) for gap in gaps))


def test_the_loss_of_one_bend_is_that_of_its_intervals():
    """Intervals up to the PReLU, which falls and rises; behind it, exactly the difference."""
    hidden, images = nn.Linear(4, 5), tiny_batch()[0]
    images[0], images[1] = 0.0, 0.97  # where [0, 1] cuts the ball off
    slopes = [-0.5, 0.0, 0.25, 1.0, 1.5]
    bend = nn.PReLU(5)
    with torch.no_grad():
        bend.weight.copy_(torch.tensor(slopes))
        hidden.weight.copy_(torch.randn((5, 4), generator=generator(1)))
    model = tiny(DEFENSE, nn.Sequential(nn.Flatten(), hidden, bend, nn.Linear(5, 4)))
    labels = some_labels(len(images))
    first, last = (model.classifier.layers[0][0][place] for place in (1, 3))
    head = model.classifier.head
    product = (head.weight @ last.weight).tolist()
    shift = (head.weight @ last.bias + head.bias).tolist()
    expected = []
    for image, label in zip(images.flatten(1).tolist(), labels.tolist(), strict=True):
        low, high = [], []
        for weights, bias, slope in zip(
            first.weight.tolist(), first.bias.tolist(), slopes, strict=True
        ):
            ends = [(max(x - 0.1, 0.0), min(x + 0.1, 1.0)) for x in image]
            lower = bias + sum(w * ends[i][w < 0] for i, w in enumerate(weights))
            upper = bias + sum(w * ends[i][w > 0] for i, w in enumerate(weights))
            kinks = [0.0] if lower < 0 < upper else []
            values = [max(x, 0) + slope * min(x, 0) for x in (lower, upper, *kinks)]
            low.append(min(values))
            high.append(max(values))
        gaps = []
        for other in {*range(4)} - {label}:
            rows = [a - b for a, b in zip(product[label], product[other], strict=True)]
            ends = [low[i] if row > 0 else high[i] for i, row in enumerate(rows)]
            gaps.append(dot(rows, ends) + shift[label] - shift[other])
        expected.append(loss_of(gaps))
    terms = DEFENSE.step(model, images, labels, generator()).terms
    assert worst(terms) == pytest.approx(0.7 * sum(expected) / len(expected), rel=1e-9)
    clean = F.cross_entropy(model.classifier(images), labels)
    assert terms["cross_entropy"].item() == pytest.approx(0.3 * clean.item())


def test_of_a_linear_model_it_is_the_worst_there_is():
    """eps times the L1 norm of the difference of weights is lost."""
    images, labels = tiny_batch()
    model = tiny(DEFENSE)
    weight, logits = model.classifier.head.weight.detach(), model.classifier(images).detach()
    expected = [
        loss_of(
            [
                float(row[label] - row[k] - 0.1 * (weight[label] - weight[k]).abs().sum())
                for k in {*range(4)} - {label}
            ]
        )
        for row, label in zip(logits, labels.tolist(), strict=True)
    ]
    found = worst(DEFENSE.step(model, images, labels, generator()).terms)
    assert found == pytest.approx(0.7 * sum(expected) / len(expected))


@pytest.mark.parametrize("architecture", ["conv6", "resnet20", "vgg19"])
def test_it_is_above_the_loss_of_any_image_in_the_ball(architecture):
    model = settled(recording_model(DEFENSE, model=architecture)).double().eval()
    images, labels = some_images().double(), some_labels()
    eps = torch.tensor(0.01, dtype=torch.float64)
    with torch.no_grad():
        bound = worst_logits(network_of(model.classifier), images, labels, eps)
        assert torch.equal(bound[:, 0], torch.zeros(len(images), dtype=torch.float64))
        most = F.cross_entropy(bound, 0 * labels, reduction="none")
        for seed in range(10):
            noise = torch.rand(images.shape, generator=generator(seed), dtype=torch.float64)
            moved = (images + eps * (2 * noise - 1).sign()).clamp(0, 1)
            found = F.cross_entropy(model(moved), labels, reduction="none")
            assert bool((found <= most).all())


def test_batch_normalisation_takes_the_statistics_of_the_clean_batch():
    """As a model in eval mode bounds whose running statistics they are."""
    model = recording_model(DEFENSE).double()
    images, labels = some_images().double(), some_labels()
    frozen = copy.deepcopy(model).eval()
    norms = [module for module in frozen.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:

        def take(norm: nn.BatchNorm2d, given: tuple[Tensor]) -> None:
            norm.running_mean = given[0].mean(dim=(0, 2, 3))
            norm.running_var = given[0].var(dim=(0, 2, 3), correction=0)

        norm.register_forward_pre_hook(take)
    with torch.no_grad():
        frozen(images)  # each takes its statistics before it is used
        eps = torch.tensor(0.1, dtype=torch.float64)
        bound = worst_logits(network_of(frozen.classifier), images, labels, eps)
    found = worst(DEFENSE.step(model, images, labels, generator()).terms)
    assert found == pytest.approx(0.7 * F.cross_entropy(bound, 0 * labels).item(), rel=1e-9)
    assert len(norms) > 10


@pytest.mark.parametrize("architecture", ["conv6", "resnet20", "vgg19"])
def test_its_gradient_is_that_of_its_value(architecture):
    """Through PReLU, max pooling, and batch normalisation with the batch's statistics."""
    defense = IntervalBounds(eps=1e-4, kappa=0.0)
    model = recording_model(defense, model=architecture).double()
    images, labels = some_images(6).double(), some_labels(6)
    parameters = list(model.classifier.parameters())
    source = generator(3)
    directions = [
        torch.randn(value.shape, generator=source, dtype=torch.float64) for value in parameters
    ]
    loss = defense.step(model, images, labels, generator()).terms["worst_case_cross_entropy"]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    slope = sum(
        float((gradient * direction).sum())
        for gradient, direction in zip(gradients, directions, strict=True)
        if gradient is not None
    )
    found = []
    for distance in (1e-8, -2e-8):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=distance)
        found.append(worst(defense.step(model, images, labels, generator()).terms))
    assert slope != 0
    assert slope == pytest.approx((found[0] - found[1]) / 2e-8, rel=1e-3)


@pytest.mark.parametrize(
    ("trained", "moved"), [(0.0, 0.0), (0.1, 0.0), (0.25, 0.5), (0.4, 1.0), (1.0, 1.0)]
)
def test_eps_and_kappa_move_along_a_line_after_the_warm_up(trained, moved):
    images, labels = tiny_batch()
    ramped = DEFENSE.changed(warm_up=0.1, ramp=0.3)
    model, other = tiny(ramped), tiny(ramped)
    model.trained.fill_(trained)
    there = DEFENSE.changed(eps=0.1 * moved, kappa=1 - 0.7 * moved)
    found = ramped.step(model, images, labels, generator()).terms
    expected = there.step(other, images, labels, generator()).terms
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}
    )
    at_once = DEFENSE.changed(warm_up=0, ramp=0).step(other, images, labels, generator()).terms
    assert all(bool(value.isfinite()) for value in at_once.values())


@pytest.mark.parametrize("architecture", ["conv6", "resnet20", "vgg19"])
def test_neurons_before_the_last_bend_start_with_their_largest_weights_alone(architecture):
    before = recording_model(DEFENSE, model=architecture).double().classifier
    after = copy.deepcopy(before)
    IntervalBounds(weights=3).initialise(after)
    left = dict(after.named_parameters())
    changed = [name for name, value in before.named_parameters() if not value.equal(left[name])]
    assert changed == [
        f"{name}.weight" for name, part in before.named_modules() if isinstance(part, nn.Conv2d)
    ]
    for name in changed:
        for row, kept in zip(before.get_parameter(name), left[name], strict=True):
            drawn, found = row.flatten().tolist(), kept.flatten().tolist()
            largest = sorted(range(len(drawn)), key=lambda place: -abs(drawn[place]))[:3]
            factor = math.hypot(*drawn) / math.hypot(*(drawn[place] for place in largest))
            assert found == pytest.approx(
                [factor * x if place in largest else 0 for place, x in enumerate(drawn)]
            )


def test_a_neuron_of_few_weights_keeps_them():
    model = tiny(DEFENSE, nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4)))
    before = copy.deepcopy(model.state_dict())
    IntervalBounds(weights=4).initialise(model.classifier)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=1e-12, atol=0)


def test_the_boxes_of_a_fresh_network_do_not_grow():
    """Without it, those of conv6 grow a thousandfold and more, at a tenth of its width even."""
    model, images = recording_model(DEFENSE, model="conv6"), some_images()
    radii = []
    for _ in range(2):
        with torch.no_grad():
            boxes = network_of(model.classifier).boxes(Box(images, torch.full_like(images, 1e-4)))
        radii.append([float(box.radius.mean() / boxes[1].radius.mean()) for box in boxes[:-3]])
        DEFENSE.initialise(model.classifier)
    assert max(radii[0]) > 1000
    assert max(radii[1]) < 10


def test_minimising_it_narrows_the_bounds():
    images, labels = some_images(), some_labels()
    losses = []
    for defense in (DEFENSE, IntervalBounds(eps=0.0)):
        model = recording_model(defense, model="conv6")
        minimised(defense, model, images, labels, steps=60)
        losses.append(worst(DEFENSE.step(model, images, labels, generator()).terms))
    assert losses[0] < 0.1 * losses[1]


def test_a_network_that_cannot_be_bounded_is_refused():
    images, labels = tiny_batch()
    model = tiny(DEFENSE, nn.Sigmoid())
    with pytest.raises(UserError, match=r"cannot bound.*\(Sigmoid\) is not supported"):
        DEFENSE.step(model, images, labels, generator())
