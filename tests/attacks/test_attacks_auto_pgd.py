"""APGD and its targeted form: Algorithm 1, and the exact optimum where it is known."""

import copy
from itertools import pairwise

import pytest
import torch
from attack_models import CLASSES, EPS, MODELS, case_of, clip
from attack_toys import EARLY_STOP, attacked, linear_model, predictions, random_images, some_wrong
from exact_optimum import CASES, margins_on_a_grid, relu_case, relu_net, toy_images
from torch import Tensor, nn

from robustbench_pcl.attacks import A3, APGD, APGDT
from robustbench_pcl.attacks.auto_pgd import periods
from robustbench_pcl.attacks.balls import uniform_noise
from robustbench_pcl.attacks.base import Attack, Chunk, Goal, draw_seeds
from robustbench_pcl.attacks.fast_model import EXACT
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.stages import run_all
from robustbench_pcl.attacks.target import TargetModel

BY_LOGITS = ("cross-entropy", "mifpe", "margin", "dlr", "targeted-dlr")


def felled(attack: Attack, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Boolean (N,): whom the attack fells, in any of its stages; confirmed by the model."""
    seeds = draw_seeds(len(images), torch.Generator().manual_seed(0))
    with TargetModel(model, EARLY_STOP) as target:
        target.classes = target.logits(images[:1]).shape[1]
        outcome = run_all(attack, target, images, Goal(labels), seeds)
    fooled = predictions(model, outcome.images) != labels
    assert torch.equal(torch.from_numpy(outcome.verdicts.felled_by >= 0), fooled)
    return fooled


# Algorithm 1


@pytest.mark.parametrize(
    ("steps", "checkpoints"),
    [(100, [22, 41, 57, 70, 80, 87, 93, 99]), (10, [2, 3, 4, 5, 6, 7, 8, 9]), (1, [])],
)
def test_checkpoints_come_ever_faster(steps, checkpoints):
    """p_1 = 0.22, then max(p_j - p_(j-1) - 0.03, 0.06) more; whole steps, one at least."""
    found = periods(steps)
    assert [step for step, period in enumerate(found) if period] == checkpoints
    assert all(found[b] == b - a for a, b in pairwise([0, *checkpoints]))


def algorithm_1(
    model: nn.Module, image: Tensor, label: Tensor, start: Tensor, *, eps: float, steps: int
) -> Tensor:
    """Croce and Hein's Algorithm 1 on cross-entropy, one image, whose best point is returned."""

    def value(point: Tensor) -> tuple[float, Tensor]:
        leaf = point.clone().requires_grad_(True)
        loss, _ = AttackLoss.cross_entropy(model, leaf[None], label[None])
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        return loss.item(), slope

    size, here, before = 2 * eps, start, start
    values, (f, g) = [], value(start)
    best, f_best, g_best = start, f, g
    checked, halved, due = 0, True, [at for at, period in enumerate(periods(steps)) if period]
    f_checked = f
    for step in range(steps):
        f, g = value(here)
        values.append(f)
        if f > f_best:
            best, f_best, g_best = here, f, g
        if step in due:
            rises = sum(b > a for a, b in pairwise(values[checked : step + 1]))
            poor = rises < 0.75 * (step - checked) or (not halved and f_best <= f_checked)
            if poor:
                size, here, g = size / 2, best, g_best
            checked, halved, f_checked = step, poor, f_best
        z = clip(here + size * g.sign(), image, eps)
        new = 1 if step == 0 else 0.75
        after = clip(here + new * (z - here) + (1 - new) * (here - before), image, eps)
        here, before = after, here
    return best


@pytest.mark.parametrize("name", ["conv_net", "normed_net"])
def test_it_is_algorithm_1_one_image_at_a_time(name):
    """On images that are not fooled; of the others a fooling point is kept before a better one."""
    case, model, steps = case_of(name), MODELS[name]().eval(), 40
    seeds = draw_seeds(16, torch.Generator().manual_seed(0))
    starts = clip(case.images + EPS[name] / 4 * uniform_noise(case.images, seeds), case.images, 1)
    found = attacked(APGD(eps=EPS[name] / 4, steps=steps), model, case.images, case.labels)
    assert found.backward_passes == 16 * steps
    assert found.robust.sum() >= 5
    for row in found.robust.nonzero()[:, 0].tolist():
        expected = algorithm_1(
            *(model, case.images[row], case.labels[row], starts[row]),
            **{"eps": EPS[name] / 4, "steps": steps},
        )
        assert torch.allclose(found.adversarial[row], expected, rtol=0, atol=1e-12), row


def test_without_early_stop_a_fooling_point_is_kept_before_one_of_larger_loss():
    """Cross-entropy can be larger where the label still wins, if two classes share the rest."""
    case = case_of("conv_net")
    every, first = (
        attacked(APGD(eps=0.04, steps=30), case.model, case.images, case.labels, shortcuts)
        for shortcuts in (EARLY_STOP, EXACT)
    )
    assert 0 < every.robust.sum() < 16
    assert torch.equal(every.robust, first.robust)


# Exactness


MEMBERS = {
    **{f"apgd {loss}": APGD(loss=loss, steps=30) for loss in BY_LOGITS},
    "apgd-t": APGDT(steps=30),
    "apgd-t margin malt": APGDT(steps=30, loss="margin", order="malt"),
}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_on_linear_classifiers_the_exact_robust_accuracy_is_reached(name, norm, classes):
    """The boundary to class k is at margin / |w_k - w_y| in the dual norm, off the pixels' ends."""
    model = linear_model(classes, 9)
    images = random_images(120, 1, 3, 3, low=0.4, high=0.6)
    labels = some_wrong(predictions(model, images), classes)
    weight, logits = model[1].weight.detach(), model(images).detach()
    margins = logits.gather(1, labels[:, None]) - logits
    slopes = (weight[labels][:, None] - weight).norm(p=1 if norm == "linf" else 2, dim=2)
    distance = (margins / slopes).scatter(1, labels[:, None], torch.inf).amin(dim=1)
    eps = min(distance.quantile(0.5).item() + 1e-6, 0.39)
    expected = distance < eps
    assert 10 < expected.sum() < 110
    found = felled(MEMBERS[name].changed(norm=norm, eps=eps), model, images, labels)
    assert not (found & ~expected).any()
    if classes == 2 or name.startswith("apgd-t"):
        assert torch.equal(found, expected)
    else:  # they follow the likeliest class, which need not be the nearest
        assert (found == expected).double().mean() > 0.85


@pytest.mark.parametrize(
    "attack",
    [APGD(loss="margin", restarts=10), APGDT(loss="margin", restarts=5), A3()],
    ids=lambda attack: attack.name,
)
def test_on_relu_networks_the_exact_optimum_is_reached_and_never_beaten(attack):
    reached = []
    for inputs, classes in CASES:
        case = relu_case(inputs, classes, eps=0.15)
        found = felled(attack.changed(eps=0.15), case.model, case.images, case.labels)
        assert not (found & ~case.possible)[case.clear].any()
        reached.append((found == case.possible)[case.clear])
    assert torch.cat(reached).double().mean() >= 0.95


def test_on_relu_networks_it_is_so_in_l2_as_well():
    model, eps = relu_net(2, 3, seed=2), 0.15
    images, labels = toy_images(model, 40)
    best = margins_on_a_grid(model, images, labels, eps, 80)
    assert 5 < (best > 0).sum() < 35
    found = felled(APGDT(norm="l2", eps=eps, loss="margin", restarts=3), model, images, labels)
    assert found[best > 0].double().mean() >= 0.95
    assert not found[best < -0.01 * best.abs().max()].any()  # between the grid's points


# Targets


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 100])
def test_there_is_a_stage_for_each_of_nine_classes_or_of_all_there_are(classes):
    model = linear_model(classes, 16)
    images = random_images(2, 1, 4, 4)
    labels = predictions(model, images)
    attack = APGDT(eps=0.001, steps=3)
    stages = attack.stages(classes)
    assert [stage.attack.rank for stage in stages] == list(range(1, min(9, classes - 1) + 1))
    assert len({stage.title for stage in stages}) == len(stages)
    assert not felled(attack, model, images, labels).any()


