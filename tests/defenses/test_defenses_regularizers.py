"""Penalties on derivatives in the pixels: their values where they are known, and their fall."""

import pytest
import torch
import torch.nn.functional as F
from defense_toys import (
    generator,
    minimised,
    recording_model,
    some_images,
    some_labels,
    tiny,
    tiny_batch,
)
from torch import Tensor, nn

from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.defenses import Standard
from robustbench_pcl.defenses.regularizers import MNIST_WEIGHT, DecisionSurface, InputGradient

DEFENSE = DecisionSurface(weight=0.5, eps=0.1)
A_PIXEL = 0.5 * 0.1**2


def slope_at(model: nn.Module, image: Tensor, label: int) -> Tensor:
    """W_y - W_j of a linear model, j the largest other logit."""
    logits = model.classifier(image[None]).detach()[0].tolist()
    others = [index for index in range(len(logits)) if index != label]
    largest = max(others, key=lambda index: logits[index])
    weight = model.classifier.head.weight.detach()
    return weight[label] - weight[largest]


# Yu's decision surface


def test_slope_and_curvature_of_a_linear_model():
    """It bends only where another class becomes the largest other one."""
    images, labels = tiny_batch(40, pixels=6)
    model = tiny(DEFENSE, pixels=6)
    step = DEFENSE.step(model, images, labels, generator())
    clean, moved = model.trained_on.chunk(2)
    assert torch.equal(clean, images)
    assert torch.allclose((moved - images).abs(), torch.full_like(images, 0.1))
    slopes, bends = [], []
    for image, there, label in zip(images, moved, labels.tolist(), strict=True):
        slope = slope_at(model, image, label)
        slopes.append(float(slope.square().sum()))
        bends.append(float((slope_at(model, there, label) - slope).square().sum()))
    assert step.terms["slope"].item() == pytest.approx(A_PIXEL * 6 * sum(slopes) / 40)
    assert step.terms["curvature"].item() == pytest.approx(A_PIXEL * 6 * sum(bends) / 40)
    assert 0 < sum(bend > 0 for bend in bends) < 40
    assert step.count == 40


def test_curvature_is_the_hessian_s_squared_frobenius_norm():
    """On a quadratic surface: one logit x^T A x / 2, the other 0."""
    source = generator(2)
    drawn = torch.randn((4, 4), generator=source, dtype=torch.float64)
    hessian = drawn + drawn.T

    class Quadratic(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            flat = images.flatten(1)
            value = (flat @ hessian * flat).sum(dim=1, keepdim=True) / 2
            return torch.cat([value, torch.zeros_like(value).expand(-1, 3)], dim=1)

    model = tiny(DEFENSE, Quadratic())
    with torch.no_grad():
        model.classifier.head.weight.copy_(torch.eye(4))
        model.classifier.head.bias.zero_()
        model.classifier.head.bias[2:] = -100.0  # classes 0 and 1 alone compete
    images, _ = tiny_batch(4000)
    step = DEFENSE.step(model, images, torch.zeros(4000, dtype=torch.int64), generator())
    frobenius = 0.1**2 * float(hessian.square().sum())
    assert step.terms["curvature"].item() == pytest.approx(A_PIXEL * 4 * frobenius, rel=0.05)
    gradients = images.flatten(1) @ hessian
    expected = A_PIXEL * 4 * gradients.square().sum(dim=1).mean().item()
    assert step.terms["slope"].item() == pytest.approx(expected)


def test_images_are_moved_by_the_budget_inside_the_pixel_range():
    images = torch.zeros(8, 1, 2, 2, dtype=torch.float64)
    images[4:] = 1
    model = tiny(DEFENSE)
    DEFENSE.step(model, images, some_labels(8), generator())
    _, moved = model.trained_on.chunk(2)
    change = (moved - images).abs()
    assert set(change.flatten().mul(10).round(decimals=6).tolist()) == {0.0, 1.0}


def test_minimising_slope_and_curvature_flattens_the_surface():
    images, labels = some_images(), some_labels()
    found = {}
    for defense in (DecisionSurface(weight=1.0, eps=0.1), Standard()):
        model = recording_model(defense, model="conv6")
        minimised(defense, model, images, labels, steps=60)
        pixels = images.clone().requires_grad_(True)
        (slopes,) = torch.autograd.grad(logit_margin(model(pixels), labels).sum(), pixels)
        found[type(defense)] = slopes.square().flatten(1).sum(dim=1).mean()
    assert found[DecisionSurface] < 0.5 * found[Standard]


# Ross's input gradient


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
    model = recording_model(defense, model=architecture).double()
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


def test_minimising_the_penalty_shrinks_the_input_gradient():
    images, labels = some_images(), some_labels()
    lengths = {}
    for defense in (InputGradient(weight=3.0), Standard()):
        model = recording_model(defense, model="conv6")
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
