"""On linear classifiers the smallest adversarial perturbation is known exactly."""

import pytest
import torch
from attack_toys import (
    EVERY,
    SIGN_ATTACKS,
    generator,
    linear_model,
    predictions,
    random_images,
    short,
    some_wrong,
)
from scipy.optimize import minimize
from torch import Tensor, nn

from robustbench_pcl.attacks import ATTACKS, CW

EPS = (0.01, 0.03, 0.06, 0.1, 0.2)


class TwoClasses:
    """240 images off the pixel bounds by more than the largest eps; every seventh misclassified."""

    def __init__(self) -> None:
        self.model = linear_model(2, 9)
        self.images = random_images(240, 1, 3, 3, low=0.3, high=0.7)
        self.labels = some_wrong(predictions(self.model, self.images), 2)
        self.weight = (self.model[1].weight[1] - self.model[1].weight[0]).detach()
        logits = self.model(self.images).detach()
        signed = logits[:, 1] - logits[:, 0]
        self.margin = torch.where(self.labels == 1, signed, -signed)  # negative: misclassified


@pytest.fixture(scope="module")
def two_classes() -> TwoClasses:
    return TwoClasses()


@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_sign_attacks_reach_the_exact_robust_accuracy(two_classes, name, loss):
    case = two_classes
    for eps in EPS:
        robust = case.margin / case.weight.abs().sum() > eps
        assert 0 < robust.sum() < len(robust)
        adversarial = ATTACKS[name](eps=eps, loss=loss)(case.model, case.images, case.labels)
        assert torch.equal(predictions(case.model, adversarial) == case.labels, robust)


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_a_target_is_reached_exactly_where_the_budget_allows_it(two_classes, name):
    case, eps = two_classes, EPS[2]
    targets = 1 - case.labels
    reachable = case.margin / case.weight.abs().sum() < eps
    adversarial = ATTACKS[name](eps=eps)(case.model, case.images, case.labels, targets=targets)
    assert torch.equal(predictions(case.model, adversarial) == targets, reachable)


def box_distance(images: Tensor, normal: Tensor, gap: Tensor) -> Tensor:
    """L2 distance of flat images (N, P) to {normal . delta >= gap} within the box [0, 1].

    The solution is delta = clip(x + t normal) - x, whose progress along the normal grows with t;
    bisection finds the smallest t that makes up for the gap. Infinite where none does.
    """

    def moved(t: Tensor) -> Tensor:
        return (images + t[:, None] * normal).clamp(0, 1) - images

    low, high = torch.zeros_like(gap), torch.full_like(gap, 1e4)
    for _ in range(100):
        middle = (low + high) / 2
        enough = (moved(middle) * normal).sum(dim=1) >= gap
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    distance = moved(high).norm(dim=1)
    return distance.where((moved(high) * normal).sum(dim=1) >= gap - 1e-9, torch.inf)


def exact_distances(model: nn.Sequential, images: Tensor, labels: Tensor) -> Tensor:
    """Distance (N, K) to each class's half-space against the label; infinite for the label."""
    flat, weight = images.double().flatten(1), model[1].weight.detach().double()
    logits = flat @ weight.T + model[1].bias.detach().double()
    columns = []
    for other in range(weight.shape[0]):
        gap = logits.gather(1, labels[:, None])[:, 0] - logits[:, other]
        distance = box_distance(flat, weight[other] - weight[labels], gap.clamp_min(0))
        columns.append(distance.where(labels != other, torch.inf))
    return torch.stack(columns, dim=1)


def test_the_oracle_agrees_with_the_closed_form_off_the_bounds(two_classes):
    case = two_classes
    expected = case.margin.clamp_min(0) / case.weight.norm()
    found = exact_distances(case.model, case.images, case.labels).amin(dim=1)
    largest_move = expected * case.weight.abs().max() / case.weight.norm()
    free = largest_move < 0.3
    assert free.sum() > 50
    assert torch.allclose(found[free], expected[free], rtol=0, atol=1e-9)
    assert (found >= expected - 1e-9).all()  # the box can only hinder


def mixed_images(count: int, seed: int) -> Tensor:
    """Every second image with half of its pixels exactly 0 or 1, as in MNIST."""
    images = random_images(count, 1, 4, 4, low=0.2, high=0.8, seed=seed)
    bounds = torch.rand(images.shape, generator=generator(seed + 1)) < 0.5
    bounds[::2] = False
    return torch.where(bounds, images.round(), images)


