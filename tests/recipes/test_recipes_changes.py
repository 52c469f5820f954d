"""Changes to a recipe: every field can be reached, and names say what was changed."""

import re

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import Recipe, Schedule
from robustbench_pcl.recipes.load import load_recipe, trained_with
from robustbench_pcl.recipes.presets import PAPER_PRESETS

CHANGES = {
    "model": ("resnet20", "resnet20", "ours+model=resnet20"),
    "width": ("0.5", 0.5, "ours+width=0.5"),
    "embedding": ("2", 2, "ours-2d"),
    "feature_layers": ("10,12,10", [10, 12], "ours+feature_layers=10,12"),
    "inference": ("nearest", "nearest", "ours-nearest"),
    "train_images": ("500", 500, "ours+train_images=500"),
    "loss.weight": ("2", 2.0, "ours+loss.weight=2"),
    "loss.name": ("center", "center", "center"),
    "defense.name": ("ross", "ross", "ours+defense=ross"),
    "adversarial_training.attack": ("pgd", "pgd", "ours-pgd"),
    "schedule.epochs": ("30", 30, "ours+schedule.epochs=30"),
    "schedule.batch_size": ("128", 128, "ours+schedule.batch_size=128"),
    "schedule.learning_rate": ("0.05", 0.05, "ours+schedule.learning_rate=0.05"),
    "schedule.milestones": ("100,200", [100, 200], "ours+schedule.milestones=100,200"),
    "schedule.decay": ("0.5", 0.5, "ours+schedule.decay=0.5"),
    "schedule.momentum": ("0", 0.0, "ours+schedule.momentum=0"),
    "schedule.weight_decay": ("1e-4", 1e-4, "ours+schedule.weight_decay=0.0001"),
    "schedule.prototype_learning_rate": ("1", 1.0, "ours+schedule.prototype_learning_rate=1"),
    "schedule.gradient_clip": ("none", None, "ours+schedule.gradient_clip=none"),
    "schedule.precision": ("float32", "float32", "ours+schedule.precision=float32"),
    "start.schedule.epochs": ("9", 9, "ours+start.schedule.epochs=9"),
}
"""Path -> value as typed, value in the recipe, name of the recipe."""
DECIDED_ELSEWHERE = ("name", "scale", "dataset", "seed", "members", "start")


def at(recipe, path):
    value = recipe.content()
    for key in path.split("."):
        value = value[key]
    return value


def test_every_field_of_a_recipe_is_in_the_list():
    paths = [path.partition(".")[0] for path in CHANGES]
    assert set(paths) | set(DECIDED_ELSEWHERE) == set(Recipe.model_fields)
    assert {f"schedule.{key}" for key in Schedule.model_fields} <= set(CHANGES)


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_reaches_its_field_and_no_other(path):
    text, value, name = CHANGES[path]
    ours, found = (load_recipe("ours", "cifar10", "paper", set=set_) for set_ in ({}, {path: text}))
    assert at(found, path) == value
    assert type(at(found, path)) is type(value)
    assert found == load_recipe("ours", "cifar10", "paper", set={path: value})
    assert found.name == name
    assert found.id("data") != ours.id("data") or path == "inference"
    apart = {key for key in Recipe.model_fields if getattr(found, key) != getattr(ours, key)}
    field = path.partition(".")[0]
    shared = {"start"} if field in ("model", "width", "embedding", "train_images") else set()
    assert apart - {"name"} == {field} | shared


@pytest.mark.parametrize("path", [path for path in CHANGES if not path.startswith("adv")])
def test_a_change_to_what_is_so_already_changes_nothing(path):
    ours = load_recipe("ours", "cifar10", "paper")
    assert load_recipe("ours", "cifar10", "paper", set={path: at(ours, path)}) == ours


def test_decays_keep_their_place_unless_they_are_changed_too():
    ours = load_recipe("ours", "cifar10", "paper")
    shorter = load_recipe("ours", "cifar10", "paper", set={"schedule.epochs": 30})
    assert shorter.schedule == ours.schedule.changed(epochs=30, milestones=(20, 25))
    one = load_recipe("ours", "cifar10", "paper", set={"schedule.epochs": 1})
    assert one.schedule.milestones == (1, 1)
    both = {"schedule.epochs": 30, "schedule.milestones": (29,)}
    assert load_recipe("ours", "cifar10", "paper", set=both).schedule.milestones == (29,)


