"""Images that leave make room: full batches, nobody lost, nobody twice, memory flat."""

from dataclasses import replace

import pytest
import torch
from attack_models import case_of
from attack_toys import (
    EVERY,
    SIGN_ATTACKS,
    Constant,
    attacked,
    chunks_of,
    collected,
    generator,
    predictions,
    random_images,
    short,
)
from torch import nn

from robustbench_pcl.attacks import BIM, CW, PGD
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel

EARLY_STOP = Shortcuts(early_stop=True)


class Sizes(nn.Module):
    """A model that remembers how many images its passes had, with a gradient and without."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model
        self.attacked: list[int] = []
        self.verdicts: list[int] = []

    def forward(self, images):
        (self.attacked if torch.is_grad_enabled() else self.verdicts).append(len(images))
        return self.model(images)


class Threshold(nn.Module):
    """Class 1 above one half."""

    def forward(self, images):
        value = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack([-value, value], dim=1)


def greys(count):
    """Images of class 0 that need between one and all of ten steps of 0.01, or more than those."""
    return (0.5 - 0.13 * random_images(count, 1, 1, 1, seed=2)).clone()


def streamed(attack, model, images, sizes, shortcuts=EARLY_STOP):
    """The images of class 0 in chunks of those sizes; what became of them."""
    with TargetModel(model, shortcuts) as target:
        chunks = chunks_of(images, torch.zeros(len(images)).long(), sizes)
        return collected(attack.stream(target, chunks, len(images)), images)


# Batches


def test_every_pass_is_full_until_no_image_is_left(batches_of):
    batches_of(8)
    images, model = greys(100), Sizes(Threshold())
    streamed(BIM(eps=0.1), model, images, [10] * 10)
    full = next(index for index, size in enumerate(model.attacked) if size < 8)
    assert set(model.attacked[:full]) == {8}
    rest = model.attacked[full:]
    assert rest == sorted(rest, reverse=True)  # at the end they only leave
    assert sum(rest) < 0.1 * sum(model.attacked)
    assert sum(model.attacked) < 100 * 10


def test_without_early_stop_every_image_takes_every_step_in_full_passes(batches_of):
    batches_of(8)
    images, model = greys(20), Sizes(Threshold())
    _, classes = streamed(BIM(eps=0.1), model, images, [20], EXACT)
    assert model.attacked == [8] * 25
    assert model.verdicts == []
    assert (classes == -1).all()


def test_an_image_that_leaves_takes_no_further_pass():
    """Steps of 0.01 to a threshold of 0.5: fooled by the first, by the sixth, at once, never."""
    pixels = torch.tensor([0.495, 0.445, 0.7, 0.2], dtype=torch.float64).repeat(3).view(12, 1, 1, 1)
    found = attacked(BIM(eps=0.1), Threshold(), pixels, torch.zeros(12).long(), EARLY_STOP)
    assert found.robust.tolist() == [False, False, False, True] * 3
    steps = (found.adversarial - pixels).flatten() / 0.01
    assert torch.allclose(steps, torch.tensor([1.0, 6.0, 0.0, 10.0]).double().repeat(3))
    # The pass that finds an image adversarial is the one that would have been its next step.
    assert found.backward_passes == found.forward_passes == 3 * (2 + 7 + 1 + 10)


def test_what_fools_the_fast_model_gets_its_verdict_in_full_batches(batches_of):
    batches_of(8)
    case = case_of("normed_net")
    model, shortcuts = Sizes(case.model), Shortcuts(folded=True, early_stop=True)
    attack = short("pgd", eps=0.3)
    with TargetModel(model, shortcuts) as target:
        chunks = chunks_of(case.images, case.predictions, [16])
        _, classes = collected(attack.stream(target, chunks, 16), case.images)
    assert (classes >= 0).sum() >= 12
    assert model.attacked == [8]  # the comparison; all else is passed through the fast model
    shown, *verdicts = model.verdicts
    assert shown == 1  # what follows what
    assert verdicts[0] == 8
    assert sum(size < 8 for size in verdicts) <= 1
    assert sum(verdicts) == (classes >= 0).sum()


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [0, 7, 0, 30, 3, 0]], ids=str)
@pytest.mark.parametrize("attack", EVERY)
def test_nobody_is_lost_and_nobody_comes_twice(attack, sizes, batches_of):
    images, labels = greys(40), torch.zeros(40).long()
    chosen = short(attack, 10, **({"eps": 0.1} if attack in SIGN_ATTACKS else {"c": 1.0}))
    expected = attacked(chosen, Threshold(), images, labels, EARLY_STOP).adversarial
    for size in (1, 3, 16):
        batches_of(size)
        found = attacked(chosen, Threshold(), images, labels, EARLY_STOP, sizes=sizes)
        assert torch.equal(found.adversarial, expected)


@pytest.mark.parametrize(("shortcuts", "most"), [(EARLY_STOP, 4), (EXACT, 3)], ids=str)
def test_images_are_begun_only_when_there_is_room(shortcuts, most, batches_of):
    """Ten thousand wait, and no more than a batch and a chunk of them are under way."""
    batches_of(8)
    total, drawn, ended = 10_000, [], 0
    images, labels = torch.full((total, 1, 1, 1), 0.2), torch.zeros(total).long()
    with TargetModel(Threshold(), shortcuts) as target:
        chunks = chunks_of(images, labels, [5] * (total // 5), drawn=drawn)
        stream = PGD(eps=0.1).stream(target, chunks, total)
        assert drawn == []
        for found in stream:
            ended += len(found.rows)
            assert sum(drawn) - ended <= 5 * most
            if ended >= 400:
                break
    assert 400 <= sum(drawn) <= 400 + 5 * most + 8


class Differs(nn.Module):
    """In passes with a gradient it says 1, without one 0."""

    def forward(self, images):
        value = images.flatten(1).mean(dim=1)
        sign = 1 if torch.is_grad_enabled() else -1
        return torch.stack([-value, value], dim=1) * sign


def test_who_fools_the_fast_model_alone_takes_all_steps_and_does_not_pile_up(batches_of):
    batches_of(4)
    images = greys(10)
    with TargetModel(Differs(), EARLY_STOP) as target:
        target.exact = False  # as if gradients were a copy's
        chunks = chunks_of(images, torch.zeros(10).long(), [10])
        adversarial, classes = collected(BIM(eps=0.1).stream(target, chunks, 10), images)
        assert target.backward_passes == 10 * 10
        assert target.forward_passes == 2 * target.backward_passes  # each step got a verdict
    assert torch.allclose(adversarial, images + 0.1)
    assert (classes == -1).all()


@pytest.mark.parametrize("attack", [BIM(), CW(steps=3)], ids=str)
@pytest.mark.parametrize("sizes", [[], [0], [0, 0]], ids=str)
def test_a_stream_of_nothing_ends(attack, sizes):
    images = random_images(0, 1, 4, 4)
    assert len(streamed(attack, Constant(), images, sizes)[0]) == 0


# Attacks of one's own


class Brighter(IterativeAttack[State]):
    """Steps towards white, whatever the gradient."""

    name: str = "brighter"
    early_stop = True
    steps: int = 10

    def initialise(self, chunk):
        labels = chunk.goal.labels
        return State(
            rows=chunk.rows,
            images=chunk.images,
            labels=labels,
            sign=torch.ones_like(labels),
            step=torch.zeros_like(labels),
            adversarial=chunk.images,
            passed=chunk.images[:, :0],
            predicted=torch.full_like(labels, -1),
        )

    def objective(self, model, images, state):
        logits = model(images)
        return logits[:, 1], logits

    def step(self, target, state, found):
        return replace(state, adversarial=state.adversarial + 0.01, step=state.step + 1)


class White(Attack):
    """White images, without a step."""

    name: str = "white"

    def perturb(self, target, images, goal, seeds):
        return torch.ones_like(images)


def test_an_attack_that_steps_in_its_own_way_is_run_like_the_others(batches_of):
    """All it says is where it starts, what it maximises and how it steps."""
    images, labels = greys(40), torch.zeros(40).long()
    gradient = attacked(BIM(eps=0.1), Threshold(), images, labels, EARLY_STOP)
    batches_of(7)
    own = attacked(Brighter(), Threshold(), images, labels, EARLY_STOP, sizes=[25, 15])
    assert torch.equal(own.robust, gradient.robust)
    assert torch.allclose(own.adversarial, gradient.adversarial)
    assert own.backward_passes == gradient.backward_passes


def test_an_attack_without_steps_only_makes_images():
    images, labels = greys(40), torch.zeros(40).long()
    found = attacked(White(), Threshold(), images, labels, EARLY_STOP, sizes=[25, 15])
    assert torch.equal(found.adversarial, torch.ones_like(images))
    assert found.forward_passes == 0
    with pytest.raises(TypeError, match="perturb"):
        Attack(name="nothing")


# Memory


class Small(Sizes):
    """A model that has memory for so many images and no more."""

    def __init__(self, model, most) -> None:
        super().__init__(model)
        self.most = most

    def forward(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)


@pytest.mark.parametrize("shortcuts", [EXACT, EARLY_STOP], ids=str)
@pytest.mark.parametrize("attack", [BIM(eps=0.1), CW(c=1.0, steps=10)], ids=str)
def test_on_out_of_memory_batches_are_halved_and_nobody_is_lost(attack, shortcuts, batches_of):
    batches_of(16)
    images, labels = greys(40), torch.zeros(40).long()
    expected = attacked(attack, Threshold(), images, labels, shortcuts)
    model = Small(Threshold(), 5)
    adversarial, classes = streamed(attack, model, images, [40], shortcuts)
    assert torch.equal(adversarial, expected.adversarial)
    assert max(model.attacked) == 4
    assert torch.equal(classes[classes >= 0], predictions(model.model, adversarial[classes >= 0]))


def test_the_call_of_an_attack_halves_batches_too(batches_of):
    batches_of(16)
    images, labels = greys(40), torch.zeros(40).long()
    expected = PGD(eps=0.05)(Threshold(), images, labels, generator=generator())
    found = PGD(eps=0.05)(Small(Threshold(), 7), images, labels, generator=generator())
    assert torch.equal(found, expected)


def test_where_not_even_one_image_fits_the_error_is_passed_on():
    with pytest.raises(torch.OutOfMemoryError):
        PGD(eps=0.05)(Small(Threshold(), 0), greys(4), torch.zeros(4).long())
