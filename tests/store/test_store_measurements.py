"""Measurements and training records: one JSON file each."""

import json

import pytest
from store_artefacts import HERE, MEASUREMENT, MODEL, SET, TRAINING

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.records import (
    Measurement,
    find_measurement,
    load_measurements,
    load_trainings,
    save_measurement,
    save_training,
)
from robustbench_pcl.store.rules import measurement_id


def on_set(**changes):
    """The measurement on another set, whose id and whose own follow."""
    images = SET.changed(**{name: changes[name] for name in {"attack", "seed"} & changes.keys()})
    own = {"adversarial_set": images.id, "id": measurement_id(MODEL, set=images.id)}
    return MEASUREMENT.changed(**changes, **own)


def test_a_measurement_comes_back(paths):
    path = save_measurement(paths, MEASUREMENT)
    assert path == paths.root / "results" / "measurements" / f"{MEASUREMENT.id}.json"
    assert find_measurement(paths, MEASUREMENT.id) == MEASUREMENT
    assert load_measurements(paths) == [MEASUREMENT]
    assert MEASUREMENT.accuracy == 0.06
    assert find_measurement(paths, "another") is None


def test_numbers_come_back_with_their_types(paths):
    attack = {"name": "cw", "c": 10.0, "steps": 10, "targeted": False}
    made = on_set(attack=attack)
    save_measurement(paths, made)
    found = find_measurement(paths, made.id).attack
    assert [type(value) for value in found.values()] == [str, float, int, bool]


def test_the_oldest_comes_first(paths):
    for seed, created in enumerate(("2025-03-01", "2025-01-01", "2025-02-01")):
        save_measurement(paths, on_set(seed=seed, created=f"{created}T00:00:00+00:00"))
    assert [record.seed for record in load_measurements(paths)] == [1, 2, 0]


def test_one_recipe_s_trainings_to_different_weights_are_all_kept(paths):
    threads = HERE.changed(threads=2)
    other = TRAINING.changed(weights="ffffffffffff", environment=threads, created="2099-01-01")
    assert save_training(paths, TRAINING) != save_training(paths, other)
    assert load_trainings(paths) == [TRAINING, other]
    again = TRAINING.changed(seconds_per_epoch=0.25)
    save_training(paths, again)  # of the same weights there is one
    assert load_trainings(paths) == [again, other]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": "many"}, "n: input should be a valid integer.* not 'many'"),
        ({"surprise": 1}, "surprise means nothing here"),
        ({"target": {"checkpoint": "x"}}, "target.weights: field required"),
        ({"mode": "until-fooled"}, "mode: input should be 'exact', 'fast' or 'early-stop'"),
        ({"mean_l2": float("nan")}, "NaN is not a number"),
    ],
)
def test_a_wrong_field_is_named(paths, change, words):
    path = save_measurement(paths, MEASUREMENT)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    for read in (load_measurements, lambda paths: find_measurement(paths, MEASUREMENT.id)):
        with pytest.raises(UserError, match=f"is not a measurement: {words}"):
            read(paths)


def test_models_that_answer_alike_have_one_key():
    renamed = MODEL.changed(recipe=MODEL.recipe.changed(name="mine"), checkpoint="another")
    assert renamed.key == MODEL.key
    nearest = MODEL.changed(recipe=MODEL.recipe.changed(inference="nearest"))
    others = {nearest.key, MODEL.changed(weights="ffffffffffff").key}
    assert len(others | {MODEL.key}) == 3


def test_a_clean_measurement_names_no_attack():
    fields = MEASUREMENT.content(exclude=("source", "attack", "adversarial_set"))
    clean = Measurement.model_validate(fields)
    assert (clean.source, clean.attack, clean.adversarial_set) == (None, None, None)
    assert MEASUREMENT.adversarial_set == SET.id
