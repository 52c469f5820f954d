"""Several classifiers that answer together."""

import math

import pytest
import torch
import torch.nn.functional as F

from robustbench_pcl.models.classifier import Ensemble, build_classifier, log_mean_probabilities

MEMBERS, COUNT, CLASSES = 3, 6, 5


@pytest.fixture
def ensemble() -> Ensemble:
    built = [
        build_classifier("conv6", (1, 8, 8), CLASSES, width=0.125, seed=seed)
        for seed in range(MEMBERS)
    ]
    return Ensemble(built).eval()


@pytest.fixture
def images():
    return torch.rand((COUNT, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def test_it_answers_by_the_mean_of_its_members_probabilities(ensemble, images):
    mean = sum(member(images).softmax(dim=1) for member in ensemble.members) / MEMBERS
    answer = ensemble(images)
    assert answer.shape == (COUNT, CLASSES)
    assert torch.allclose(answer.exp(), mean)
    assert torch.allclose(answer.softmax(dim=1), mean)
    labels = torch.arange(COUNT) % CLASSES
    likelihoods = mean.gather(1, labels[:, None])[:, 0]
    losses = F.cross_entropy(answer, labels, reduction="none")
    assert torch.allclose(losses, -likelihoods.log(), atol=1e-6)


def test_its_members_answer_apart(ensemble, images):
    logits = ensemble.member_logits(images)
    assert logits.shape == (MEMBERS, COUNT, CLASSES)
    for member, own in zip(ensemble.members, logits, strict=True):
        assert torch.equal(member(images), own)
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)


def test_it_has_no_feature_layers(ensemble, images):
    answer, features = ensemble.features(images)
    assert torch.equal(answer, ensemble(images))
    assert features == {}


def test_its_state_is_its_members(ensemble):
    single = ensemble.members[0].state_dict()
    expected = {f"members.{number}.{name}" for number in range(MEMBERS) for name in single}
    assert set(ensemble.state_dict()) == expected


def test_every_member_learns(ensemble, images):
    ensemble(images).square().sum().backward()
    assert all(bool(value.grad.any()) for value in ensemble.parameters() if value.ndim > 1)


def test_one_certain_member_is_a_third_of_the_vote():
    logits = torch.zeros(MEMBERS, 1, 2)
    logits[0, 0, 0] = 500.0
    found = log_mean_probabilities(logits, len(logits))[0].exp().tolist()
    assert found == pytest.approx([2 / 3, 1 / 3])


def test_probabilities_too_small_for_float32_keep_their_logarithms():
    logits = torch.zeros(MEMBERS, 1, 2)
    logits[:, 0, 0] = torch.tensor([400.0, 500.0, 600.0])
    logits.requires_grad_(True)
    found = log_mean_probabilities(logits, len(logits))
    assert found[0].tolist() == pytest.approx([0, -400 - math.log(MEMBERS)])
    found[0, 1].backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0, 1].item() == pytest.approx(1)
