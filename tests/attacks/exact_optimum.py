"""What the best attack can do to a two-layer ReLU network with few inputs, exactly."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from attack_toys import generator, predictions, random_images
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from robustbench_pcl.attacks.losses import logit_margin

CLEARLY = 1e-4
"""A margin that is nearer to 0 than this is no matter for an attack."""


def relu_net(inputs: int, classes: int, hidden: int = 6, seed: int = 0) -> nn.Sequential:
    """For images (1, 1, ``inputs``), with random weights, all kinks and classes among them."""
    source = generator(seed)
    layers = (nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    model = nn.Sequential(nn.Flatten(), *layers).double()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=source, dtype=value.dtype))
        kinks = torch.rand(hidden, inputs, generator=source, dtype=torch.float64)
        model[1].bias.copy_(-(model[1].weight * kinks).sum(dim=1))
        points = torch.rand(1000, inputs, generator=source, dtype=torch.float64)
        model[3].bias -= model(points).mean(dim=0)
    return model


def toy_images(model: nn.Sequential, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images for it, and its own classes of them."""
    images = random_images(count, 1, 1, model[1].in_features, seed=seed)
    return images, predictions(model, images)


@dataclass(frozen=True)
class ReluCase:
    """A network, images with its classes, who can be fooled, and of whom that is clear."""

    model: nn.Sequential
    images: Tensor
    labels: Tensor
    possible: Tensor
    clear: Tensor


@cache
def relu_case(inputs: int, classes: int, eps: float) -> ReluCase:
    """For an L-infinity budget; some images can be fooled, and some cannot."""
    model = relu_net(inputs, classes, seed=10 * inputs + classes)
    images, labels = toy_images(model, 25)
    best = largest_margins(model, images, labels, eps)
    assert 0 < (best > 0).sum() < len(best)
    return ReluCase(model, images, labels, best > 0, best.abs() > CLEARLY)


def largest_margins(model: nn.Sequential, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """The largest logit margin (N,) within eps in L-infinity and within [0, 1].

    An integer program for each image and other class: a unit's output is its input or 0, whichever
    its binary variable says.
    """
    first, _, last = model[1:]
    w1, b1, w2, b2 = (
        value.detach().numpy() for value in (first.weight, first.bias, last.weight, last.bias)
    )
    found = []
    for image, label in zip(images.flatten(1).numpy(), labels.tolist(), strict=True):
        low, high = np.clip(image - eps, 0, 1), np.clip(image + eps, 0, 1)
        others = [k for k in range(len(b2)) if k != label]
        margins = [
            _largest(w1, b1, (low, high), w2[k] - w2[label]) + b2[k] - b2[label] for k in others
        ]
        found.append(max(margins))
    return torch.tensor(found, dtype=torch.float64)


def _largest(
    w1: np.ndarray, b1: np.ndarray, box: tuple[np.ndarray, np.ndarray], weights: np.ndarray
) -> float:
    """The largest ``weights`` . relu(w1 x + b1) for x in a box; variables: x, outputs, binaries."""
    (low, high), (units, inputs) = box, w1.shape
    middle, reach = w1 @ (low + high) / 2 + b1, np.abs(w1) @ (high - low) / 2
    least, most = np.minimum(middle - reach, 0), np.maximum(middle + reach, 0)
    one, none = np.eye(units), np.zeros((units, units))
    solution = milp(
        np.concatenate([np.zeros(inputs), -weights, np.zeros(units)]),
        integrality=np.concatenate([np.zeros(inputs + units), np.ones(units)]),
        bounds=Bounds(
            np.concatenate([low, np.zeros(2 * units)]), np.concatenate([high, most, np.ones(units)])
        ),
        constraints=[
            LinearConstraint(np.hstack([-w1, one, none]), lb=b1),
            LinearConstraint(np.hstack([-w1, one, -np.diag(least)]), ub=b1 - least),
            LinearConstraint(np.hstack([np.zeros_like(w1), one, -np.diag(most)]), ub=0),
        ],
        options={"mip_rel_gap": 0},
    )
    assert solution.success, solution.message
    return -float(solution.fun)


def margins_on_a_grid(
    model: nn.Sequential, images: Tensor, labels: Tensor, eps: float, steps: int = 200
) -> Tensor:
    """The largest margin (N,) at any of many points within eps in L2; for two inputs."""
    radii = torch.linspace(0, eps, steps, dtype=torch.float64)
    angles = torch.linspace(0, 2 * torch.pi, 4 * steps, dtype=torch.float64)
    points = [(r * angles.cos(), r * angles.sin()) for r in radii]
    grid = torch.cat([torch.stack(each, dim=1) for each in points]).view(-1, 1, 1, 2)
    found = []
    with torch.no_grad():
        for image, label in zip(images, labels, strict=True):
            inside = image + grid
            inside = inside[((inside >= 0) & (inside <= 1)).flatten(1).all(dim=1)]
            found.append(logit_margin(model(inside), label.expand(len(inside))).max())
    return torch.stack(found)


CASES = [(2, 2), (2, 4), (4, 3), (6, 3)]
"""Numbers of inputs and of classes."""
