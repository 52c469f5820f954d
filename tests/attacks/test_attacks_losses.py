"""What attacks maximise, one value per image."""

import copy

import pytest
import torch
import torch.nn.functional as F
from attack_toys import (
    attacked,
    careless,
    conv_net,
    generator,
    predictions,
    random_images,
    state_of,
)
from torch import Tensor, nn

from robustbench_pcl.attacks import APGD, BIM, FGSM, MIM, PGD
from robustbench_pcl.attacks.losses import ON_LOGITS, AttackLoss, logit_margin, targeted_dlr
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.models.classifier import build_classifier
from robustbench_pcl.models.supervised import SupervisedModel

SHAPE, CLASSES = (2, 8, 8), 4


def test_margin_is_the_best_other_logit_less_the_own():
    logits = torch.tensor([[3.0, 1.0, 2.5], [3.0, 1.0, 2.5], [-1.0, -7.0, -1.0]])
    labels = torch.tensor([0, 1, 2])
    assert logit_margin(logits, labels).tolist() == [-0.5, 2.0, 0.0]
    assert logit_margin(logits, torch.tensor([[0, 1], [1, 2], [2, 0]])).tolist() == [-2.0, 1.5, 0.0]


def by_hand(name: str, row: Tensor, label: int) -> float:
    """The loss of one image."""
    z = sorted(row.tolist(), reverse=True)
    margin = max(row[:label].tolist() + row[label + 1 :].tolist()) - row[label].item()
    units = row / (z[0] - z[1])
    return {
        "cross-entropy": (torch.logsumexp(row, 0) - row[label]).item(),
        "mifpe": (torch.logsumexp(units, 0) - units[label]).item(),
        "margin": margin,
        "dlr": margin / (z[0] - z[2]),
        "targeted-dlr": margin / (z[0] - (z[2] + z[3]) / 2),
    }[name]


@pytest.mark.parametrize("name", list(ON_LOGITS))
def test_attack_losses_have_one_value_per_image(case, name):
    model = copy.deepcopy(case.model).eval()
    found, passed = AttackLoss(name)(model, case.images, case.labels)
    logits = model(case.images)
    assert torch.equal(passed, logits)
    for row, label, value in zip(logits, case.labels, found, strict=True):
        assert value.item() == pytest.approx(by_hand(name, row, label.item()), abs=1e-9)


def test_targeted_dlr_is_towards_the_class_that_is_given():
    logits = torch.tensor([[4.0, 1.0, 3.0, 2.0]])
    assert targeted_dlr(logits, torch.tensor([[0, 1]])).item() == pytest.approx(-3 / 2.5)
    assert targeted_dlr(logits, torch.tensor([[3, 2]])).item() == pytest.approx(1 / 2.5)


# The slope


