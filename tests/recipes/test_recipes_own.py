"""A user's recipes: names like any other, from a TOML file in the form of the presets."""

import tomllib

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.recipes.presets import (
    add_recipes,
    check_recipe,
    is_recipe,
    load_recipes,
    recipe_names,
)

OWN = """
[heavy]
base = "ours"
loss.weight = 2
feature_layers = [10, 12]
schedule = { epochs = 30, gradient_clip = "none" }
at.demo.schedule.epochs = 3

[heavier]
base = "heavy"
loss.weight = 4
start.schedule.epochs = 5

[shallow]
model = "resnet20"
defense = { name = "madry", steps = 5 }
"""


def test_a_file_of_recipes_gives_names_like_any_other(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    load_recipes(path)
    load_recipes(path)  # once more changes nothing
    assert recipe_names().count("heavy") == 1
    heavy, ours = (load_recipe(name, "cifar10", "paper") for name in ("heavy", "ours"))
    assert heavy.name == "heavy"
    assert (heavy.loss["weight"], heavy.feature_layers) == (2.0, (10, 12))
    assert (heavy.schedule.epochs, heavy.schedule.milestones) == (30, (20, 25))
    assert heavy.schedule.gradient_clip is None
    assert heavy.start == ours.start
    assert load_recipe("heavy", "digits", "demo").schedule.epochs == 3
    heavier = load_recipe("heavier", "cifar10", "paper")
    assert heavier.schedule == heavy.schedule
    assert heavier.loss["weight"] == 4
    assert (heavier.start.schedule.epochs, heavier.start.name) == (
        5,
        "softmax-start+schedule.epochs=5",
    )
    shallow = load_recipe("shallow", "cifar10", "paper")
    assert (shallow.model, shallow.loss["name"]) == ("resnet20", "cross-entropy")
    assert (shallow.defense["steps"], shallow.defense["relative_step_size"]) == (5, 0.5)
    assert load_recipe("heavy-pgd", "mnist").adversarial_training.attack == "pgd"


def test_a_recipe_of_ones_own_that_is_the_papers_has_the_papers_name():
    add_recipes({"mine": {"base": "ours", "feature_layers": [4, 5]}}, "mine.toml")
    assert load_recipe("mine", "mnist").name == "ours-l45"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "mine.toml is not TOML"),
        ("epochs = 3", "epochs is not a table"),
        ("[ours]", "another recipe"),
        ("[ours-l45-pgd]", "another recipe"),
        ("[madry]", "another recipe"),
        ("[Mine]", "No recipe can be called 'Mine'.*: mine."),
        ('[mine]\nbase = "uors"', "mine.toml: There is no recipe called 'uors'.*Did you mean ours"),
        ('[mine]\nstart = "sofmax"', "Did you mean softmax"),
        ('[a]\nbase = "b"\n[b]\nbase = "a"', "are based on each other"),
        ('[a]\nstart = "a"', "based on each other"),
    ],
    ids=repr,
)
def test_a_file_that_cannot_be_used_is_refused_as_a_whole(text, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[fine]\n" + text if text.startswith("[") and len(text) > 1 else text)
    before = recipe_names()
    with pytest.raises(UserError, match=message):
        load_recipes(path)
    assert recipe_names() == before
    assert not is_recipe("fine")


def test_a_file_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read .*mine\.toml: there is no such file"):
        load_recipes(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("epochs = 3", "no field of a recipe called 'epochs'"),
        ('name = "ours"', "no field of a recipe called 'name'"),
        ("schedule = 3", "schedule is not a table"),
        ('length = "long"', "no length called 'long'"),
        ("loss = 3", "loss is not a table"),
        ('loss = "plc"', "no loss called 'plc'"),
        ("defense.eps = 0.1", "no parameter of none called 'eps'"),
        ("start.schedule.epochs = 1", "starts from fresh weights"),
        ("adversarial_training.steps = 3", "needs an attack"),
        ("width = 2", "mine: width"),
        ("at.small.width = 0.5", "no scale called 'small'"),
    ],
)
def test_a_recipe_that_says_something_wrong_is_refused_where_it_is_used(table, message):
    add_recipes({"mine": tomllib.loads(table)}, "mine.toml")
    check_recipe("mine")
    with pytest.raises(UserError, match=message):
        load_recipe("mine", "mnist")
    assert load_recipe("ours", "mnist", set={"feature_layers": "4"}).name == "ours-l4"
