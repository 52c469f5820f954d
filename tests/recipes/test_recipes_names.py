"""Which names recipes have, and that each is complete and distinct."""

import json
import re
import subprocess
import sys

import pytest
import torch

from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.paper.tables import published
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.load import describe, load_recipe
from robustbench_pcl.recipes.presets import (
    PAPER_PRESETS,
    check_recipe,
    is_recipe,
    layers,
    loss_recipe,
    recipe_names,
)
from robustbench_pcl.training.build import build_model

NAMES = [*recipe_names(), "softmax-fgsm", "softmax-pgd", "ours-l45-pgd", "adp-pgd"]
SETTINGS = [("mnist", "paper"), ("cifar10", "quick"), ("digits", "demo")]


def test_recipes_need_no_torch():
    program = """
import sys
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.recipes.presets import recipe_names
from robustbench_pcl.recipes.load import describe, load_attack, load_recipe
for name in recipe_names():
    describe(load_recipe(name, "cifar10", "quick", set={"schedule.epochs": 3}))
for name in ATTACKS:
    load_attack(name, "mnist", "demo")
print(*sorted({"torch", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_complete_and_survives_json(name):
    for dataset, scale in SETTINGS:
        assert_complete(load_recipe(name, dataset, scale, seed=3), name, dataset, scale)


def assert_complete(recipe, name, dataset, scale):
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert json.loads(recipe.model_dump_json()) == recipe.content()
    default = load_recipe("softmax", dataset, scale).model
    assert recipe.name == ("softmax" if name == default else name)
    for one in filter(None, (recipe, recipe.start)):
        assert (one.dataset, one.scale, one.seed) == (dataset, scale, 3)
        assert one.model in MODELS
        milestones = list(one.schedule.milestones)
        assert milestones == sorted(milestones)
        assert all(1 <= milestone <= one.schedule.epochs for milestone in milestones)
        for family, dump in ((LOSSES, one.loss), (DEFENSES, one.defense)):
            assert family.read(dump).dump() == dump
            fields = family[dump["name"]].model_fields
            came_later = {key for key in fields if fields[key].exclude_if is not None}
            assert dump.keys() == fields.keys() - came_later
        assert one.members == DEFENSES[one.defense["name"]].members
    if recipe.start:
        assert recipe.start.name in ("softmax-start", "softmax-start+embedding=2", "softmax-2d")
        network = ("model", "width", "embedding", "train_images")
        assert [getattr(recipe, key) for key in network] == [
            getattr(recipe.start, key) for key in network
        ]
    assert describe(recipe)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_of_a_recipe_can_be_built_and_classifies(name):
    for dataset in ("digits", "cifar10"):
        recipe, shape = load_recipe(name, dataset, "demo"), DATASETS[dataset].shape
        model = build_model(recipe).eval()
        with torch.no_grad():
            _, features = model.classifier.features(torch.zeros(1, *shape))
            logits = model(torch.zeros(2, *shape))
        assert tuple(features) == recipe.feature_layers
        assert logits.shape == (2, 10)


@pytest.mark.parametrize(("dataset", "scale"), SETTINGS)
def test_different_names_are_different_trainings_or_different_answers(dataset, scale):
    # Section 6 gives cross-entropy alone as many epochs as Ours' first phase.
    names = [name for name in PAPER_PRESETS if (name, scale) != ("softmax-start", "paper")]
    recipes = [load_recipe(name, dataset, scale) for name in names]
    assert len({(recipe.id("data"), recipe.inference) for recipe in recipes}) == len(names)


COMPARED = sorted(
    {
        column
        for table in (3, 5, 6, 8, 9, 11)
        for line in (*published(table).columns, *published(table).rows)
        if (column := line.target)
    }
)


@pytest.mark.parametrize("scale", ["quick", "demo"])
@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_recipes_that_are_compared_train_equally_long(dataset, scale):
    recipes = [load_recipe(name, dataset, scale) for name in COMPARED]
    epochs = {
        recipe.name: recipe.schedule.epochs + (recipe.start.schedule.epochs if recipe.start else 0)
        for recipe in recipes
    }
    assert len(epochs) == len(COMPARED)
    assert len(set(epochs.values())) == 1, epochs


@pytest.mark.parametrize(
    ("alias", "own", "dataset"),
    [
        ("resnet110", "softmax", "cifar10"),
        ("conv6", "softmax", "mnist"),
        ("conv6-pgd", "softmax-pgd", "mnist"),
        ("resnet110", "resnet110", "mnist"),
    ],
)
def test_what_means_the_same_has_one_name_and_one_id(alias, own, dataset):
    recipe = load_recipe(alias, dataset, "paper")
    assert recipe == load_recipe(own, dataset, "paper")
    assert recipe.name == own


def test_a_loss_has_a_recipe_by_its_own_or_by_the_papers_name():
    found = {loss: loss_recipe(loss) for loss in LOSSES}
    assert found["cross-entropy"] == "softmax"
    assert found["pcl"] == "ours"
    assert found["pcl-authors"] == "ours-authors"
    for loss, name in found.items():
        assert load_recipe(name, "mnist", "paper").loss["name"] == loss
    with pytest.raises(UserError, match="Did you mean pcl"):
        loss_recipe("plc")


def test_a_recipe_is_made_of_its_bases_layers_and_its_own():
    assert layers("ours-l45") == (*layers("ours"), {"feature_layers": [4, 5]})
    by_rule = {"adversarial_training": "pgd"}
    assert layers("ours-l45-pgd") == (*layers("ours-l45"), by_rule)


@pytest.mark.parametrize("name", [name for name in DEFENSES if name != "none"])
def test_adversarial_training_is_not_added_to_a_defence_that_makes_its_own_images(name):
    if DEFENSES[name].makes_adversarial_images:
        with pytest.raises(UserError, match="trains on adversarial images already"):
            load_recipe(f"{name}-fgsm", "cifar10")
    else:
        against = load_recipe(f"{name}-fgsm", "cifar10").adversarial_training
        assert against == load_recipe("ours-fgsm", "cifar10").adversarial_training


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("ours-pdg", "ours-pgd"),
        ("", None),
        ("ours-", "ours"),
        ("none", None),
        ("cross-entropy", None),
        ("fgsm", None),
        ("-fgsm", None),
        ("ours-pgd-fgsm", "ours-fgsm"),
        ("ours--pgd", "ours-pgd"),
        ("Ours", "ours"),
    ],
)
def test_what_is_no_recipe_is_refused_with_the_nearest_names(name, suggestion):
    assert not is_recipe(name)
    for use in (check_recipe, layers, lambda name: load_recipe(name, "mnist")):
        with pytest.raises(UserError, match=f"no recipe called {re.escape(repr(name))}") as error:
            use(name)
        assert suggestion is None or suggestion in error.value.cure


def test_an_unknown_data_set_is_refused():
    with pytest.raises(UserError, match="Did you mean mnist"):
        load_recipe("ours", "minst")


# Members from outside


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("name", ["cosine", "alone", "smooth", "shallow", "cosine-fgsm"])
def test_a_plugin_is_a_recipe_under_its_own_name(name):
    assert name.removesuffix("-fgsm") in recipe_names()
    recipe = load_recipe(check_recipe(name), "mnist")
    assert recipe.name == name
    expected = {
        "cosine": load_recipe("ours", "mnist", set={"loss": "cosine"}),
        "alone": load_recipe("triplet", "mnist", set={"loss": "alone"}),
        "smooth": load_recipe("softmax", "mnist", set={"defense": "smooth"}),
        "shallow": load_recipe("softmax", "mnist", set={"model": "shallow"}),
        "cosine-fgsm": load_recipe("cosine", "mnist", set={"adversarial_training": "fgsm"}),
    }[name]
    assert recipe.identity == expected.identity


@pytest.mark.usefixtures("plugins")
def test_the_defaults_of_a_plugin_are_part_of_the_id():
    cosine, smooth = (load_recipe(name, "mnist") for name in ("cosine", "smooth"))
    assert cosine.loss == {"name": "cosine", "scale": 1.0}
    assert smooth.defense == {"name": "smooth", "radius": DATASETS["mnist"].eps}


@pytest.mark.parametrize("family", [LOSSES, DEFENSES, MODELS], ids=lambda family: family.kind)
@pytest.mark.parametrize("name", ["vgg19", "triplet", "ours", "ross", "center-fgsm"])
def test_a_name_means_one_thing(family, name):
    if name in family:
        pytest.skip("it is the family's own")
    family.add(name, "recipe_toys:Cosine")
    with pytest.raises(UserError, match=f"'{name}' is the name of two things"):
        check_recipe(name)