def slope(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient (N, K) in the logits."""
    leaf = logits.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(ON_LOGITS[AttackLoss(name)](leaf, labels).sum(), leaf)
    return found


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("name", ["mifpe", "margin", "dlr", "targeted-dlr"])
def test_at_any_scale_of_the_logits_there_is_the_same_slope(name, scale):
    """In float32, where cross-entropy's is 0 from margins of 104 on."""
    logits = torch.randn(50, 10, generator=generator()) * 5
    labels = logits.argmax(dim=1)
    plain, scaled = slope(name, logits, labels), slope(name, scale * logits, labels)
    assert (plain.abs().amax(dim=1) > 0).all()
    assert torch.cosine_similarity(plain, scaled, dim=1).min() > 0.99999
    assert (slope("cross-entropy", 1e3 * logits, labels).abs().amax(dim=1) == 0).sum() > 40


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_dlr_has_a_slope_towards_every_class_however_few_there_are(classes):
    """Of three classes, over z_(1) - z_(3) there is none from the first towards the third."""
    logits = torch.randn(50, classes, generator=generator(), dtype=torch.float64)
    labels = logits.argmax(dim=1)
    assert (slope("dlr", logits, labels).abs().amax(dim=1) > 1e-6).all()
    for shift in range(1, classes):
        others = (labels + shift) % classes
        found = slope("targeted-dlr", logits, torch.stack([labels, others], dim=1))
        assert (found.gather(1, others[:, None]).abs() > 1e-6).all()


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("name", list(ON_LOGITS))
def test_logits_that_are_all_alike_give_a_number(name, classes):
    logits = torch.ones(3, classes)
    labels = torch.tensor([0, 1, classes - 1])
    assert ON_LOGITS[AttackLoss(name)](logits, labels).isfinite().all()
    assert slope(name, logits, labels).isfinite().all()


# Every attack by gradients


@pytest.mark.parametrize("attack", [PGD, BIM, MIM, APGD])
@pytest.mark.parametrize("loss", list(ON_LOGITS))
def test_every_loss_leads_away_from_a_label_and_to_a_target(attack, loss):
    model, images = conv_net().eval(), random_images(30, 2, 6, 6, seed=5)
    labels = predictions(model, images)
    chosen = attack(eps=0.05, steps=20, loss=loss)
    assert 3 < attacked(chosen, model, images, labels).robust.sum() < 27
    targets = (labels + 1) % 5
    found = chosen.changed(eps=0.15)(model, images, labels, targets=targets)
    assert (predictions(model, found) == targets).sum() > 5


# What a model carries


def supervised(loss: str = "pcl", seed: int = 0) -> SupervisedModel:
    layers = [3, 4] if loss != "cross-entropy" else []
    classifier = build_classifier("conv6", SHAPE, CLASSES, width=0.1, feature_layers=layers)
    _, features = classifier.features(torch.zeros(1, *SHAPE))
    dimensions = {layer: values.shape[1] for layer, values in features.items()}
    criterion = Criterion({"name": loss}, dimensions, CLASSES, seed)
    with torch.no_grad():
        for value in criterion.parameters():
            value.copy_(torch.randn(value.shape, generator=generator(seed)))
    return SupervisedModel(classifier, criterion).eval()


IMAGES, LABELS = random_images(6, *SHAPE).float(), torch.tensor([0, 1, 2, 3, 0, 1])


def test_prototype_loss_is_the_own_distance_less_the_nearest_wrong_one():
    model = supervised()
    found, logits = AttackLoss.prototype(model, IMAGES, LABELS)
    assert torch.equal(logits, model(IMAGES))
    _, features = model.classifier.features(IMAGES)
    for row, label in enumerate(LABELS.tolist()):
        expected = 0.0
        for layer, points in model.prototypes().items():
            unit = torch.pdist(points).square().mean()
            distances = ((features[layer][row] - points).square().sum(dim=1) / unit).tolist()
            own = distances.pop(label)
            expected += own - min(distances)
        assert found[row].item() == pytest.approx(expected, rel=1e-4)


def test_feature_loss_is_the_distance_from_the_clean_features_in_units_of_their_length():
    model, moved = supervised(), (IMAGES + 0.1).clamp(0, 1)
    clean = model.all_features(IMAGES)
    found, logits = AttackLoss.feature(model, moved, clean)
    assert torch.equal(logits, model(moved))
    (_, before), (_, after) = (model.classifier.features(each) for each in (IMAGES, moved))
    expected = sum(
        (after[layer] - before[layer]).square().sum(dim=1) / before[layer].square().sum(dim=1)
        for layer in before
    )
    assert torch.allclose(found, expected, rtol=1e-5)
    assert (AttackLoss.feature(model, IMAGES, clean)[0] == 0).all()


@pytest.mark.parametrize("attack", [PGD, BIM, FGSM, MIM, APGD])
@pytest.mark.parametrize("loss", ["joint", "prototype", "feature"])
def test_what_a_model_carries_is_raised_by_every_attack(attack, loss):
    model, name = supervised(), AttackLoss(loss)
    aims = model.all_features(IMAGES) if loss == "feature" else LABELS
    found = attack(eps=0.05, loss=loss)(model, IMAGES, LABELS, exact=True)
    before, after = (name(model, each, aims)[0] for each in (IMAGES, found))
    assert (after > before).all()


NOT_CARRIED = {
    "joint": "A Sequential has no prototypes to attack",
    "prototype": "A Sequential has no prototypes to attack",
    "feature": "A Sequential has no prototypes to attack",
}


@pytest.mark.parametrize("loss", NOT_CARRIED)
@pytest.mark.parametrize("attack", [PGD, APGD])
def test_losses_on_features_need_a_model_that_carries_them(case, attack, loss):
    model = careless(case.model)
    before = state_of(model)
    with pytest.raises(UserError, match=NOT_CARRIED[loss]):
        attack(loss=loss)(model, case.images, case.labels)
    assert state_of(model) == before


REFUSED = [
    ("cross-entropy", "prototype", "no prototypes to attack"),
    ("deep-softmax", "prototype", "no prototypes to attack"),
    ("cross-entropy", "feature", "no feature layers to attack"),
]


@pytest.mark.parametrize(("trained", "loss", "words"), REFUSED)
def test_a_model_without_prototypes_or_features_says_so(trained, loss, words):
    with pytest.raises(UserError, match=words):
        PGD(loss=loss)(supervised(trained), IMAGES, LABELS)


def test_scaled_logits_are_those_of_a_model_whose_last_layer_is_scaled(case):
    """Also where the scale makes float32 round: the steps are the same."""
    images, labels = case.images, case.labels
    larger = nn.Sequential(case.model, Times(64.0))
    of_larger = PGD(eps=0.05, steps=3)(larger, images, labels, exact=True)
    scaled = PGD(eps=0.05, steps=3, logit_scale=64)(case.model, images, labels, exact=True)
    assert torch.equal(of_larger, scaled)
    assert not torch.equal(scaled, PGD(eps=0.05, steps=3)(case.model, images, labels, exact=True))


class Times(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values):
        return values * self.factor


def test_a_scale_of_logits_means_nothing_to_other_losses():
    with pytest.raises(ValueError, match="logit_scale acts on cross-entropy, not on margin"):
        PGD(loss="margin", logit_scale=0.1)


def test_no_class_can_be_reached_by_going_away():
    with pytest.raises(UserError, match="to no class in particular"):
        PGD(loss="feature")(supervised(), IMAGES, LABELS, targets=LABELS)


class WithJoint(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images)

    def joint_loss(self, images, labels):
        logits = self.model(images)
        return -F.cross_entropy(logits, labels, reduction="none"), logits


def test_joint_is_the_loss_the_model_carries(case):
    """Here the model's own loss is the negative of the plain one, so the attack helps it."""
    model = WithJoint(case.model)
    images, labels = case.images, case.labels
    joint = FGSM(eps=0.05, loss="joint")(model, images, labels, exact=True)
    plain = FGSM(eps=0.05)(model, images, labels, targets=labels, exact=True)
    assert torch.equal(joint, plain)