def test_carlini_wagner_finds_the_exact_distance_of_two_classes():
    model, images = linear_model(2, 16, seed=4).float(), mixed_images(40, seed=3).float()
    labels = some_wrong(predictions(model, images), 2)
    exact = exact_distances(model, images, labels).amin(dim=1)
    assert exact.isfinite().all()
    adversarial = CW(steps=150, learning_rate=0.03, search_steps=6)(model, images, labels)
    assert (predictions(model, adversarial) != labels).all()
    found = (adversarial - images).double().flatten(1).norm(dim=1)
    assert (found[exact == 0] < 1e-6).all()
    ratio = (found / exact)[exact > 0.01]
    assert len(ratio) >= 30
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.05


def nearest_by_program(flat: Tensor, rows: Tensor, gaps: Tensor) -> float:
    """min |delta|_2 with rows . delta >= gaps and x + delta in [0, 1], by quadratic programming."""
    solution = minimize(
        lambda delta: delta @ delta,
        torch.zeros_like(flat).numpy(),
        jac=lambda delta: 2 * delta,
        bounds=list(zip((-flat).tolist(), (1 - flat).tolist(), strict=True)),
        constraints={
            "type": "ineq",
            "fun": lambda delta: rows.numpy() @ delta - gaps.numpy(),
            "jac": lambda delta: rows.numpy(),
        },
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-12},
    )
    return float(solution.fun) ** 0.5 if solution.success else torch.inf


@pytest.mark.slow
def test_carlini_wagner_on_four_classes():
    """Targeted, the problem is convex and every distance exact, so the nearest target is too.

    Untargeted, Eq. 21 follows the class with the smallest margin, which on more than two classes
    may not be the nearest one: the distance is exact for the class where it ends.
    """
    classes, count = 4, 8
    model = linear_model(classes, 16, seed=9)
    images = mixed_images(count, seed=5)
    labels = predictions(model, images)
    by_class = exact_distances(model, images, labels)
    exact = by_class.amin(dim=1)
    assert (exact > 0.01).sum() >= count - 2

    attack = CW(steps=150, learning_rate=0.03, search_steps=7)
    others = [(row, t) for row in range(count) for t in range(classes) if t != labels[row]]
    rows, targets = torch.tensor(others).T
    aimed = attack(model, images[rows], labels[rows], targets=targets)
    assert torch.equal(predictions(model, aimed), targets)
    found = (aimed - images[rows]).flatten(1).norm(dim=1)
    weight, logits = model[1].weight.detach(), model(images).detach()
    for index, (row, target) in enumerate(others):
        rest = [k for k in range(classes) if k != target]
        best = nearest_by_program(
            images[row].flatten(),
            weight[target] - weight[rest],
            logits[row, rest] - logits[row, target],
        )
        assert found[index] == pytest.approx(best, rel=0.05), (row, target)
    nearest = found.view(count, classes - 1).amin(dim=1)
    assert torch.allclose(nearest[exact > 0.01], exact[exact > 0.01], rtol=0.05)

    adversarial = attack(model, images, labels)
    reached = predictions(model, adversarial)
    assert (reached != labels).all()
    distance = (adversarial - images).flatten(1).norm(dim=1)
    assert (distance >= exact * (1 - 1e-9)).all()
    own = by_class.gather(1, reached[:, None])[:, 0]
    assert torch.allclose(distance[own > 0.01], own[own > 0.01], rtol=0.05)


@pytest.mark.parametrize("name", EVERY)
def test_every_attack_reaches_every_target(name):
    """Class k's score is the sum of its own four pixels: a budget of 0.3 puts any class first.

    From all scores, the sum of all pixels is subtracted, which changes no order.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False).double())
    with torch.no_grad():
        model[1].weight.copy_(5 * torch.eye(4).repeat_interleave(4, dim=1) - 1)
    images = random_images(12, 1, 4, 4, low=0.3, high=0.7)
    labels = predictions(model, images)
    parameters = {"eps": 0.3, "gamma": 1.0, "learning_rate": 0.05}
    if name == "cw":
        parameters["c"] = 10.0
    for shift in (1, 2, 3):
        targets = (labels + shift) % 4
        attack = short(name, steps=200, **parameters)
        adversarial = attack(model, images, labels, targets=targets)
        assert torch.equal(predictions(model, adversarial), targets)
