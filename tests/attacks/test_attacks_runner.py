"""Images that leave make room: full batches, nobody lost, nobody twice, memory flat."""

from dataclasses import replace

import pytest
import torch
from attack_models import case_of
from attack_toys import (
    EARLY_STOP,
    EVERY,
    WEAK,
    Threshold,
    Watched,
    attacked,
    chunks_of,
    collected,
    greys,
    random_images,
    short,
    streamed,
)

from robustbench_pcl.attacks import BIM, CW, PGD
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel

# Batches


def test_every_pass_is_full_until_no_image_is_left(batches_of):
    batches_of(8)
    images, model = greys(100), Watched(Threshold())
    streamed(BIM(eps=0.1), model, images, [10] * 10)
    full = next(index for index, size in enumerate(model.attacked) if size < 8)
    assert set(model.attacked[:full]) == {8}
    rest = model.attacked[full:]
    assert rest == sorted(rest, reverse=True)  # at the end they only leave
    assert sum(rest) < 0.1 * sum(model.attacked)
    assert sum(model.attacked) < 100 * 10


def test_without_early_stop_every_image_takes_every_step_in_full_passes(batches_of):
    batches_of(8)
    images, model = greys(20), Watched(Threshold())
    _, classes = streamed(BIM(eps=0.1), model, images, [20], EXACT)
    assert model.attacked == [8] * 20 + [4] * 10  # who is together stays so
    assert model.verdicts == []
    assert (classes == -1).all()


def test_an_image_that_leaves_takes_no_further_pass():
    """Steps of 0.01 to a threshold of 0.5: fooled by the first, by the sixth, at once, never."""
    pixels = torch.tensor([0.495, 0.445, 0.7, 0.2], dtype=torch.float64).repeat(3).view(12, 1, 1, 1)
    found = attacked(BIM(eps=0.1), Threshold(), pixels, torch.zeros(12).long(), EARLY_STOP)
    assert found.robust.tolist() == [False, False, False, True] * 3
    steps = (found.adversarial - pixels).flatten() / 0.01
    assert torch.allclose(steps, torch.tensor([1.0, 6.0, 0.0, 10.0]).double().repeat(3))
    # The pass that finds an image adversarial is at most the one that would be its next step.
    assert 3 * (1 + 6 + 1 + 10) <= found.backward_passes <= 3 * (2 + 7 + 1 + 10)
    assert found.forward_passes == found.backward_passes + 12  # a verdict for each
    assert found.classes.tolist() == [1, 1, 1, 0] * 3


def test_what_fools_the_fast_model_gets_its_verdict_in_full_batches(batches_of):
    batches_of(8)
    case = case_of("normed_net")
    model, shortcuts = Watched(case.model), Shortcuts(folded=True, early_stop=True)
    attack = short("pgd", eps=0.3)
    with TargetModel(model, shortcuts) as target:
        chunks = chunks_of(case.images, case.predictions, [16])
        _, classes = collected(attack.stream(target, chunks, 16), case.images)
    assert (classes != case.predictions).sum() >= 12
    assert model.attacked == [8]  # the comparison; all else is passed through the fast model
    assert model.verdicts[0] == 8
    assert sum(size < 8 for size in model.verdicts) <= 2  # the last found, and the last ended
    assert sum(model.verdicts) == 16


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [0, 7, 0, 30, 3, 0]], ids=str)
@pytest.mark.parametrize("attack", EVERY)
def test_nobody_is_lost_and_nobody_comes_twice(attack, sizes, batches_of):
    images, labels = greys(40), torch.zeros(40).long()
    chosen = short(attack, **{"steps": 10, "eps": 0.1, **WEAK.get(attack, {})})
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
            ended += len(found)
            assert sum(drawn) - ended <= 5 * most
            if ended >= 400:
                break
    assert 400 <= sum(drawn) <= 400 + 5 * most + 8


@pytest.mark.parametrize("attack", [BIM(), CW(steps=3)], ids=str)
@pytest.mark.parametrize("sizes", [[], [0], [0, 0]], ids=str)
def test_a_stream_of_nothing_ends(attack, sizes):
    images = random_images(0, 1, 4, 4)
    assert len(streamed(attack, Threshold(), images, sizes)[0]) == 0


# Attacks of one's own


class Brighter(IterativeAttack[State]):
    """Steps towards white, whatever the gradient."""

    name: str = "brighter"
    norm: str = "linf"
    early_stop = True
    steps: int = 10

    def initialise(self, target, chunk):
        return State(chunk, torch.zeros_like(chunk.rows), chunk.images)

    def step(self, target, state):
        labels = state.chunk.goal.labels
        found = target.differentiate(AttackLoss.margin, state.adversarial, labels)
        moved = state.adversarial + 0.01
        return replace(state, adversarial=moved, step=state.step + 1), found


class White(Attack):
    """White images, without a step."""

    name: str = "white"
    norm: str = "linf"

    def perturb(self, target, images, goal, seeds):
        return torch.ones_like(images)


def test_an_attack_that_steps_in_its_own_way_is_run_like_the_others(batches_of):
    """All it says is where it starts and how it steps."""
    images, labels = greys(40), torch.zeros(40).long()
    gradient = attacked(BIM(eps=0.1), Threshold(), images, labels, EARLY_STOP)
    batches_of(7)
    own = attacked(Brighter(), Threshold(), images, labels, EARLY_STOP, sizes=[25, 15])
    assert torch.equal(own.robust, gradient.robust)
    assert torch.allclose(own.adversarial, gradient.adversarial)
    taken = ((own.adversarial - images) / 0.01).round().flatten()
    assert own.backward_passes == torch.where(own.robust, 10, (taken + 1).clamp_max(10)).sum()
    assert own.forward_passes == own.backward_passes + 40


def test_an_attack_without_steps_only_makes_images():
    images, labels = greys(40), torch.zeros(40).long()
    found = attacked(White(), Threshold(), images, labels, EARLY_STOP, sizes=[25, 15])
    assert torch.equal(found.adversarial, torch.ones_like(images))
    assert found.forward_passes == 0
    with pytest.raises(TypeError, match="perturb"):
        Attack(name="nothing")