def test_the_recipe_it_starts_from_has_the_same_network_data_and_seed():
    changes = {"model": "resnet20", "embedding": 3, "train_images": 100}
    recipe = load_recipe("ours", "cifar10", "quick", 7, set=changes)
    for one in (recipe, recipe.start):
        assert (one.model, one.embedding, one.train_images, one.seed) == ("resnet20", 3, 100, 7)
    assert recipe.start.schedule == load_recipe("softmax-start", "cifar10", "quick").schedule
    named = load_recipe("softmax-start", "cifar10", "quick", 7, set=changes)
    assert recipe.start.identity == named.identity


def test_what_a_recipe_starts_from_can_be_another_or_nothing():
    fresh = load_recipe("ours", "mnist", "paper", set={"start": "none"})
    assert (fresh.start, fresh.name) == (None, "ours+start=none")
    other = load_recipe("ours", "mnist", set={"start": "madry", "start.schedule.epochs": 3})
    assert other.start.defense["name"] == "madry"
    assert other.start.schedule.epochs == 3


def test_another_member_begins_with_its_own_defaults():
    weighted = {"loss": "center", "loss.alpha": "0.2"}
    assert load_recipe("ours", "mnist", set=weighted).loss == {
        "name": "center",
        "alpha": 0.2,
        "weight": 0.003,
    }
    pgd = load_recipe("ours-fgsm", "mnist", "paper", set={"adversarial_training": "pgd"})
    assert pgd == load_recipe("ours-pgd", "mnist", "paper")
    clean = load_recipe("ours-fgsm", "mnist", set={"adversarial_training": "none"})
    assert clean == load_recipe("ours", "mnist")


@pytest.mark.parametrize("name", ["ours-pgd", "madry"])
def test_more_attack_steps_are_smaller_unless_their_size_is_given(name):
    field = "defense" if name == "madry" else "adversarial_training"
    for changes, size in (({}, 0.25), ({f"{field}.relative_step_size": "0.1"}, 0.1)):
        recipe = load_recipe(name, "mnist", set={f"{field}.steps": "10", **changes})
        assert at(recipe, f"{field}.steps") == 10
        assert at(recipe, f"{field}.relative_step_size") == size


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"feature_layers": "4,5", "adversarial_training": "pgd"}, "ours-l45-pgd"),
        ({"adversarial_training": "bim"}, "ours+adversarial_training=bim"),
        (
            {"schedule.precision": "float32", "start.schedule.precision": "float32"},
            "ours+schedule.precision=float32",
        ),
        ({"schedule.epochs": 300}, "ours"),
        ({"loss.weight": 1, "feature_layers": [3, 4]}, "ours+feature_layers=3,4"),
        (
            {"adversarial_training": "bim", "adversarial_training.high": "8/255", "width": 0.1},
            r"ours\+[0-9a-f]{12}",
        ),
    ],
)
def test_a_changed_recipe_is_called_after_what_it_means_or_what_was_changed(changes, name):
    recipe = load_recipe("ours", "cifar10", "paper", 1, set=changes)
    assert re.fullmatch(name, recipe.name) or recipe.name == name
    again = load_recipe("ours", "cifar10", "paper", 1, set=dict(reversed(changes.items())))
    assert again == recipe
    assert len(recipe.name) <= 80
    assert not set(recipe.name) & set('<>:"/\\|?* ')


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, "no field of a recipe called 'epochs'"),
        ({"base": "center"}, "no field of a recipe called 'base'"),
        ({"name": "mine"}, "no field of a recipe called 'name'"),
        ({"dataset": "mnist"}, "no field of a recipe called 'dataset'"),
        ({"shedule.epochs": 3}, "Did you mean schedule"),
        ({"schedule.epoch": 3}, "Did you mean epochs"),
        ({"schedule.epochs": 0}, "epochs"),
        ({"schedule.epochs": "many"}, "epochs"),
        ({"schedule.epochs": True}, "truth value"),
        ({"schedule.batch_size": 1}, "batch_size"),
        ({"schedule.learning_rate": "inf"}, "learning_rate"),
        ({"schedule.precision": "float16"}, "precision"),
        ({"loss.weihgt": 1}, "Did you mean weight"),
        ({"loss": "plc"}, "Did you mean pcl"),
        ({"loss": "cross-entropy"}, "does not act on layers"),
        ({"loss": "triplet"}, "no final layer"),
        ({"loss": "deep-softmax", "inference": "nearest"}, "no points"),
        ({"feature_layers": ""}, "acts on no layer"),
        ({"feature_layers": "3;4"}, "feature_layers"),
        ({"adversarial_training": "pdg"}, "Did you mean pgd"),
        ({"adversarial_training": "cw"}, "no L-infinity budget"),
        ({"adversarial_training.steps": 3}, "needs an attack"),
        ({"adversarial_training": "pgd", "adversarial_training.stpes": 3}, "Did you mean steps"),
        ({"adversarial_training": "pgd", "adversarial_training.low": 0.4}, "above high"),
        ({"adversarial_training": "pgd", "adversarial_training.high": 8}, "8/255"),
        ({"defense": "madry", "adversarial_training": "pgd"}, "adversarial images already"),
        ({"schedule": 3}, "not a table"),
        ({"schedule": 3, "schedule.epochs": 3}, "different things"),
    ],
    ids=str,
)
def test_a_wrong_change_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        load_recipe("ours", "cifar10", "paper", set=changes)


