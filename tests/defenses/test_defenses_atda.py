"""Song et al.'s adaptation: its three terms, its class centres, and the gap that it closes."""

import math

import pytest
import torch
import torch.nn.functional as F
from defense_toys import (
    CLASSES,
    COUNT,
    generator,
    largest_change,
    minimised,
    recording_model,
    some_images,
    some_labels,
    tiny,
    tiny_batch,
)
from torch import Tensor

from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.defenses.atda import DomainAdaptation, followed, margin

DEFENSE = DomainAdaptation(eps=0.1)


def mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def covariance(rows: list[list[float]]) -> list[list[float]]:
    centre = mean(rows)
    return [
        [
            sum((row[i] - centre[i]) * (row[j] - centre[j]) for row in rows) / (len(rows) - 1)
            for j in range(len(centre))
        ]
        for i in range(len(centre))
    ]


def expected_margin(
    rows: list[list[float]], labels: list[int], centres: list[list[float]]
) -> float:
    found = []
    for row, label in zip(rows, labels, strict=True):
        apart = [sum(abs(a - b) for a, b in zip(row, c, strict=True)) for c in centres]
        found += [
            math.log1p(math.exp(apart[label] - apart[other]))
            for other in range(len(centres))
            if other != label
        ]
    return sum(found) / len(found)


def test_the_terms_are_the_paper_s():
    images, labels = tiny_batch()
    model = tiny(DEFENSE)
    with torch.no_grad():
        model.memory.centres.copy_(
            torch.randn((CLASSES, CLASSES), generator=generator(6), dtype=torch.float64)
        )
    centres = model.memory.centres.tolist()
    step = DEFENSE.step(model, images, labels, generator())
    logits = model.classifier(model.trained_on).detach()
    assert len(logits[:12].argmax(dim=1).unique()) > 1  # so the halves differ by more than a shift
    clean, adversarial = logits[:12].tolist(), logits[12:].tolist()
    means = zip(mean(clean), mean(adversarial), strict=True)
    expected = {
        "cross_entropy": F.cross_entropy(logits[:12], labels).item(),
        "adversarial_cross_entropy": F.cross_entropy(logits[12:], labels).item(),
        "mean_discrepancy": sum(abs(a - b) for a, b in means) / CLASSES / 3,
        "covariance_discrepancy": sum(
            abs(a - b)
            for one, other in zip(covariance(clean), covariance(adversarial), strict=True)
            for a, b in zip(one, other, strict=True)
        )
        / CLASSES**2
        / 3,
        "margin": expected_margin(clean + adversarial, labels.tolist() * 2, centres) / 3,
    }
    assert {name: value.item() for name, value in step.terms.items()} == pytest.approx(expected)


def test_adversarial_images_are_one_step_away_from_the_model_s_answer():
    """So the true labels do not show in them, and each pixel moves by the whole budget."""
    images, labels = tiny_batch()
    model, other = tiny(DEFENSE), tiny(DEFENSE)
    DEFENSE.step(model, images, labels, generator())
    DEFENSE.step(other, images, labels.flip(0), generator())
    assert torch.equal(model.trained_on, other.trained_on)
    weight = model.classifier.head.weight.detach()
    for image, adversarial in zip(*model.trained_on.chunk(2), strict=True):
        probabilities = model.classifier(image[None]).detach().softmax(dim=1)[0]
        answer = F.one_hot(probabilities.argmax(), CLASSES)
        away = ((probabilities - answer) @ weight).sign()
        assert torch.allclose((adversarial - image).flatten(), 0.1 * away)


def test_both_halves_are_passed_together():
    model = recording_model(DEFENSE)
    DEFENSE.step(model, some_images(), some_labels(), generator())
    assert torch.equal(model.trained_on[:COUNT], some_images())
    change = largest_change(model.trained_on[COUNT:], some_images())
    assert change.max() <= torch.tensor(0.1)
    assert change.min() > 0.09


# The class centres


