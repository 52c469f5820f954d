"""Specifications: frozen, checked, and with an id that follows from what they say."""

import hashlib
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from robustbench_pcl.specs.base import ID_LENGTH, Part, Spec, digest
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.recipe import Recipe, Schedule

SOFTMAX = Recipe(
    name="softmax",
    scale="demo",
    dataset="digits",
    model="conv6",
    schedule=Schedule(epochs=3, milestones=(1, 2)),
)
OURS = SOFTMAX.model_copy(
    update={
        "name": "ours",
        "loss": Part(name="pcl", parameters={"separation": 4.0}),
        "taps": (3, 4, 5),
        "defense": Part(name="min-max", parameters={"eps": 0.1, "steps": 7}),
        "train_images": 100,
        "start": SOFTMAX,
    }
)
NOT_IN_THE_ID = {"name", "scale", "inference"}


def others(value: object) -> list[object]:
    """Values unlike this one; a field takes the first that it accepts."""
    if value is None:
        return [7, 0.5, "x", SOFTMAX, Part(name="x")]
    if isinstance(value, int | float):
        return [value + 1, value / 2]
    if isinstance(value, str):
        return [f"{value}x", "paper", "nearest", "float32"]
    if isinstance(value, tuple):
        return [(*value, 1)]
    changes = {Recipe: {"seed": 99}, Part: {"parameters": {"x": 1}}, Schedule: {"epochs": 99}}
    return [value.model_copy(update=changes[type(value)])]


def changed(spec: BaseModel, field: str) -> BaseModel:
    for other in others(getattr(spec, field)):
        try:
            return type(spec).model_validate({**dict(spec), field: other})
        except ValidationError:
            continue
    raise AssertionError(f"no other value of {field} is valid")


# The id


@pytest.mark.parametrize("recipe", [SOFTMAX, OURS], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("field", Recipe.model_fields)
def test_everything_that_changes_the_weights_is_in_the_id(recipe, field):
    other = changed(recipe, field)
    assert other != recipe
    assert (other.id("data") == recipe.id("data")) == (field in NOT_IN_THE_ID)


@pytest.mark.parametrize("field", Schedule.model_fields)
def test_all_of_the_schedule_is_in_the_id(field):
    other = OURS.model_copy(update={"schedule": changed(OURS.schedule, field)})
    assert other.id("data") != OURS.id("data")


@pytest.mark.parametrize("field", Recipe.model_fields)
def test_so_is_all_that_changes_the_weights_it_starts_from(field):
    other = OURS.model_copy(update={"start": changed(SOFTMAX, field)})
    assert (other.id("data") == OURS.id("data")) == (field in NOT_IN_THE_ID)


def test_so_are_the_data():
    assert OURS.id("data") != OURS.id("other data")


def test_ids_are_twelve_hexadecimal_digits_and_stay_the_same():
    for recipe in (SOFTMAX, OURS):
        name = recipe.id("data")
        assert len(name) == ID_LENGTH == 12
        assert int(name, 16) >= 0
        assert Recipe.model_validate_json(recipe.model_dump_json()).id("data") == name


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest([1, 2]) != digest([2, 1])
    canonical = '{"a":1,"b":"ε"}'.encode()
    assert digest({"b": "ε", "a": 1}) == hashlib.sha256(canonical).hexdigest()[:12]


# JSON


@pytest.mark.parametrize("recipe", [SOFTMAX, OURS], ids=lambda recipe: recipe.name)
def test_a_recipe_survives_json(recipe):
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert Recipe.model_validate(recipe.content()) == recipe


def test_parameters_keep_their_types():
    values = {"a": True, "b": 1, "c": 1.0, "d": "1", "e": "true", "f": 0}
    part = Part.model_validate_json(Part(name="x", parameters=values).model_dump_json())
    assert [(key, type(value), value) for key, value in part.parameters.items()] == [
        (key, type(value), value) for key, value in values.items()
    ]


def test_a_cell_survives_json():
    attack = Part(name="pgd", parameters={"eps": 0.3})
    cell = Cell(dataset="mnist", target="ours", source="vgg19", attack=attack)
    assert Cell.model_validate_json(cell.model_dump_json()) == cell
    assert Cell(dataset="mnist", target="ours").quantity == "accuracy"


def test_merged_lays_parameters_over_its_own():
    part = Part(name="pgd", parameters={"eps": 0.3, "steps": 10})
    merged = part.merged({"eps": 0.1, "loss": "margin"})
    assert merged == Part(name="pgd", parameters={"eps": 0.1, "steps": 10, "loss": "margin"})
    assert part.parameters == {"eps": 0.3, "steps": 10}


# Checks


@pytest.mark.parametrize(
    "spec", [SOFTMAX, SOFTMAX.schedule, SOFTMAX.loss], ids=["recipe", "schedule", "part"]
)
def test_specs_are_frozen_and_refuse_unknown_fields(spec):
    assert isinstance(spec, Spec)
    field = next(iter(type(spec).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(spec, field, getattr(spec, field))
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(spec).model_validate({**dict(spec), "colour": "red"})


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
        Recipe.model_validate({**dict(SOFTMAX), field: value})


def test_specifications_do_not_import_torch():
    code = (
        "import sys, robustbench_pcl.specs.recipe, robustbench_pcl.specs.cell, "
        "robustbench_pcl.specs.units, robustbench_pcl.recipes.named; "
        "print('torch' in sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "False"
