"""Pang et al.'s ensemble: the volume that its members span, and that training enlarges it."""

import copy
import math

import pytest
import torch
from defense_toys import (
    CLASSES,
    generator,
    minimised,
    recording_model,
    some_images,
    some_labels,
    tiny,
    tiny_batch,
    total,
)
from torch import Tensor

from robustbench_pcl.defenses.regularizers import OFFSET, EnsembleDiversity, entropy, log_diversity

DEFENSE = EnsembleDiversity()


def some_logits(members: int = 3, count: int = 20, classes: int = 6, size: float = 1.0) -> Tensor:
    shape = (members, count, classes)
    return size * torch.randn(shape, generator=generator(4), dtype=torch.float64)


def squared_volume(vectors: list[list[float]]) -> float:
    """By Gram-Schmidt: the product of the squared lengths of what each adds to those before."""
    volume, basis = 1.0, []
    for vector in vectors:
        rest = list(vector)
        for other in basis:
            along = sum(a * b for a, b in zip(rest, other, strict=True))
            rest = [a - along * b for a, b in zip(rest, other, strict=True)]
        length = math.sqrt(sum(value**2 for value in rest))
        volume *= length**2
        basis.append([value / length for value in rest])
    return volume


def test_diversity_is_the_squared_volume_of_the_other_classes_predictions():
    logits, labels = some_logits(), torch.arange(20) % 6
    found = log_diversity(logits, labels).exp().tolist()
    for image, label in enumerate(labels.tolist()):
        vectors = []
        for member in logits[:, image]:
            rest = [p for k, p in enumerate(member.softmax(dim=0).tolist()) if k != label]
            length = math.sqrt(sum(p**2 for p in rest))
            vectors.append([p / length for p in rest])
        assert found[image] == pytest.approx(squared_volume(vectors), abs=10 * OFFSET)
    assert max(found) > 0.05


def test_diversity_is_1_for_members_that_believe_apart_and_0_for_equal_ones():
    """Members that each believe in another wrong class span 1; equal ones span nothing."""
    apart = torch.full((3, 1, 4), -50.0)
    for member in range(3):
        apart[member, 0, member] = 50.0
    assert log_diversity(apart, torch.tensor([3])).item() == pytest.approx(0, abs=1e-5)
    equal = apart[:1].expand(3, -1, -1)
    assert log_diversity(equal, torch.tensor([3])).item() < math.log(1e-5)


def test_the_label_s_own_logit_does_not_matter():
    logits, labels = some_logits(), torch.arange(20) % 6
    sure = logits.clone()
    sure[:, torch.arange(20), labels] += 1000
    assert torch.allclose(log_diversity(sure, labels), log_diversity(logits, labels))


@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_diversity_in_float32_is_that_in_float64(size):
    labels = torch.arange(20) % 6
    logits = some_logits(size=size).float().requires_grad_(True)
    found = log_diversity(logits, labels)
    found.sum().backward()
    assert logits.grad.isfinite().all()
    exact = log_diversity(logits.detach().double(), labels)
    # Two members that are sure of the same class differ by less than float32 resolves.
    resolved = exact > math.log(1e-3)
    assert resolved.any()
    assert torch.allclose(found.detach().double()[resolved], exact[resolved], atol=1e-2)
    assert found.isfinite().all()


def test_entropy_is_shannon_s_in_nats():
    probabilities = torch.tensor([[0.25] * 4, [0.5, 0.5, 0.0, 0.0]], dtype=torch.float64)
    found = entropy((probabilities + 1e-300).log())
    assert found.tolist() == pytest.approx([math.log(4), math.log(2)])


def test_the_terms_are_the_members_losses_and_the_two_regularisers():
    images, labels = tiny_batch()
    model = tiny(DEFENSE)
    step = EnsembleDiversity(alpha=1.5, beta=0.25).step(model, images, labels, generator())
    expected = 0.0
    for image, label in zip(images, labels.tolist(), strict=True):
        predictions = [
            member(image[None]).detach().softmax(dim=1)[0] for member in model.classifier.members
        ]
        mean = sum(predictions) / 3
        others = torch.stack(predictions)[:, [k for k in range(CLASSES) if k != label]]
        directions = others / others.norm(dim=1, keepdim=True)
        diversity = torch.linalg.det(directions @ directions.T + OFFSET * torch.eye(3))
        expected -= sum(math.log(one[label]) for one in predictions)
        expected -= 1.5 * -sum(p * math.log(p) for p in mean.tolist())
        expected -= 0.25 * math.log(diversity)
    assert total(step.terms.values()) == pytest.approx(expected / len(labels))
    right = sum(
        int(model(image[None]).argmax()) == label
        for image, label in zip(images, labels.tolist(), strict=True)
    )
    assert int(step.correct) == right


def test_defaults_are_published():
    assert (DEFENSE.alpha, DEFENSE.beta, DEFENSE.members) == (2, 0.5, 3)


def test_training_with_it_makes_members_differ_on_the_other_classes():
    images, labels = some_images(12), some_labels(12)
    found = {}
    for beta in (0.5, 1e-9):
        defense = EnsembleDiversity(beta=beta)
        model = recording_model(defense, model="conv6")
        minimised(defense, model, images, labels, steps=50)
        with torch.no_grad():
            found[beta] = log_diversity(model.classifier.member_logits(images), labels).mean()
    assert found[0.5] > found[1e-9] + 0.5


def test_training_with_it_keeps_the_mean_prediction_uncertain():
    images, labels = some_images(12), some_labels(12)
    found = {}
    for alpha in (2.0, 1e-9):
        defense = EnsembleDiversity(alpha=alpha)
        model = recording_model(defense, model="conv6")
        minimised(defense, model, images, labels, steps=100)
        with torch.no_grad():
            found[alpha] = entropy(model.eval()(images)).mean()
    assert found[2.0] > found[1e-9] + 0.2


def test_the_regularisers_are_not_rounded_to_eight_bits():
    """What autocast would do to a matrix product."""
    images, labels = some_images(), some_labels()
    model = recording_model(DEFENSE, model="conv6")
    with torch.no_grad():
        logits = copy.deepcopy(model).classifier.member_logits(images)
        expected = log_diversity(logits, labels).mean()
    with torch.autocast("cpu", torch.bfloat16):
        step = DEFENSE.step(model, images, labels, generator())
        rough = copy.deepcopy(model).classifier.member_logits(images)
    assert torch.equal(rough, rough.bfloat16().float())  # its layers had eight bits
    assert not torch.equal(logits, logits.bfloat16().float())
    assert all(value.dtype == torch.float32 for value in step.terms.values())
    exact = log_diversity(rough, labels).mean()
    assert step.terms["diversity"].item() == pytest.approx(-0.5 * exact.item(), rel=1e-5)
    assert exact.item() == pytest.approx(expected.item(), rel=0.05)