def some_logits() -> tuple[Tensor, Tensor]:
    logits = torch.randn((10, CLASSES), generator=generator(8), dtype=torch.float64)
    return logits, torch.tensor([0, 0, 0, 1, 1, 2, 0, 1, 2, 0])


def test_centres_follow_the_logits_of_their_class():
    logits, labels = some_logits()
    centres = torch.zeros((CLASSES, CLASSES), dtype=torch.float64)
    for _ in range(2):
        before = centres.tolist()
        centres = followed(centres, logits, labels, 0.1)
        for label, found in enumerate(centres.tolist()):
            own = [
                row
                for row, its in zip(logits.tolist(), labels.tolist(), strict=True)
                if its == label
            ]
            for k in range(CLASSES):
                away = sum(before[label][k] - row[k] for row in own) / (1 + len(own))
                assert found[k] == pytest.approx(before[label][k] - 0.1 * away)
    assert not centres[3].any()  # of a class that no image is of


def test_centres_come_to_rest_at_the_class_means():
    logits, labels = some_logits()
    centres = torch.zeros((CLASSES, CLASSES), dtype=torch.float64)
    for _ in range(400):
        centres = followed(centres, logits, labels, 0.1)
    for label in range(3):
        assert torch.allclose(centres[label], logits[labels == label].mean(dim=0))


def test_centres_are_state_that_steps_move_and_gradients_do_not():
    model = recording_model(DEFENSE)
    assert not model.state_dict()["memory.centres"].any()
    assert not list(model.memory.parameters())
    step = DEFENSE.step(model, some_images(), some_labels(), generator())
    moved = model.memory.centres.clone()
    assert moved.any()
    sum(step.terms.values()).backward()
    assert torch.equal(model.memory.centres, moved)


def test_the_centres_of_a_step_are_those_before_it():
    """All distances to the centres of a fresh memory are equal, so each softplus is log 2."""
    step = DEFENSE.step(recording_model(DEFENSE), some_images(), some_labels(), generator())
    assert step.terms["margin"].item() == pytest.approx(math.log(2) / 3)


# What it does


def gap(model: torch.nn.Module) -> float:
    """Between the mean logits of the halves that were trained on last."""
    with torch.no_grad():
        logits = model.classifier(model.passes[-1][1])
    clean, adversarial = logits.chunk(2)
    return float((clean.mean(dim=0) - adversarial.mean(dim=0)).abs().mean())


def test_training_with_it_closes_the_gap_between_the_domains():
    images, labels = some_images(), some_labels()
    found = {}
    for weight in (3.0, 1e-9):
        defense = DomainAdaptation(eps=0.1, weight=weight)
        model = recording_model(defense, model="conv6")
        minimised(defense, model, images, labels, steps=100)
        found[weight] = gap(model)
    assert found[3.0] < 0.5 * found[1e-9]


def test_the_margin_brings_logits_nearest_to_their_own_centre():
    """Between the centres; where all L1 distances are equal, the margin has no gradient."""
    logits, labels = some_logits()
    centres = 3 * torch.eye(CLASSES, dtype=torch.float64)
    moving = (3 * logits.sigmoid()).requires_grad_(True)
    assert (torch.cdist(moving, centres, p=1).argmin(dim=1) != labels).any()
    descent = torch.optim.SGD([moving], lr=1.0)
    for _ in range(100):
        descent.zero_grad()
        margin(centres, moving, labels).backward()
        descent.step()
    assert torch.equal(torch.cdist(moving, centres, p=1).argmin(dim=1), labels)


def test_budgets_are_those_of_table_8():
    found = {name: DomainAdaptation.settings(spec, 3)["eps"] for name, spec in DATASETS.items()}
    assert found["fmnist"] == 0.1
    assert found["svhn"] == 0.02
    assert found["cifar10"] == found["cifar100"] == 4 / 255
    assert found["mnist"] == DATASETS["mnist"].eps


def test_defaults_are_published():
    assert (DomainAdaptation().weight, DomainAdaptation().rate) == (1 / 3, 0.1)
