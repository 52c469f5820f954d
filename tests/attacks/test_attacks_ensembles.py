"""AutoAttack as published, and the strongest attack: what is in them, and what they find."""

from dataclasses import replace

import pytest
import torch
from attack_models import case_of
from attack_toys import predictions, random_images
from torch import nn

from robustbench_pcl import PGD, AutoAttack, Strongest, evaluate
from robustbench_pcl.errors import InvalidInputError

EPS = 0.04
PUBLISHED = ["apgd", *["apgd-t"] * 9, *["fab"] * 9, "square"]


def names(attack, classes):
    return [stage.attack.name for stage in attack.stages(classes)]


def test_autoattack_is_the_published_one():
    stages = AutoAttack(eps=EPS).stages(10)
    assert [stage.attack.name for stage in stages] == PUBLISHED
    assert {stage.attack.steps for stage in stages[:-1]} == {100}
    assert stages[-1].attack.steps == 5000
    assert {stage.attack.eps for stage in stages} == {EPS}
    assert str(stages[0].attack.loss) == "cross-entropy"
    assert {str(stage.attack.loss) for stage in stages[1:10]} == {"targeted-dlr"}
    assert [stage.attack.rank for stage in stages[1:10]] == list(range(1, 10))
    assert not any(stage.most or stage.after_success or stage.share < 1 for stage in stages)


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 100])
def test_there_are_as_many_targets_as_wrong_classes_but_nine_at_most(classes):
    found = names(AutoAttack(), classes)
    assert found.count("apgd-t") == found.count("fab") == min(classes - 1, 9)


def test_versions():
    plus = AutoAttack(version="plus").stages(10)
    assert [stage.title for stage in plus[:5]] == [f"APGD, start {n} of 5" for n in range(1, 6)]
    assert len({stage.seed for stage in plus[:5]}) == 5
    assert "APGD on dlr, start 1 of 5" in {stage.title for stage in plus}
    rand = AutoAttack(version="rand")
    assert rand.forwards == 20
    assert [stage.attack.forwards for stage in rand.stages(10)] == [20, 20]
    assert AutoAttack.complete(rand.dump()) == rand


def signature(stage):
    return stage.attack.changed(order="logits") if stage.attack.name == "apgd-t" else stage.attack


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_strongest_contains_autoattack_s_apgd_with_its_starts(norm, classes):
    """Only FAB and the whole random search are left to the largest budget."""

    def runs(attack):
        return {(signature(stage), stage.seed) for stage in attack.stages(classes)}

    published = runs(AutoAttack(eps=EPS, norm=norm))
    standard = runs(Strongest(eps=EPS, norm=norm))
    assert {one.name for one, _ in published - standard} == {"fab"}
    assert published <= runs(Strongest(eps=EPS, norm=norm, budget="exhaustive"))


def test_titles_fit_a_bar_and_tell_stages_apart():
    for attack in (AutoAttack(), AutoAttack(version="plus"), Strongest(budget="exhaustive")):
        titles = [stage.title for stage in attack.stages(10)]
        assert len({*titles}) == len(titles)
        assert max(map(len, titles)) <= 40


def test_each_stage_takes_who_is_left():
    case = case_of("normed_net")
    attack = quicker(AutoAttack(eps=EPS), 15)
    found = evaluate(case.model, case.images, case.predictions, attack)
    left = torch.ones(len(case.images), dtype=torch.bool)
    for stage in attack.stages(5)[:3]:
        rows = left.nonzero()[:, 0]
        alone = evaluate(case.model, case.images, case.predictions, stage.attack)
        felled = ~alone.robust & left
        assert {found.felled_by[row] for row in felled.nonzero()[:, 0]} <= {stage.title}
        assert all(
            found.felled_by[row] == stage.title for row in rows.tolist() if not alone.robust[row]
        )
        left &= alone.robust
    assert 0 < left.sum() < len(left)
    assert torch.equal(found.robust, torch.tensor([not title for title in found.felled_by]))


class Scaled(nn.Module):
    """Logits a thousand times as large: cross-entropy has no gradient in float32."""

    def forward(self, logits):
        return 1000 * logits


class Flat(nn.Module):
    """A flat last layer: beyond a small logit there is no slope left in float32."""

    def forward(self, logits):
        return torch.tanh(10 * logits)


class Coarse(nn.Module):
    """Inputs of 24 grey levels; between them there is no slope."""

    def forward(self, images):
        return (images * 24).round() / 24


class Masked(nn.Module):
    """A margin as a saturated loss makes it: 400 times its square beyond a small one."""

    def forward(self, logits):
        return logits + 400 * (logits - 0.2).clamp_min(0) ** 2


def small_net():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 4)
    )
    net[-1].weight.data.mul_(4)
    return net


