"""What is published about trainings and attacks, and what the smaller scales make of it."""

import pytest

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.configuration import SCALES
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import AdversarialTraining, Schedule
from robustbench_pcl.recipes.load import load_attack, load_recipe
from robustbench_pcl.recipes.presets import SIZES


@pytest.mark.parametrize(
    ("dataset", "first", "model"),
    [("mnist", 50, "conv6"), ("fmnist", 50, "conv6")]
    + [(name, 200, "resnet110") for name in ("cifar10", "cifar100", "svhn")],
)
def test_ours_at_paper_scale_is_section_6(dataset, first, model):
    ours = load_recipe("ours", dataset, "paper")
    assert ours.schedule == Schedule(
        epochs=300, batch_size=256, learning_rate=0.1, milestones=(200, 250), decay=0.1
    )
    assert (ours.model, ours.width, ours.train_images) == (model, 1.0, None)
    assert ours.feature_layers == (3, 4, 5)
    assert ours.loss == {"name": "pcl", "separation": 4.0, "weight": 1.0}
    assert ours.start.schedule.epochs == first
    assert ours.start.identity == load_recipe("softmax", dataset, "paper").identity


@pytest.mark.parametrize(
    ("dataset", "interval"), [("mnist", (0.1, 0.5)), ("cifar10", (0.01, 0.05))]
)
def test_adversarial_training_at_paper_scale_is_section_6(dataset, interval):
    for attack, steps, step_size in (("fgsm", 1, 1.0), ("pgd", 10, 0.25)):
        low, high = interval
        assert load_recipe(f"ours-{attack}", dataset, "paper").adversarial_training == (
            AdversarialTraining(
                attack=attack, steps=steps, relative_step_size=step_size, low=low, high=high
            )
        )


@pytest.mark.parametrize("name", ["contrastive", "triplet"])
def test_losses_on_pairs_and_triplets_train_alone_for_400_epochs(name):
    recipe = load_recipe(name, "cifar10", "paper")
    assert (recipe.schedule.epochs, recipe.start, recipe.inference) == (400, None, "nearest")


def test_ours_authors_is_their_published_code():
    recipe = load_recipe("ours-authors", "cifar10", "paper")
    assert recipe.schedule == Schedule(
        epochs=400, batch_size=128, learning_rate=0.01, weight_decay=1e-4, gradient_clip=None
    )
    assert (recipe.model, recipe.start.model) == ("resnet164", "resnet164")
    assert load_recipe("ours-authors", "mnist", "paper").model == "conv6"
    assert load_recipe("ours-authors", "mnist", "quick").schedule.gradient_clip == 1.0


def test_madry_at_paper_scale_is_his_seven_steps_of_a_third_of_the_budget():
    defense = load_recipe("madry", "cifar10", "paper").defense
    assert (defense["eps"], defense["steps"]) == (DATASETS["cifar10"].eps, 7)


@pytest.mark.parametrize("scale", SCALES)
def test_fewer_steps_go_as_far_in_all(scale):
    ours, madry = (load_recipe(name, "cifar10", scale) for name in ("ours-pgd", "madry"))
    training, defense = ours.adversarial_training, madry.defense
    assert training.steps * training.relative_step_size == pytest.approx(2.5)
    assert defense["steps"] * defense["relative_step_size"] == pytest.approx(2.5)


@pytest.mark.parametrize("dataset", DATASETS)
def test_smaller_scales_are_smaller(dataset):
    paper, quick, demo = (load_recipe("ours", dataset, scale) for scale in SCALES)
    assert paper.train_images is None
    assert demo.train_images < quick.train_images
    assert quick.schedule.epochs < paper.schedule.epochs
    if DATASETS[dataset].shape[0] == 3:
        assert (quick.model, quick.width) == ("resnet20", 1.0)
    else:
        assert demo.width < quick.width < paper.width == 1.0


# Attacks


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
@pytest.mark.parametrize("name", list(ATTACKS))
def test_an_attack_is_completed_by_the_data_set_and_the_scale(name, dataset, scale):
    attack, data = load_attack(name, dataset, scale), DATASETS[dataset]
    known = {"c": data.carlini_wagner_c, "eps": data.eps}
    budget = {key: known[key] for key in ATTACKS[name].model_fields if key in known}
    cut = SIZES[scale].attacks.get(name, {})
    assert attack == ATTACKS.configure(name, {**budget, **cut})
    given = {key: value / 2 for key, value in budget.items()}
    given |= {"steps": 7} if "steps" in attack.dump() else {}
    expected = ATTACKS.configure(name, {**budget, **cut, **given})
    assert load_attack(name, dataset, scale, given) == expected != attack
    if scale == "paper":
        assert not cut


def test_numbers_are_typed_so_that_ten_is_one_attack():
    found = [load_attack("cw", "mnist", "quick", {"c": c}) for c in (10, 10.0, "10", "1e1")]
    assert len({str(attack.dump()) for attack in found}) == 1
    assert load_attack("pgd", "mnist", parameters={"eps": "8/255"}).eps == 8 / 255


def test_every_scale_names_parameters_that_attacks_have():
    for scale, sizes in SIZES.items():
        for name in sizes.attacks:
            load_attack(name, "digits", scale)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("pdg", {}, "Did you mean pgd"),
        ("cw", {"eps": 0.1}, "cw has no L-infinity budget"),
        ("pgd", {"epz": 0.1}, "Did you mean eps"),
        ("pgd", {"eps": 8}, "8/255"),
        ("pgd", {"steps": 0}, "steps"),
    ],
)
def test_an_attack_that_cannot_be_made_is_refused(name, parameters, message):
    with pytest.raises(UserError, match=message):
        load_attack(name, "mnist", "quick", parameters)


def test_an_attack_on_an_unknown_data_set_is_refused():
    with pytest.raises(UserError, match="Did you mean mnist"):
        load_attack("pgd", "minst")
