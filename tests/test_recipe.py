"""Recipes: frozen, checked, and with an id that follows from all that decides the weights."""

import pytest
from pydantic import BaseModel, ValidationError

from robustbench_pcl.configuration import ID_LENGTH
from robustbench_pcl.recipe import AdversarialTraining, Recipe, Schedule

SOFTMAX = Recipe(
    name="softmax",
    scale="demo",
    dataset="digits",
    model="conv6",
    schedule=Schedule(epochs=3, milestones=(1, 2)),
)
OURS = SOFTMAX.changed(
    name="ours",
    loss={"name": "pcl", "separation": 4.0},
    feature_layers=(3, 4, 10),
    defense={"name": "madry", "eps": 0.1, "steps": 7},
    adversarial_training=AdversarialTraining(attack="pgd"),
    train_images=100,
    start=SOFTMAX,
)
NOT_IN_THE_ID = {"name", "scale", "inference"}


def others(value: object) -> list[object]:
    """Values unlike this one; a field takes the first that it accepts."""
    if value is None:
        return [7, 0.5, SOFTMAX, AdversarialTraining(attack="fgsm")]
    if isinstance(value, dict):
        return [{**value, "more": 1}]
    if isinstance(value, int | float):
        return [value + 1, value / 2]
    if isinstance(value, str):
        return [f"{value}x", "paper", "nearest", "float32"]
    if isinstance(value, tuple):
        return [(*value, 1)]
    changes = {Recipe: {"seed": 99}, Schedule: {"epochs": 99}, AdversarialTraining: {"steps": 9}}
    return [value.changed(**changes[type(value)])]


def changed(spec: BaseModel, field: str) -> BaseModel:
    for other in others(getattr(spec, field)):
        try:
            return spec.changed(**{field: other})
        except ValidationError:
            continue
    raise AssertionError(f"no other value of {field} is valid")


@pytest.mark.parametrize("recipe", [SOFTMAX, OURS], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("field", Recipe.model_fields)
def test_everything_that_changes_the_weights_is_in_the_id(recipe, field):
    other = changed(recipe, field)
    assert other != recipe
    assert (other.id("data") == recipe.id("data")) == (field in NOT_IN_THE_ID)


@pytest.mark.parametrize("field", Schedule.model_fields)
def test_all_of_the_schedule_is_in_the_id(field):
    other = OURS.changed(schedule=changed(OURS.schedule, field))
    assert other.id("data") != OURS.id("data")


@pytest.mark.parametrize("field", Recipe.model_fields)
def test_so_is_all_that_changes_the_weights_it_starts_from(field):
    other = OURS.changed(start=changed(SOFTMAX, field))
    assert (other.id("data") == OURS.id("data")) == (field in NOT_IN_THE_ID)


def test_so_are_the_data():
    assert OURS.id("data") != OURS.id("other data")


def test_ids_are_twelve_hexadecimal_digits_and_stay_the_same():
    for recipe in (SOFTMAX, OURS):
        name = recipe.id("data")
        assert len(name) == ID_LENGTH == 12
        assert int(name, 16) >= 0
        assert Recipe.model_validate_json(recipe.model_dump_json()).id("data") == name


@pytest.mark.parametrize("recipe", [SOFTMAX, OURS], ids=lambda recipe: recipe.name)
def test_a_recipe_survives_json(recipe):
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe.model_validate(recipe.content()) == recipe


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0),
        ("learning_rate", -0.1),
        ("decay", 0),
        ("decay", 2),
        ("momentum", 1),
        ("weight_decay", -1),
        ("prototype_learning_rate", 0),
        ("gradient_clip", 0),
    ],
)
def test_schedules_that_cannot_train_are_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        Schedule.model_validate({"epochs": 1, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 0), ("width", 1.5), ("train_images", 0), ("scale", "huge"), ("schedule", None)],
)
def test_recipes_that_cannot_train_are_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        Recipe.model_validate({**SOFTMAX.content(), field: value})
