"""The recipes by name: every one, on every data set, at every scale."""

import inspect
import itertools

import pytest
import torch

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.data.catalogue import DATASETS
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.defenses.adversarial_training import build_adversarial_training
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipes.named import (
    composed_recipe,
    is_recipe,
    layers_suffix,
    named_recipe,
    recipe_names,
    with_seed,
)
from robustbench_pcl.recipes.scales import SIZES, at_scale
from robustbench_pcl.registry import build
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.names import SCALES
from robustbench_pcl.specs.recipe import Recipe, Schedule
from robustbench_pcl.store.records import ModelRecord
from robustbench_pcl.training.assemble import as_trained, build_model

NAMES = [*recipe_names(), "softmax-2d", "ours-l5", "ross-fgsm", "adp-pgd", "center-nearest"]
EVERY = list(itertools.product(NAMES, DATASETS, SCALES))
SETTINGS = list(itertools.product(DATASETS, SCALES))
GREY = [name for name, spec in DATASETS.items() if spec.shape[0] == 1]
COLOUR = [name for name in DATASETS if name not in GREY]


@pytest.mark.parametrize(("name", "dataset", "scale"), EVERY)
def test_it_is_valid_and_survives_json(name, dataset, scale):
    recipe = named_recipe(name, dataset, scale)
    default = named_recipe("softmax", dataset, scale).model
    own = "softmax" if name == default else name  # softmax is not called after its model
    assert (recipe.name, recipe.dataset, recipe.scale) == (own, dataset, scale)
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    assert again.id("data") == recipe.id("data")
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    for part in (recipe, *([recipe.start] if recipe.start else [])):
        milestones = part.schedule.milestones
        assert list(milestones) == sorted(milestones)
        assert all(1 <= milestone <= part.schedule.epochs for milestone in milestones)


@pytest.mark.parametrize(("name", "dataset", "scale"), EVERY)
def test_what_it_names_exists_and_takes_its_parameters(name, dataset, scale):
    recipe = named_recipe(name, dataset, scale)
    assert recipe.model in MODELS
    assert recipe.members == build(DEFENSES, recipe.defense).members
    if recipe.adversarial_training:
        build_adversarial_training(recipe.adversarial_training)
    if recipe.loss.name == CROSS_ENTROPY:
        assert recipe.taps == ()
        assert recipe.start is None
    else:
        loss = build(LOSSES, recipe.loss, 8, 3)
        assert recipe.taps
        if loss.with_cross_entropy:
            assert recipe.start.name == "softmax"
            assert (recipe.start.model, recipe.start.width) == (recipe.model, recipe.width)
        else:
            assert recipe.inference == "nearest"


@pytest.mark.parametrize("name", NAMES)
def test_its_model_can_be_built_and_classifies(name):
    for dataset in ("digits", "cifar10"):
        recipe, spec = named_recipe(name, dataset, "demo"), DATASETS[dataset]
        model = build_model(recipe).eval()
        with torch.no_grad():
            _, features = model.classifier.features(torch.zeros(1, *spec.shape))
            logits = model(torch.zeros(2, *spec.shape))
        assert tuple(features) == recipe.taps
        assert logits.shape == (2, 10)


@pytest.mark.parametrize(("dataset", "scale"), SETTINGS)
def test_different_names_are_different_trainings(dataset, scale):
    recipes = [named_recipe(name, dataset, scale) for name in NAMES]
    trained = {recipe.name: recipe for recipe in map(as_trained, recipes)}
    assert len({recipe.id("data") for recipe in trained.values()}) == len(trained)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("softmax-ross", "ross"),
        ("softmax-ross-fgsm", "ross-fgsm"),
        ("softmax-fgsm", "softmax-fgsm"),
        ("ours-l345", "ours"),
        ("ours-l345-pgd", "ours-pgd"),
        ("triplet-nearest", "triplet"),
        ("conv6", "softmax"),
        ("conv6-pgd", "softmax-pgd"),
    ],
)
def test_the_same_thing_has_one_name(name, own):
    assert named_recipe(name, "mnist", "paper") == named_recipe(own, "mnist", "paper")
    assert named_recipe(name, "mnist", "paper").name == own


