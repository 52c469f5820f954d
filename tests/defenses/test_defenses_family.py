"""Training schemes: what they make of a batch, and that they leave the model alone meanwhile."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import SignGradientAttack
from robustbench_pcl.attacks.victim import Victim
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.defenses.adversarial_training import AdversarialTraining
from robustbench_pcl.defenses.base import Standard, craft, training_attack
from robustbench_pcl.defenses.min_max import MinMax
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.criterion import build_criterion
from robustbench_pcl.losses.supervised import Step, SupervisedModel
from robustbench_pcl.models.classifier import build_classifier
from robustbench_pcl.registry import build
from robustbench_pcl.specs.base import Part

CLASSES, COUNT = 4, 40
ADVERSARIAL = [name for name in DEFENSES if DEFENSES[name] is not Standard]
LAST_BITS = 1e-6
"""Of float32 pixels around 1, when a budget is added and taken away again."""


class Watched(SupervisedModel):
    """A network with batch normalisation that remembers each batch it is trained on."""

    def __init__(self) -> None:
        classifier = build_classifier("resnet20", (3, 8, 8), CLASSES, width=0.1, taps=(3, 5))
        criterion = build_criterion(Part(name="pcl"), {3: 51, 5: 102}, CLASSES, seed=0)
        super().__init__(classifier, criterion)
        self.steps: list[tuple[Tensor, Tensor]] = []
        self.modes: list[tuple[str, bool]] = []

    def step(self, images: Tensor, labels: Tensor) -> Step:
        self.steps.append((images, labels))
        self.modes.append(("step", self.training))
        return super().step(images, labels)

    def joint_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        self.modes.append(("attack", any(module.training for module in self.modules())))
        return super().joint_loss(images, labels)


@pytest.fixture
def model() -> Watched:
    return Watched().train()


@pytest.fixture
def images() -> Tensor:
    drawn = torch.rand((COUNT, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    drawn[:8] = drawn[:8].round()
    return drawn


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(COUNT) % CLASSES


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def largest_change(changed: Tensor, clean: Tensor) -> Tensor:
    return (changed - clean).abs().flatten(1).amax(dim=1)


def batches_seen(model: nn.Module) -> set[int]:
    return {
        int(module.num_batches_tracked)
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
    }


# Every defence


@pytest.mark.parametrize("name", list(DEFENSES))
def test_a_step_leaves_the_model_in_train_mode_and_passes_it_once(name, model, images, labels):
    weights = copy.deepcopy(dict(model.named_parameters()))
    step = DEFENSES[name]().step(model, images, labels, generator())
    assert all(module.training for module in model.modules())
    assert all(value.requires_grad for value in model.parameters())
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in model.named_parameters())
    assert batches_seen(model) == {1}  # crafting moved no statistics
    assert len(model.steps) == 1
    assert step.count == len(model.steps[0][0])
    total = sum(step.terms.values())
    total.backward()
    assert all(value.grad is not None for value in model.classifier.parameters())


@pytest.mark.parametrize("name", list(DEFENSES))
def test_a_step_follows_from_its_generator(name, model, images, labels):
    state = torch.random.get_rng_state()
    models = [copy.deepcopy(model) for _ in range(3)]
    for one, seed in zip(models, (1, 1, 2), strict=True):
        DEFENSES[name]().step(one, images, labels, generator(seed))
    assert torch.equal(torch.random.get_rng_state(), state)
    first, again, other = (one.steps[0][0] for one in models)
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "none")


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_images_are_crafted_in_eval_mode(name, model, images, labels):
    DEFENSES[name]().step(model, images, labels, generator())
    assert ("attack", False) in model.modes
    assert ("attack", True) not in model.modes
    assert model.modes[-1] == ("step", True)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_what_is_trained_on_is_in_the_pixel_range_and_detached(name, model, images, labels):
    DEFENSES[name]().step(model, images, labels, generator())
    batch, _ = model.steps[0]
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert not batch.requires_grad


@pytest.mark.parametrize("name", list(DEFENSES))
def test_members_document_their_fields_and_cannot_be_changed(name):
    defense = DEFENSES[name]()
    for entry in dataclasses.fields(defense):
        assert entry.metadata["doc"]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(defense, entry.name, 1)
    assert type(defense).__doc__


# The plain one


def test_standard_training_is_on_the_clean_images(model, images, labels):
    Standard().step(model, images, labels, generator())
    ((batch, theirs),) = model.steps
    assert torch.equal(batch, images)
    assert torch.equal(theirs, labels)
    assert model.modes == [("step", True)]


# Algorithm 1


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_adversarial_training_is_on_both_halves(attack, model, images, labels):
    defense = AdversarialTraining(attack=attack, steps=2, low=0.02, high=0.08)
    defense.step(model, images, labels, generator())
    ((batch, theirs),) = model.steps
    assert torch.equal(batch[:COUNT], images)
    assert torch.equal(theirs, torch.cat([labels, labels]))
    change = largest_change(batch[COUNT:], images)
    assert change.max() <= 0.08 + LAST_BITS
    assert change.max() > 0.06


def test_each_image_has_a_budget_of_its_own_from_the_interval(model, labels):
    """FGSM moves a pixel off the bounds by exactly its image's budget."""
    images = torch.full((COUNT, 3, 8, 8), 0.5) + 0.01 * torch.rand(
        (COUNT, 3, 8, 8), generator=generator()
    )
    drawn = []
    for seed in range(5):
        AdversarialTraining(low=0.1, high=0.3).step(model, images, labels, generator(seed))
        change = (model.steps[-1][0][COUNT:] - images).abs().flatten(1)
        budget = change.amax(dim=1)
        moved = change > 0
        assert moved.double().mean() > 0.99
        assert torch.allclose(change, budget[:, None] * moved, atol=LAST_BITS)
        drawn.append(budget)
    budgets = torch.cat(drawn)
    assert len(budgets.unique()) > 190
    assert budgets.min() >= 0.1 - LAST_BITS
    assert budgets.max() <= 0.3 + LAST_BITS
    assert budgets.min() < 0.11
    assert budgets.max() > 0.29
    assert budgets.mean().item() == pytest.approx(0.2, abs=0.015)


