"""Measurements and training records: one JSON file each."""

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.base import Part
from robustbench_pcl.store.home import Home, environment, now
from robustbench_pcl.store.measurements import (
    find_measurement,
    load_measurements,
    load_trainings,
    save_measurement,
    save_training,
)
from robustbench_pcl.store.records import DataRecord, Measurement, ModelRecord, TrainingRecord


@pytest.fixture
def measurement(tiny):
    model = ModelRecord(checkpoint="aaaaaaaaaaaa", weights="bbbbbbbbbbbb", recipe=tiny("ours"))
    return Measurement(
        id="cccccccccccc",
        data=DataRecord(dataset="digits", digest="dddddddddddd", source="scikit-learn"),
        target=model,
        source=model,
        attack=Part(name="pgd", parameters={"eps": 0.1, "steps": 10, "loss": "margin"}),
        adversarial_set="eeeeeeeeeeee",
        largest_linf=0.1,
        mean_l2=0.4,
        n=10,
        correct=3,
        correct_8bit=4,
        interval=(0.1, 0.6),
        verdicts="e000",
        seconds=1.5,
        forward_passes=100,
        backward_passes=100,
        seed=0,
        environment=environment("2.6.0", "a processor", 1),
        created=now(),
    )


@pytest.fixture
def training(measurement):
    return TrainingRecord(
        checkpoint="aaaaaaaaaaaa",
        weights="bbbbbbbbbbbb",
        recipe=measurement.target.recipe,
        data=measurement.data,
        seconds_per_epoch=0.5,
        history=[{"epoch": 1, "loss": 0.25, "warnings": ["it may run away"]}],
        environment=measurement.environment,
        created=now(),
    )


def test_round_trips(tmp_path, measurement, training):
    results = Home(tmp_path).results
    path = save_measurement(results, measurement)
    assert path == tmp_path / "results" / "measurements" / "cccccccccccc.json"
    assert find_measurement(results, "cccccccccccc") == measurement
    assert load_measurements(results) == [measurement]
    assert measurement.accuracy == 0.3
    save_training(results, training)
    assert load_trainings(results) == [training]


def test_nothing_is_stored_yet(tmp_path):
    assert find_measurement(tmp_path, "cccccccccccc") is None
    assert load_measurements(tmp_path) == []
    assert load_trainings(tmp_path) == []


def test_the_oldest_comes_first(tmp_path, measurement):
    for number, created in enumerate(("2025-03-01", "2025-01-01", "2025-02-01")):
        changes = {"id": f"{number:012d}", "created": f"{created}T00:00:00+00:00"}
        save_measurement(tmp_path, measurement.model_copy(update=changes))
    assert [record.id[-1] for record in load_measurements(tmp_path)] == ["1", "2", "0"]


def test_half_written_files_are_not_seen(tmp_path, measurement):
    path = save_measurement(tmp_path, measurement)
    (path.parent / f".{path.name}.abc.tmp").write_text("{")
    (path.parent / f".{path.name}").write_text("{")
    assert len(load_measurements(tmp_path)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"<html>",
        lambda content: b"\xff\xfe" + content,
        lambda content: b"[]",
        lambda content: b"null",
        lambda content: content.replace(b'"n":', b'"m":'),
        lambda content: content.replace(b'"n": 10', b'"n": "many"'),
        lambda content: content.replace(b"{", b'{"surprise": 1,', 1),
    ],
)
def test_a_damaged_file_is_named_and_not_believed(tmp_path, measurement, damage):
    path = save_measurement(tmp_path, measurement)
    path.write_bytes(damage(path.read_bytes()))
    for read in (load_measurements, lambda folder: find_measurement(folder, "cccccccccccc")):
        with pytest.raises(UserError, match="is not a measurement") as raised:
            read(tmp_path)
        assert str(path) in raised.value.cause
        assert "\n" not in raised.value.cause
        assert "Move it away" in raised.value.cure


def test_a_damaged_training_record(tmp_path, training):
    path = save_training(tmp_path, training)
    path.write_text("{}")
    with pytest.raises(UserError, match="is not a trainingrecord: checkpoint: Field required"):
        load_trainings(tmp_path)
