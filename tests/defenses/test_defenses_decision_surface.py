"""The decision surface's slope and curvature: their values where they are known, and their fall."""

import pytest
import torch
from defense_toys import generator, minimised, some_images, some_labels, tiny, tiny_batch, watched
from torch import Tensor, nn

from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.defenses.base import Standard
from robustbench_pcl.defenses.decision_surface import DecisionSurface

DEFENSE = DecisionSurface(weight=0.5, eps=0.1)
A_PIXEL = 0.5 * 0.1**2


def slope_at(model: nn.Module, image: Tensor, label: int) -> Tensor:
    """W_y - W_j of a linear model, j the largest other logit."""
    logits = model.classifier(image[None]).detach()[0].tolist()
    others = [index for index in range(len(logits)) if index != label]
    largest = max(others, key=lambda index: logits[index])
    weight = model.classifier.head.weight.detach()
    return weight[label] - weight[largest]


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


def test_images_are_moved_inside_the_pixel_range():
    images = torch.zeros(8, 1, 2, 2, dtype=torch.float64)
    images[4:] = 1
    model = tiny(DEFENSE)
    DEFENSE.step(model, images, some_labels(8), generator())
    _, moved = model.trained_on.chunk(2)
    change = (moved - images).abs()
    assert set(change.flatten().mul(10).round(decimals=6).tolist()) == {0.0, 1.0}


def test_minimising_it_flattens_the_surface():
    images, labels = some_images(), some_labels()
    found = {}
    for defense in (DecisionSurface(weight=1.0, eps=0.1), Standard()):
        model = watched(defense, model="conv6")
        minimised(defense, model, images, labels, steps=60)
        pixels = images.clone().requires_grad_(True)
        (slopes,) = torch.autograd.grad(logit_margin(model(pixels), labels).sum(), pixels)
        found[type(defense)] = slopes.square().flatten(1).sum(dim=1).mean()
    assert found[DecisionSurface] < 0.5 * found[Standard]