MASKED = {
    "logits times 1000": nn.Sequential(small_net(), Scaled()),
    "a flat last layer": nn.Sequential(small_net(), Flat()),
    "saturated": nn.Sequential(small_net(), Masked(), Masked()),
}


def on(model, count=48):
    """Images with the model's classes."""
    images = random_images(count, 1, 8, 8).float()
    return model, images, predictions(model, images)


@pytest.mark.parametrize("masked", MASKED)
def test_the_strongest_finds_what_pgd_on_cross_entropy_does_not(masked):
    asked = on(MASKED[masked])
    weak = evaluate(*asked, PGD(eps=0.06)).robust.sum()
    strong = evaluate(*asked, Strongest(eps=0.06, budget="quick")).robust.sum()
    assert strong <= 6
    assert weak >= 12


def test_where_no_gradient_reaches_the_pixels_a_search_goes_on_without():
    asked = on(nn.Sequential(Coarse(), small_net()), 16)
    with pytest.raises(InvalidInputError, match="is 0 in every pixel"):
        evaluate(*asked, PGD(eps=0.06))
    with pytest.raises(InvalidInputError, match="is 0 in every pixel"):
        evaluate(*asked, Strongest(eps=0.06, budget="quick"))
    for attack in (AutoAttack(eps=0.06), Strongest(eps=0.06)):
        with pytest.warns(UserWarning, match="Attacked without gradients"):
            found = evaluate(*asked, quicker(attack, 300))
        assert found.robust.sum() <= 8
        assert found.backward_passes <= 8 * 2  # those that were tried
        assert all(title.startswith(("Square", "")) for title in found.felled_by)


def test_who_cannot_move_takes_no_further_steps():
    """Cross-entropy of huge logits has no gradient at all; --exact goes on all the same."""
    model, images, labels = on(nn.Sequential(small_net(), Scaled(), Scaled()))
    attack = PGD(eps=0.06, steps=50)
    quick = evaluate(model, images, labels, attack)
    exact = evaluate(model, images, labels, attack, exact=True)
    assert torch.equal(quick.robust, exact.robust)
    assert exact.backward_passes >= 50 * len(images)
    assert quick.backward_passes < 10 * len(images)


@pytest.mark.parametrize("kind", [AutoAttack, Strongest], ids=["auto", "strongest"])
@pytest.mark.parametrize("classes", [2, 3, 4, 10, 100])
def test_any_number_of_classes(kind, classes):
    torch.manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    images = random_images(3, 1, 4, 4).float()
    found = evaluate(model, images, predictions(model, images), quicker(kind(eps=0.5), 3))
    assert len(found.felled_by) == 3
    assert not found.robust.any()


@pytest.mark.parametrize("kind", [AutoAttack, Strongest], ids=["auto", "strongest"])
def test_one_image_no_image_and_a_model_that_knows_one_class(kind):
    attack = quicker(kind(eps=EPS), 3)
    model, images, labels = on(small_net(), 1)
    assert evaluate(model, images, labels, attack).table.n.tolist() == [1, 1]
    assert attack(model, images[:0], labels[:0]).shape == (0, 1, 8, 8)
    with pytest.raises(InvalidInputError, match="There are no images"):
        evaluate(model, images[:0], labels[:0], attack)
    model[-1].bias.data += torch.tensor([1e6, 0, 0, 0])
    images = random_images(5, 1, 8, 8).float()
    found = evaluate(model, images, torch.zeros(5, dtype=torch.int64), attack)
    assert found.robust.all()
    assert set(found.felled_by) == {""}
    found = evaluate(model, images, torch.ones(5, dtype=torch.int64), attack)
    assert set(found.felled_by) == {"clean"}


def test_a_randomised_model_is_attacked_by_the_mean_of_passes():
    class Noisy(nn.Module):
        def forward(self, images):
            return images + 0.05 * torch.randn_like(images)

    model, images, labels = on(nn.Sequential(Noisy(), small_net()), 24)
    with pytest.raises(InvalidInputError, match="The model is randomised"):
        evaluate(model, images, labels, AutoAttack(eps=EPS))
    attack = quicker(AutoAttack(eps=0.06, version="rand"), 10)
    found = evaluate(model, images, labels, attack)
    again = evaluate(model, images, labels, attack)
    assert torch.equal(found.robust, again.robust)
    assert found.backward_passes % attack.forwards == 0
    assert (~found.robust & found.clean).any()


def quicker(attack, steps):
    """The same with so few steps at most."""

    class Quicker(type(attack)):
        def sequence(self, classes):
            for stage in super().sequence(classes):
                few = stage.attack.changed(steps=min(stage.attack.steps, steps))
                yield replace(stage, attack=few)

    return Quicker.model_validate(attack.dump())
