"""A model that somebody brings is asked what would make its robust accuracy meaningless."""

import dataclasses

import pytest
import torch
from torch import nn

from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.evaluation.inspection import inspect_model
from robustbench_pcl.models.classifier import Normalise

CLASSES, COUNT = 3, 240
COLOURS = dataclasses.replace(
    dataset_spec("cifar10"), title="Colours", shape=(3, 2, 2), classes=("red", "green", "blue")
)
LABELS = torch.arange(COUNT) % CLASSES
IMAGES = torch.full((COUNT, 3, 2, 2), 0.3)
IMAGES[torch.arange(COUNT), LABELS] = 0.6
"""Each image has the colour of its class."""


class Colour(nn.Module):
    """The mean of each colour as logits, in pixels of whatever unit."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        return self.scale * images.mean(dim=(2, 3))


class Changed(nn.Module):
    """Another thing made of the colours' logits, or of the images before."""

    def __init__(self, after=lambda logits: logits, before=lambda images: images):
        super().__init__()
        self.colour, self.after, self.before = Colour(), after, before

    def forward(self, images):
        return self.after(self.colour(self.before(images)))


class Stubborn(nn.Module):
    """It has an eval mode in name only."""

    def __init__(self):
        super().__init__()
        self.colour, self.dropout = Colour(), nn.Dropout(0.0)

    def train(self, mode=True):
        super().train(mode)
        self.dropout.training = True
        return self

    def forward(self, images):
        return self.dropout(self.colour(images))


def found(model, images=IMAGES, labels=LABELS):
    findings = inspect_model(model, images, labels, COLOURS)
    return {finding.subject: finding for finding in findings}


SUBJECTS = ["pixels", "eval mode", "logits", "classes", "repeatable", "gradient", "accuracy"]


def test_a_model_that_can_be_judged():
    findings = found(Colour())
    assert list(findings) == SUBJECTS
    assert all(finding.said.startswith("ok") for finding in findings.values())
    assert not any(finding.cure for finding in findings.values())
    assert str(findings["accuracy"]) == f"accuracy: ok, 100.0 % of {COUNT} clean images"


def centred(images):
    """What is above the middle counts, so that without normalisation red always wins."""
    return (
        torch.where(images > 0, images, 1e-6 * images) + torch.tensor([1e-3, 0, 0])[:, None, None]
    )


WRONG = {
    "probabilities": (Changed(lambda x: x.softmax(1)), "logits", "probabilities", "last softmax"),
    "classes too many": (
        Changed(lambda x: torch.cat([x, x - 9], dim=1)),
        "classes",
        "6 logits, and Colours has 3",
        "--dataset",
    ),
    "random": (
        Changed(lambda x: x + 0.01 * torch.randn_like(x)),
        "repeatable",
        "randomised",
        "dropout",
    ),
    "batch": (
        Changed(lambda x: x - 0.1 * x.mean(0)),
        "repeatable",
        "other images in its batch",
        "batch",
    ),
    "numb": (
        Changed(before=lambda x: (x * 255).round() / 255),
        "gradient",
        "gradient of the model's logits is 0",
        "differentiable",
    ),
    "in train mode": (Stubborn(), "eval mode", "dropout stays in train mode", "train()"),
    "colours": (Changed(before=lambda x: x.flip(1)), "accuracy", "100.0 % with blue", "flip(1)"),
    "order": (Changed(lambda x: x.roll(1, dims=1)), "accuracy", "another order", "classes 2, 0, 1"),
    "constant": (
        Changed(lambda x: x * 1e-3 - torch.arange(3.0)),
        "accuracy",
        "33.3 % of 240 clean images: no better than chance",
        "--mean",
    ),
    "normalised elsewhere": (
        Changed(before=lambda x: centred(x - 1.5)),
        "accuracy",
        "but 100.0 % with --mean 0 --std 0.00392157",
        "give its own --mean and --std",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_with_its_cure(kind):
    model, subject, said, cure = WRONG[kind]
    findings = found(model)
    assert list(findings) == SUBJECTS
    assert said in findings[subject].said
    assert cure in findings[subject].cure
    others = [finding for name, finding in findings.items() if name != subject]
    assert all(finding.said.startswith("ok") for finding in others)


@pytest.mark.parametrize("inside", [True, False])
def test_log_probabilities_are_logits(inside):
    findings = found(Changed(lambda x: x.log_softmax(1) if inside else x.log_softmax(1) + 2))
    assert findings["logits"].said == ("ok, as log-probabilities" if inside else "ok")


def test_a_model_that_gives_no_logits_is_asked_no_more():
    findings = found(Changed(lambda x: (x, x)))
    assert list(findings) == ["pixels", "eval mode", "logits"]
    assert "returns a tuple" in findings["logits"].said


def test_images_that_are_no_pixels():
    (only,) = found(Colour(), IMAGES * 255).values()
    assert (only.subject, "in [0, 1]" in only.said) == ("pixels", True)


def test_normalisation_that_is_one_too_many():
    """Left out, every image is right."""
    twice = nn.Sequential()
    twice.normalise = Normalise((0.9,), (0.1,))
    twice.network = Changed(before=centred)
    accuracy = found(twice)["accuracy"]
    assert "100.0 % without normalisation" in accuracy.said
    assert accuracy.cure == "Leave --mean and --std out."


def test_the_model_is_left_as_it_was():
    model = Colour().train()
    found(model)
    assert model.training
    assert model.scale.requires_grad
