"""Ross and Doshi-Velez's penalty: the input gradient it squares, and that it shrinks it."""

import pytest
import torch
import torch.nn.functional as F
from defense_toys import (
    generator,
    minimised,
    some_images,
    some_labels,
    tiny,
    tiny_batch,
    watched,
)

from robustbench_pcl.data.catalogue import DATASETS
from robustbench_pcl.defenses.base import Standard
from robustbench_pcl.defenses.decision_surface import DecisionSurface
from robustbench_pcl.defenses.input_gradient import MNIST_WEIGHT, InputGradient


def test_the_penalty_is_the_mean_squared_length_of_the_input_gradient():
    """Of a linear model, W^T (p - e_y)."""
    images, labels = tiny_batch()
    model = tiny(InputGradient())
    step = InputGradient(weight=0.7).step(model, images, labels, generator())
    weight = model.classifier.head.weight.detach().numpy()
    squares = []
    for image, label in zip(images, labels, strict=True):
        away = model.classifier(image[None]).detach().softmax(dim=1)[0].numpy()
        away[label] -= 1
        squares.append(sum(float(away @ weight[:, pixel]) ** 2 for pixel in range(4)))
    assert step.terms["input_gradient"].item() == pytest.approx(0.7 * sum(squares) / len(squares))
    expected = F.cross_entropy(model.classifier(images), labels)
    assert step.terms["cross_entropy"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("defense", [InputGradient(weight=2.0), DecisionSurface(weight=2.0)])
@pytest.mark.parametrize("architecture", ["conv6", "resnet20", "vgg19"])
def test_the_penalty_s_gradient_is_that_of_its_value(architecture, defense):
    """Double backward passes through PReLU, max pooling and batch norm in train mode."""
    model = watched(defense, model=architecture).double()
    images, labels = some_images(6).double(), some_labels(6)

    def penalty() -> torch.Tensor:
        terms = defense.step(model, images, labels, generator()).terms
        return sum(value for name, value in terms.items() if name != "cross_entropy")

    parameters = list(model.classifier.parameters())
    source = generator(3)
    directions = [
        torch.randn(value.shape, generator=source, dtype=torch.float64) for value in parameters
    ]
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    slope = sum(
        float((gradient * direction).sum())
        for gradient, direction in zip(gradients, directions, strict=True)
        if gradient is not None
    )
    found = []
    for distance in (1e-8, -2e-8):  # to one side, and from there to the other
        with torch.no_grad():
            for value, direction in zip(parameters, directions, strict=True):
                value.add_(direction, alpha=distance)
        found.append(penalty().item())
    assert slope != 0
    assert slope == pytest.approx((found[0] - found[1]) / 2e-8, rel=1e-3)


def test_minimising_it_shrinks_the_input_gradient():
    images, labels = some_images(), some_labels()
    lengths = {}
    for defense in (InputGradient(weight=3.0), Standard()):
        model = watched(defense, model="conv6")
        minimised(defense, model, images, labels, steps=60)
        pixels = images.clone().requires_grad_(True)
        loss = F.cross_entropy(model(pixels), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, pixels)
        lengths[type(defense)] = gradient.flatten(1).norm(dim=1).mean()
    assert lengths[InputGradient] < 0.5 * lengths[Standard]


def test_the_weight_follows_the_budget_and_the_number_of_pixels():
    found = {name: InputGradient.settings(spec, 3)["weight"] for name, spec in DATASETS.items()}
    assert found["mnist"] == pytest.approx(MNIST_WEIGHT) == pytest.approx(found["fmnist"])
    # A hundredth of MNIST's squared budget, and 3072 pixels for its 784.
    assert found["cifar10"] == pytest.approx(MNIST_WEIGHT * 0.01 * 3072 / 784)