@pytest.mark.parametrize("name", NAMES)
def test_no_parameter_is_left_to_a_default_that_may_change(name):
    recipe = named_recipe(name, "cifar10", "quick")
    for part, given, made in (
        (recipe.loss, 2, LOSSES[recipe.loss.name]),
        (recipe.defense, 0, DEFENSES[recipe.defense.name]),
    ):
        known = list(inspect.signature(made).parameters.values())[given:]
        if part.name != CROSS_ENTROPY:
            assert set(part.parameters) == {parameter.name for parameter in known}
    if recipe.loss.name != CROSS_ENTROPY:
        known = inspect.signature(LOSSES[recipe.loss.name]).parameters
        for key, value in recipe.loss.parameters.items():
            assert value == known[key].default


@pytest.mark.parametrize("name", NAMES)
def test_the_rule_that_training_goes_by_is_the_loss_s(name):
    recipe = as_trained(named_recipe(name, "mnist", "demo"))
    assert not recipe.name.endswith("-nearest")
    with_layer = LOSSES[recipe.loss.name].with_cross_entropy
    assert recipe.inference == ("softmax" if with_layer else "nearest")
    assert recipe == named_recipe(recipe.name, "mnist", "demo")


@pytest.mark.parametrize("name", ["ours", "center", "ours-authors", "ours-pgd"])
def test_how_a_class_is_decided_changes_no_weights(name):
    recipe, nearest = (named_recipe(n, "mnist", "paper") for n in (name, f"{name}-nearest"))
    assert (recipe.inference, nearest.inference) == ("softmax", "nearest")
    assert recipe.id("data") == nearest.id("data")
    records = [
        ModelRecord(checkpoint="c", weights="w", recipe=which) for which in (recipe, nearest)
    ]
    assert records[0].key != records[1].key


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_also_the_start_s(name):
    one, other = (named_recipe(name, "mnist", "quick", seed) for seed in (1, 2))
    assert (one.seed, other.seed) == (1, 2)
    assert one.id("data") != other.id("data")
    assert with_seed(one, 2) == other
    if one.start:
        assert one.start.seed == 1


def test_unknown_names():
    with pytest.raises(UserError, match="Did you mean ours-pgd"):
        named_recipe("ours-pdg", "mnist", "quick")
    with pytest.raises(UserError, match="Did you mean mnist"):
        named_recipe("ours", "minst", "quick")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-",
        "ours-",
        "none",
        "softmax-none",
        "nearest",
        "fgsm",
        "ours-l",
        "ours-ours",
        "ours-pgd-l45",  # a recipe has one name
        "ours-pgd-fgsm",
        "ours-ross-yu",
        "ours--pgd",
        "ours-nearest-pgd",
        "ours-l54",
        "ours-l44",
    ],
)
def test_what_is_no_recipe(name):
    assert not is_recipe(name)
    with pytest.raises(UserError, match="recipe"):
        named_recipe(name, "mnist", "quick")


@pytest.mark.parametrize("family", [LOSSES, MODELS, DEFENSES, ATTACKS], ids=lambda f: f.kind)
@pytest.mark.parametrize("name", ["vgg19", "triplet", "ours", "nearest", "ross", "pgd"])
def test_a_word_means_one_thing(family, name, monkeypatch):
    monkeypatch.setattr(family, "_members", dict(family._members))
    if name in family:
        pytest.skip("it is the family's own")
    family.add(name, "somewhere:Something")
    with pytest.raises(UserError, match=f"'{name}' is the name of two things"):
        named_recipe("ours", "mnist", "quick")


