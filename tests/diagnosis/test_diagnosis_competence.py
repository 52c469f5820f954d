"""Adversarial images that exist by construction, and who finds them."""

import pytest
import torch
from diagnosis_toys import Scaled, WinnersTakeAll, digits
from torch import nn

from robustbench_pcl import FGSM, PGD
from robustbench_pcl.attacks.checks import check_answers
from robustbench_pcl.attacks.passes import decided
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.diagnosis.competence import build, competence, head_of
from robustbench_pcl.diagnosis.evidence import Evidence

EPS, COUNT = 0.1, 12


@pytest.fixture(scope="module")
def evidence_of():
    """Evidence on a few digits; the model's last layer is all that matters here."""
    opened = []

    def make(model):
        images, labels = digits(COUNT)
        target = TargetModel(model).__enter__()
        opened.append(target)
        check_answers(target, images, labels)
        labels = decided(target.logits(images))
        seeds = torch.arange(COUNT)
        return Evidence(target, images, labels, COUNT, judged=PGD(eps=EPS), seeds=seeds, sources={})

    yield make
    for target in reversed(opened):
        target.__exit__()


def test_the_last_layer_is_found_also_beneath_a_factor_and_a_softmax(smooth):
    images, _ = digits(4)
    for model in (smooth, Scaled(smooth, 3.0), nn.Sequential(smooth, nn.LogSoftmax(dim=1))):
        assert head_of(model, images) is smooth[-1]


def test_a_layer_whose_classes_are_others_is_none(smooth):
    images, _ = digits(4)
    assert head_of(Scaled(smooth, -1.0), images) is None
    assert head_of(nn.Sequential(nn.Flatten(), nn.ReLU()), images) is None


def test_a_model_of_its_own_has_the_image_right_and_an_adversarial_image_in_the_ball(
    smooth, evidence_of
):
    evidence = evidence_of(smooth)
    lead = -evidence.goal.margin(evidence.target.logits(evidence.images))
    for row in range(COUNT):
        built = build(evidence, smooth[-1], row)
        logits = built.model(evidence.images[row : row + 1])[0]
        assert float(logits[0] - logits[1]) == pytest.approx(float(lead[row]), rel=1e-3)
        grown = PGD(eps=EPS, steps=40, loss="margin")(
            built.model,
            evidence.images[row : row + 1],
            torch.zeros(1, dtype=torch.int64),
            exact=True,
        )
        assert int(built.model(grown).argmax()) == 1


def test_it_tells_strong_attacks_from_weak_ones_and_what_masks_from_what_does_not(
    smooth, evidence_of
):
    plain, tiny = PGD(eps=EPS), PGD(eps=EPS, relative_step_size=1e-3)
    margin = PGD(eps=EPS, steps=40, loss="margin")

    def found(model, *attacks):
        tested = competence(evidence_of(model), attacks)
        assert {each.n for each in tested} == {COUNT}
        return [each.found for each in tested]

    assert found(smooth, plain, tiny, margin) == [COUNT, 0, COUNT]
    assert found(Scaled(smooth, 1_000), FGSM(eps=EPS), plain, margin) == [0, 0, COUNT]


def test_intervals_and_labels_are_of_the_attack(smooth, evidence_of):
    (tested,) = competence(evidence_of(smooth), [PGD(eps=EPS)])
    assert tested.label == "PGD, eps 0.1"
    assert tested.attack == PGD(eps=EPS).dump()
    low, high = tested.interval
    assert low < tested.found / tested.n <= high


def test_where_the_last_layer_cannot_be_told_nothing_is_tested(evidence_of):
    model = nn.Sequential(nn.Flatten(), WinnersTakeAll(0.5))
    assert competence(evidence_of(model), [PGD(eps=EPS)]) == ()