def test_equal_ends_are_one_budget(model, labels):
    images = torch.full((COUNT, 3, 8, 8), 0.4)
    AdversarialTraining(low=0.1, high=0.1).step(model, images, labels, generator())
    change = largest_change(model.steps[0][0][COUNT:], images)
    assert torch.allclose(change, torch.full((COUNT,), 0.1), atol=LAST_BITS)


def test_the_adversarial_half_raises_the_joint_loss(model, images, labels):
    AdversarialTraining(attack="pgd", steps=5, relative_step_size=0.5).step(
        model, images, labels, generator()
    )
    batch, _ = model.steps[0]
    with Victim(model), torch.no_grad():
        clean, adversarial = (
            model.joint_loss(half, labels) for half in (batch[:COUNT], batch[COUNT:])
        )
    assert (adversarial > clean).double().mean() > 0.9


# Min-max


def test_min_max_training_is_on_adversarial_images_only(model, images, labels):
    MinMax(eps=0.1, steps=3).step(model, images, labels, generator())
    ((batch, theirs),) = model.steps
    assert batch.shape == images.shape
    assert torch.equal(theirs, labels)
    change = largest_change(batch, images)
    assert change.min() > 0.05
    assert change.max() <= 0.1 + LAST_BITS


def test_min_max_starts_at_random(model, images, labels):
    """With steps too small to matter, what is left is the start: uniform in the ball."""
    grey = torch.full_like(images, 0.5)
    MinMax(eps=0.2, steps=1, relative_step_size=1e-9).step(model, grey, labels, generator())
    share = (model.steps[0][0] - grey) / 0.2
    assert share.std().item() == pytest.approx(3**-0.5, abs=0.02)
    assert share.mean().item() == pytest.approx(0, abs=0.02)
    assert share.abs().max() <= 1 + 1e-5


# Crafting


@pytest.mark.parametrize(
    "name", [name for name in ATTACKS if issubclass(ATTACKS[name], SignGradientAttack)]
)
def test_every_sign_attack_can_be_trained_against(name, model, images, labels):
    attack = training_attack(name, 3, 0.5)
    assert (attack.steps, attack.relative_step_size, attack.loss) == (3, 0.5, "joint")
    budgets = torch.linspace(0.01, 0.2, COUNT).view(-1, 1, 1, 1)
    before = copy.deepcopy(model.state_dict())
    adversarial = craft(attack, model, images, labels, eps=budgets, generator=generator())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    change = largest_change(adversarial, images)
    assert (change <= budgets.flatten() + LAST_BITS).all()
    assert (change >= budgets.flatten() / 2).all()


# What is refused


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(name="adversarial-training", parameters={"attack": "cw"}), "no L-infinity budget"),
        (Part(name="adversarial-training", parameters={"attack": "pdg"}), "Did you mean pgd"),
        (Part(name="adversarial-training", parameters={"low": 0.2, "high": 0.1}), "above high"),
        (Part(name="adversarial-training", parameters={"high": 8}), "8/255"),
        (Part(name="adversarial-training", parameters={"steps": 0}), "at least one"),
        (Part(name="adversarial-training", parameters={"epsilon": 0.1}), "no parameter of defense"),
        (Part(name="min-max", parameters={"eps": 8}), "8/255"),
        (Part(name="min-max", parameters={"eps": -0.1}), "negative"),
        (Part(name="min-max", parameters={"steps": 0}), "at least one"),
        (Part(name="none", parameters={"eps": 0.1}), "no parameter of defense none"),
        (Part(name="minmax"), "Did you mean min-max"),
    ],
    ids=str,
)
def test_what_a_defence_cannot_be_built_from(part, message):
    with pytest.raises(UserError, match=message):
        build(DEFENSES, part)


def test_budgets_may_be_fractions(model, images, labels):
    assert MinMax(eps="8/255").eps == 8 / 255
    defense = AdversarialTraining(low="2/255", high="8/255")
    assert (defense.low, defense.high) == (2 / 255, 8 / 255)
    defense.step(model, images, labels, generator())
