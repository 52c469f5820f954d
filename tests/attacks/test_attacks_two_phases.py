"""MD and A3: what their first steps follow, and what they find that plain steps do not."""

import pytest
import torch
from attack_models import case_of
from attack_toys import attacked, generator, linear_model, predictions, random_images
from torch import Tensor, nn

from robustbench_pcl.attacks import A3, MD, PGD
from robustbench_pcl.attacks.base import Chunk, Goal, draw_seeds
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.attacks.two_phases import SCHEDULE, mixed


def state_of(attack, model: nn.Module, images: Tensor, labels: Tensor, targeted: bool = False):
    """What it knows before its first step, and in that one's pass."""
    rows = torch.arange(len(images))
    seeds = draw_seeds(len(images), generator())
    with TargetModel(model) as target:
        state = attack.initialise(target, Chunk(rows, images, Goal(labels, targeted), seeds))
        return state, attack.differentiate(target, state)


def test_md_follows_one_term_and_then_the_margin():
    """Of logits that are linear, each term's gradient is a row of the weights."""
    model, images = linear_model(3, 4), random_images(6, 1, 2, 2)
    labels, weight = predictions(model, images), linear_model(3, 4)[1].weight.detach()
    for term in ("own", "other"):
        attack = MD(steps=10, term=term, restarts=1)
        state, found = state_of(attack, model, images, labels)
        logits = model(state.adversarial).detach()
        others = logits.scatter(1, labels[:, None], -torch.inf).argmax(dim=1)
        expected = -weight[labels] if term == "own" else weight[others]
        assert torch.allclose(found.gradient.flatten(1), expected)
        with TargetModel(model) as target:
            late = attack.differentiate(
                target, state[:].__class__(**{**vars(state), "step": state.step + 5})
            )
        assert torch.allclose(late.gradient.flatten(1), weight[others] - weight[labels])


@pytest.mark.parametrize(("steps", "first"), [(50, 25), (5, 2), (1, 0)])
def test_md_s_steps_fall_twice_from_two_eps(steps, first):
    attack = MD(steps=steps)
    sizes = attack.step_sizes(torch.arange(steps)).tolist()
    assert attack.first_steps == first
    for half in (sizes[:first], sizes[first:]):
        assert half == sorted(half, reverse=True)
        assert half[:1] in ([], [2.0])
    assert min(sizes) > 0


def test_md_has_a_start_for_either_term():
    stages = MD().stages(10)
    assert [(stage.attack.term, stage.seed) for stage in stages] == [("own", 0), ("other", 1)]
    assert [each.attack.term for each in MD(term="other", restarts=3).stages(2)] == [
        *("other", "own", "other")
    ]
    assert all(stage.attack.stages(10)[0].attack == stage.attack for stage in stages)


def test_a3_leads_to_another_class_in_each_start():
    case = case_of("normed_net")
    for start in range(5):
        state, _ = state_of(A3(start=start, restarts=1), case.model, case.images, case.labels)
        aims = state.aims
        assert torch.equal(aims.classes[:, 0], case.labels)
        assert (aims.weights[:, 0] == -0.8).all()
        assert (aims.weights[:, 1 + start % 4] == 0.8).all()
        free = [k for k in range(1, 5) if k != 1 + start % 4]
        assert aims.weights[:, free].abs().max() <= 1
        assert len(aims.weights[:, free].unique()) == 16 * 3
        assert (aims.share == 0).all()
        assert (aims.classes.sort(dim=1).values == torch.arange(5)).all()


def test_a3_s_later_starts_take_fewer_images_and_more_steps():
    stages = A3(steps=15).stages(10)
    assert [stage.share for stage in stages] == [share for share, _ in SCHEDULE]
    assert [stage.attack.steps for stage in stages] == [7 + round(8 * more) for _, more in SCHEDULE]
    assert (
        [stage.seed for stage in stages] == [stage.attack.start for stage in stages] == [*range(10)]
    )
    assert len({stage.title for stage in stages}) == 10
    assert A3(restarts=12).stages(10)[-1].share == SCHEDULE[-1][0]


@pytest.mark.parametrize(("steps", "first", "least"), [(15, 7, 0.1), (67, 7, 0.001), (4, 2, 0.1)])
def test_a3_s_steps_are_of_eps_and_then_fall(steps, first, least):
    sizes = A3(steps=steps).step_sizes(torch.arange(steps)).tolist()
    assert sizes[: first + 1] == [1.0] * (first + 1)
    assert sizes[first:] == sorted(sizes[first:], reverse=True)
    assert least < sizes[-1] < 0.5 if steps > 5 else least < sizes[-1]


def test_a_mixture_is_some_logits_and_the_margin():
    model = nn.Flatten()  # its pixels are its logits
    images = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])[:, None, None]
    aims = state_of(MD(restarts=1), linear_model(3, 3), images.double() / 3, torch.zeros(2).long())
    mixture = aims[0].aims
    values, logits = mixed(model, images, mixture)
    assert values.tolist() == [-3.0, -3.0]
    assert torch.equal(logits, images.flatten(1))


@pytest.mark.parametrize("attack", [MD(eps=0.03), A3(eps=0.03)], ids=lambda attack: attack.name)
def test_they_find_at_least_what_pgd_finds(attack):
    case = case_of("normed_net")
    plain = PGD(eps=0.03, steps=attack.steps, loss="margin")
    withstood = attacked(plain, case.model, case.images, case.labels).robust
    found = attack(case.model, case.images, case.labels)
    robust = predictions(case.model, found) == case.labels
    assert 0 < robust.sum() <= withstood.sum() < 16


@pytest.mark.parametrize("attack", [MD(), A3()], ids=lambda attack: attack.name)
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_on_linear_classifiers_they_reach_the_exact_robust_accuracy(attack, classes):
    model = linear_model(classes, 9)
    images = random_images(60, 1, 3, 3, low=0.4, high=0.6)
    labels = predictions(model, images)
    weight, logits = model[1].weight.detach(), model(images).detach()
    slopes = (weight[labels][:, None] - weight).abs().sum(dim=2)
    distance = (logits.gather(1, labels[:, None]) - logits) / slopes
    nearest = distance.scatter(1, labels[:, None], torch.inf).amin(dim=1)
    eps = nearest.median().item() + 1e-6
    found = predictions(model, attack.changed(eps=eps)(model, images, labels)) != labels
    assert not (found & (nearest > eps)).any()
    assert (found == (nearest < eps)).double().mean() >= (1 if classes == 2 else 0.85)