def test_restarts_come_after_all_classes():
    stages = APGDT(restarts=2, targets=3).stages(10)
    assert [(stage.attack.rank, stage.seed) for stage in stages] == [
        *((rank, 0) for rank in (1, 2, 3)),
        *((rank, 1) for rank in (1, 2, 3)),
    ]
    assert all(stage.attack.stages(10) == (stage,) for stage in APGDT().stages(2))


def test_a_class_is_attacked_alike_whichever_rank_it_has():
    """So that MALT's order changes only how soon an image is fooled."""
    case = case_of("normed_net")
    made = {}
    for order in ("logits", "malt"):
        with TargetModel(case.model) as target:
            seeds = draw_seeds(16, torch.Generator().manual_seed(0))
            for rank in range(1, CLASSES):
                attack = APGDT(eps=0.02, steps=8, order=order, rank=rank)
                found = attack.perturb(target, case.images, Goal(case.labels), seeds)
                (ranking,) = {key[0] for key in target.rankings}
                for key, classes in target.rankings.items():
                    made.setdefault(order, {})[key[1:], classes[rank - 1].item()] = found
                assert ranking.order == order
    assert made["logits"].keys() == made["malt"].keys()
    rows = {key: row for row, key in enumerate(dict.fromkeys(key for key, _ in made["malt"]))}
    assert all(
        torch.equal(made["logits"][key, k][rows[key]], image[rows[key]])
        for (key, k), image in made["malt"].items()
    )


def test_a_target_of_the_user_s_is_the_one_that_is_attacked():
    case = case_of("normed_net")
    targets = (case.predictions + 1) % CLASSES
    attack, rows = APGDT(eps=0.3, steps=40, rank=3), torch.arange(16)
    found = attack(case.model, case.images, case.labels, targets=targets)
    reached = predictions(case.model, found) == targets
    assert reached.sum() >= 5
    with TargetModel(case.model) as target:
        chunk = Chunk(rows, case.images, Goal(targets, targeted=True), rows)
        pairs = attack.initialise(target, chunk).aims
    assert torch.equal(pairs, torch.stack([case.predictions, targets], dim=1))


@pytest.mark.parametrize("loss", ["mifpe", "margin", "dlr", "targeted-dlr"])
def test_logits_a_thousand_times_as_large_hide_nothing_from_it(loss):
    """Cross-entropy, in float32, has no gradient there."""
    case = case_of("normed_net")
    model = copy.deepcopy(case.model).float()
    images, labels = case.images.float(), case.predictions

    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images):
            return 1000 * self.model(images)

    blinded = felled(APGD(eps=0.05, steps=20), Loud(), images, labels).sum()
    plain, loud = (
        felled(APGD(eps=0.05, steps=20, loss=loss), each, images, labels).sum()
        for each in (model, Loud())
    )
    assert blinded + 3 < loud
    assert abs(plain - loud) <= 1