def test_a_name_says_what_is_changed():
    plain, changed = (
        named_recipe(name, "mnist", "paper") for name in ("ours", "ours-2d-l45-ross-pgd-nearest")
    )
    assert is_recipe(changed.name)
    assert (changed.embedding, changed.start.embedding) == (2, 2)
    assert changed.taps == (4, 5)
    assert changed.defense.name == "ross"
    assert changed.adversarial_training.name == "pgd"
    assert changed.inference == "nearest"
    unchanged = {"model", "width", "loss", "schedule", "dataset", "members", "train_images"}
    assert changed.content(set(Recipe.model_fields) - unchanged) == plain.content(
        set(Recipe.model_fields) - unchanged
    )
    assert named_recipe("ross", "mnist", "paper").start is None


@pytest.mark.parametrize("name", [name for name in DEFENSES if name != "none"])
def test_a_defence_s_name_is_a_recipe(name):
    recipe, spec = named_recipe(name, "cifar10", "quick"), DATASETS["cifar10"]
    assert recipe.defense.name == name
    settings = DEFENSES[name].settings(spec, SIZES["quick"].pgd_steps[1])
    assert settings.items() <= recipe.defense.parameters.items()
    if DEFENSES[name].crafts:
        with pytest.raises(UserError, match="trains on adversarial images already"):
            named_recipe(f"{name}-fgsm", "cifar10", "quick")
    else:
        against = named_recipe(f"{name}-fgsm", "cifar10", "quick").adversarial_training
        assert against == named_recipe("ours-fgsm", "cifar10", "quick").adversarial_training


@pytest.mark.parametrize("name", ["softmax-l45", "vgg19-l3"])
def test_layers_need_a_loss_that_acts_on_them(name):
    with pytest.raises(UserError, match="no loss that acts on layers"):
        named_recipe(name, "mnist", "quick")


@pytest.mark.parametrize(
    ("family", "name"),
    [(DEFENSES, "l2"), (ATTACKS, "l45"), (MODELS, "ours-pgd"), (LOSSES, "triplet-l3")],
)
def test_a_plugin_cannot_take_a_name_that_is_composed_already(family, name, monkeypatch):
    monkeypatch.setattr(family, "_members", {**family._members, name: "somewhere:Something"})
    with pytest.raises(UserError, match=f"'{name}' is the name of two things"):
        named_recipe("softmax", "mnist", "quick")


# As published


@pytest.mark.parametrize(
    ("dataset", "first", "model"),
    [("mnist", 50, "conv6"), ("fmnist", 50, "conv6")]
    + [(name, 200, "resnet110") for name in ("cifar10", "cifar100", "svhn")],
)
def test_ours_at_paper_scale_is_section_6(dataset, first, model):
    ours = named_recipe("ours", dataset, "paper")
    assert ours.schedule == Schedule(
        epochs=300, batch_size=256, learning_rate=0.1, milestones=(200, 250), decay=0.1
    )
    assert (ours.model, ours.width, ours.train_images) == (model, 1.0, None)
    pcl = Part(name="pcl", parameters={"separation": 4.0, "weight": 1.0})
    assert (ours.taps, ours.loss) == ((3, 4, 5), pcl)
    assert ours.start.schedule.epochs == first
    assert ours.start == named_recipe("softmax", dataset, "paper")


@pytest.mark.parametrize(
    ("dataset", "interval"), [("mnist", (0.1, 0.5)), ("cifar10", (0.01, 0.05))]
)
def test_adversarial_training_at_paper_scale_is_section_6(dataset, interval):
    for attack, steps, step_size in (("fgsm", 1, 1.0), ("pgd", 10, 0.25)):
        part = named_recipe(f"ours-{attack}", dataset, "paper").adversarial_training
        parameters = part.parameters
        assert part.name == attack
        assert (parameters["low"], parameters["high"]) == interval
        assert (parameters["steps"], parameters["relative_step_size"]) == (steps, step_size)