# The options of pclbench train


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("softmax", {}),
        ("ours", {"loss": "pcl"}),
        ("ours", {"loss": "pcl", "layers": (5, 3, 4)}),
        ("ours-l45", {"loss": "pcl", "layers": (5, 4, 5)}),
        *((f"ours-l{layer}", {"loss": "pcl", "layers": (layer,)}) for layer in range(1, 6)),
        ("ours-fgsm", {"loss": "pcl", "adv_train": "fgsm"}),
        ("ours-pgd", {"loss": "pcl", "adv_train": "pgd"}),
        ("ours-l45-pgd", {"loss": "pcl", "layers": (4, 5), "adv_train": "pgd"}),
        ("softmax-pgd", {"adv_train": "pgd"}),
        ("ours-authors", {"loss": "pcl-authors", "layers": (4, 5)}),
        ("ross-fgsm", {"base": "ross", "adv_train": "fgsm"}),
        *((name, {"base": name}) for name in PAPER_PRESETS),
    ],
    ids=str,
)
def test_options_that_describe_a_named_recipe_give_it(name, options):
    for dataset in ("mnist", "cifar10"):
        named = load_recipe(name, dataset, "paper", 3)
        assert trained_with(dataset, "paper", 3, **options) == named


def test_other_options_make_other_recipes():
    other = trained_with("cifar10", loss="pcl", layers=(10, 12), epochs=3, learning_rate=0.2)
    assert other.name == "ours+feature_layers=10,12,schedule.epochs=3,schedule.learning_rate=0.2"
    exact = trained_with("cifar10", "paper", loss="pcl", precision="float32")
    assert (exact.name, exact.start.name) == (
        "ours+schedule.precision=float32",
        "softmax-start+schedule.precision=float32",
    )
    assert trained_with("cifar10", "paper", loss="pcl", precision="mixed").name == "ours"
    weighted = trained_with("cifar10", loss="pcl", set={"loss.weight": "0.5"})
    assert weighted.loss["weight"] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "plc"}, "Did you mean pcl"),
        ({"layers": (4, 5)}, "does not act on layers"),
        ({"adv_train": "pdg"}, "Did you mean pgd"),
        ({"base": "ours", "loss": "pcl"}, "already says its loss"),
        ({"loss": "pcl", "set": {"loss": "center"}}, "--loss and --set loss"),
        ({"loss": "pcl", "set": {"loss.name": "center"}}, "--loss and --set loss"),
        ({"epochs": 3, "set": {"schedule.epochs": 4}}, "--epochs and --set schedule.epochs"),
        ({"adv_train": "pgd", "set": {"adversarial_training": "fgsm"}}, "--adv-train and --set"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_or_mean_nothing_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        trained_with("mnist", **options)