@pytest.mark.parametrize("scale", SCALES)
def test_fewer_steps_walk_as_far_in_all(scale):
    ours, madry = (named_recipe(name, "cifar10", scale) for name in ("ours-pgd", "madry"))
    for part in (ours.adversarial_training, madry.defense):
        parameters = part.parameters
        assert parameters["steps"] * parameters["relative_step_size"] == pytest.approx(2.5)


def test_smaller_scales_are_smaller():
    for dataset in DATASETS:
        paper, quick, demo = (named_recipe("ours", dataset, scale) for scale in SCALES)
        assert paper.train_images is None
        assert demo.train_images < quick.train_images
        assert quick.schedule.epochs < paper.schedule.epochs
    assert {named_recipe("ours", name, "quick").model for name in COLOUR} == {"resnet20"}
    assert {named_recipe("ours", name, "quick").width for name in GREY} == {0.5}


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize("scale", SCALES)
def test_attacks_at_a_scale(name, scale):
    part = at_scale(Part(name=name), scale)
    build(ATTACKS, part)
    if scale == "paper":
        assert part.parameters == {}
    for key in part.parameters:
        assert at_scale(Part(name=name, parameters={key: 3}), scale).parameters[key] == 3
    assert set(SIZES) == set(SCALES)


# Composed of flags


@pytest.mark.parametrize(("dataset", "scale"), SETTINGS)
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("softmax", {}),
        ("ours", {"loss": "pcl"}),
        ("ours", {"loss": "pcl", "layers": (3, 4, 5)}),
        ("ours", {"loss": "pcl", "layers": (5, 3, 4)}),
        ("ours-l45", {"loss": "pcl", "layers": (4, 5)}),
        ("ours-l45", {"loss": "pcl", "layers": (5, 4, 5)}),
        *((f"ours-l{layer}", {"loss": "pcl", "layers": (layer,)}) for layer in range(1, 6)),
        ("ours-fgsm", {"loss": "pcl", "adversarial": "fgsm"}),
        ("ours-pgd", {"loss": "pcl", "adversarial": "pgd"}),
        ("ours-authors", {"loss": "pcl-authors"}),
        ("ours-authors", {"loss": "pcl-authors", "layers": (4, 5)}),
    ],
    ids=str,
)
def test_flags_that_describe_a_named_recipe_make_it(name, flags, dataset, scale):
    assert composed_recipe(dataset, scale, 3, **flags) == named_recipe(name, dataset, scale, 3)


def test_every_loss_of_the_family_can_be_composed():
    for loss in LOSSES:
        assert composed_recipe("mnist", "quick", loss=loss).loss.name == loss


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("softmax-pgd", {"adversarial": "pgd"}),
        ("triplet-l5", {"loss": "triplet", "layers": (5,)}),
        ("ours-l45-fgsm", {"loss": "pcl", "layers": (5, 4), "adversarial": "fgsm"}),
        ("ours-authors-l345", {"loss": "pcl-authors", "layers": (3, 4, 5)}),
        ("ours-authors-pgd", {"loss": "pcl-authors", "adversarial": "pgd"}),
    ],
    ids=str,
)
def test_other_flags_make_other_names_and_ids(name, flags):
    recipe = composed_recipe("mnist", "quick", **flags)
    assert recipe.name == name
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    known = {named_recipe(other, "mnist", "quick").id("data") for other in NAMES}
    assert recipe.id("data") not in known


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"loss": "plc"}, "Did you mean pcl"),
        ({"layers": (4, 5)}, "does not act on layers"),
        ({"adversarial": "pdg"}, "Did you mean pgd"),
    ],
    ids=str,
)
def test_flags_that_describe_nothing(flags, message):
    with pytest.raises(UserError, match=message):
        composed_recipe("mnist", "quick", **flags)


def test_layers_suffix():
    assert layers_suffix((5, 4)) == layers_suffix((4, 5)) == "-l45"
