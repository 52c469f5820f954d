"""What a record says is believed only where it follows from the rest of it."""

import json
import math

import pytest
from store_artefacts import DATA, HERE, MEASUREMENT, MODEL, OURS, PGD, SET, TRAINING

from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.store.certificates import Certificate, certificate_id
from robustbench_pcl.store.diagnoses import Competence, Diagnosis, diagnosis_id
from robustbench_pcl.store.records import (
    Measurement,
    TrainingRecord,
    examine_record,
    load_measurements,
    read_record,
    save_measurement,
    save_record,
)
from robustbench_pcl.store.rules import SEAL, measurement_id, verdict_bits, wilson

N = MEASUREMENT.n
CLEAN = Measurement(
    id=measurement_id(MODEL, data=DATA.digest, n=N),
    data=DATA,
    target=MODEL,
    n=N,
    correct=3,
    correct_8bit=3,
    interval=wilson(3, N),
    margins=(-2.0, -1.0, 0.0, 1.0, 2.0),
    verdicts="e0000000000000",
    seconds=0,
    forward_passes=0,
    backward_passes=0,
    seed=OURS.seed,
    environment=HERE,
    created="2025-01-01T00:00:00+00:00",
)
STAGED = MEASUREMENT.changed(stages=("FGSM", "PGD"), felled_by="000000" + "0102" * 23 + "03")
DIAGNOSIS = Diagnosis(
    id=diagnosis_id(MODEL, DATA.digest, PGD, n=N, seed=0),
    target=MODEL,
    data=DATA,
    attack=PGD,
    label="PGD",
    norm="linf",
    eps=0.1,
    n=N,
    seed=0,
    verdict="holds",
    code="PCL101",
    sentence="It holds.",
    clean=40,
    correct=30,
    withstood=30,
    interval=wilson(30, N),
    checks=(),
    competence=(Competence(attack=PGD, label="PGD", found=9, n=10, interval=wilson(9, 10)),),
    seconds=1.0,
    environment=HERE,
    created="2025-01-01T00:00:00+00:00",
)
CERTIFICATE = Certificate(
    id=certificate_id(MODEL, DATA.digest, n=3, largest_eps=0.2),
    target=MODEL,
    data=DATA,
    method="crown",
    largest_eps=0.2,
    n=3,
    certified=(0.0, 0.1, 0.2),
    fooling=(0.0, 0.1, None),
    found_by="PGD",
    reason="",
    seconds=1.0,
    environment=HERE,
    created="2025-01-01T00:00:00+00:00",
)
WHOLE = (MEASUREMENT, CLEAN, STAGED, TRAINING, DIAGNOSIS, CERTIFICATE)


def other_competence(**changes):
    return (DIAGNOSIS.competence[0].changed(**changes),)


def epoch(number, **changes):
    """The history with a change in one epoch."""
    history = [dict(entry) for entry in TRAINING.history]
    history[number - 1] |= changes
    return history


CONTRADICTIONS = [
    (MEASUREMENT, {"correct": 999}, "correct: 999; expected: 3"),
    (MEASUREMENT, {"interval": (0.0, 0.2)}, "interval"),
    (MEASUREMENT, {"n": -1}, "n: -1"),
    (MEASUREMENT, {"n": 0}, "n: 0"),
    (MEASUREMENT, {"n": 10**15}, "n: 1000000000000000"),
    (MEASUREMENT, {"verdicts": "e0000000000001"}, "verdicts"),
    (MEASUREMENT, {"verdicts": "e00000000000"}, "verdicts"),
    (MEASUREMENT, {"verdicts": "E0000000000000"}, "verdicts"),
    (MEASUREMENT, {"verdicts": "e+000000000000"}, "verdicts"),
    (MEASUREMENT, {"verdicts": "f0000000000000"}, "correct: 3; expected: 4"),
    (MEASUREMENT, {"correct_8bit": N + 1}, "correct_8bit: 51; expected: 0 to 50"),
    (MEASUREMENT, {"correct_8bit": -1}, "correct_8bit"),
    (MEASUREMENT, {"target": MODEL.changed(weights="ffffffffffff")}, "id"),
    (MEASUREMENT, {"adversarial_set": "ffffffffffff"}, "id"),
    (MEASUREMENT, {"source": None}, "adversarial_set"),
    (MEASUREMENT, {"attack": {**PGD, "eps": 0.2}}, "adversarial_set"),
    (MEASUREMENT, {"data": DATA.changed(digest="another")}, "adversarial_set"),
    (MEASUREMENT, {"seed": 1}, "adversarial_set"),
    (MEASUREMENT, {"mode": "fast"}, "adversarial_set"),
    (MEASUREMENT, {"largest_linf": 0.11}, "largest_linf: 0.11; expected: at most 0.1"),
    (MEASUREMENT, {"largest_linf": -0.1}, "largest_linf"),
    (MEASUREMENT, {"largest_l2": 0.01}, "largest_l2"),
    (MEASUREMENT, {"mean_l2": -1.0}, "mean_l2"),
    (MEASUREMENT, {"seconds": -1.0}, "seconds"),
    (MEASUREMENT, {"forward_passes": -1}, "forward_passes"),
    (MEASUREMENT, {"backward_passes": -1}, "backward_passes"),
    (MEASUREMENT, {"stages": ("PGD",)}, "stages"),
    (MEASUREMENT, {"margins": CLEAN.margins}, "margins"),
    (CLEAN, {"margins": CLEAN.margins[::-1]}, "margins"),
    (CLEAN, {"margins": CLEAN.margins[:4]}, "margins"),
    (CLEAN, {"seconds": 1.0}, "seconds"),
    (CLEAN, {"correct_8bit": 4}, "correct_8bit: 4; expected: 3"),
    (CLEAN, {"largest_l2": 0.5}, "largest_l2"),
    (CLEAN, {"seed": 7}, "seed"),
    (STAGED, {"felled_by": "00" * N}, "felled_by contradicts"),
    (STAGED, {"felled_by": STAGED.felled_by[2:]}, "images in felled_by: 49"),
    (STAGED, {"felled_by": "zz" * N}, "images in felled_by"),
    (STAGED, {"stages": ("FGSM",)}, "stages"),
    (TRAINING, {"checkpoint": "ffffffffffff"}, "checkpoint"),
    (TRAINING, {"recipe": OURS.changed(width=0.5)}, "checkpoint"),
    (TRAINING, {"data": DATA.changed(digest="another")}, "checkpoint"),
    (TRAINING, {"history": TRAINING.history[:3]}, "epochs of the history"),
    (TRAINING, {"history": epoch(2, epoch=7)}, "epochs of the history"),
    (TRAINING, {"history": epoch(2, training_accuracy=1.5)}, "epoch 2"),
    (TRAINING, {"seconds_per_epoch": -0.5}, "seconds_per_epoch"),
    (DIAGNOSIS, {"withstood": 31}, "counts"),
    (DIAGNOSIS, {"clean": N + 1}, "counts"),
    (DIAGNOSIS, {"withstood": 29}, "interval"),
    (DIAGNOSIS, {"interval": (0.0, 0.2)}, "interval"),
    (DIAGNOSIS, {"code": "PCL103"}, "code: PCL103; expected: PCL101"),
    (DIAGNOSIS, {"verdict": "saturated"}, "code"),
    (DIAGNOSIS, {"eps": 0.2}, "eps"),
    (DIAGNOSIS, {"seed": 1}, "id"),
    (DIAGNOSIS, {"sources": (MODEL,)}, "id"),
    (DIAGNOSIS, {"competence": other_competence(found=11)}, "competence of PGD"),
    (DIAGNOSIS, {"competence": other_competence(interval=(0.0, 1.0))}, "competence of PGD"),
    (DIAGNOSIS, {"competence": other_competence(attack={"eps": 0.1})}, "attack"),
    (CERTIFICATE, {"n": 2}, "id"),
    (CERTIFICATE, {"largest_eps": 0.3}, "id"),
    (CERTIFICATE, {"method": "none"}, "method"),
    (CERTIFICATE, {"certified": (0.0, 0.1)}, "certified radii: 2"),
    (CERTIFICATE, {"certified": (0.0, 0.11, 0.2)}, "certified radius of image 1"),
    (CERTIFICATE, {"certified": (0.0, 0.1, 0.21)}, "certified radius of image 2"),
    (CERTIFICATE, {"fooling": (0.0, 0.1, None, None)}, "fooling radii: 4"),
]
"""A record that holds, a change of it, and what it is refused for."""


def naming(case):
    record, changes, _ = case
    return f"{record.what} {next(iter(changes.items()))}"[:60]


@pytest.mark.parametrize("case", CONTRADICTIONS, ids=naming)
def test_a_record_that_contradicts_itself_is_refused(case, tmp_path):
    """Also where its file has the digest that goes with it."""
    record, changes, words = case
    path = save_record(tmp_path, record.file_name, record)
    assert read_record(path, type(record)) == record
    path = save_record(tmp_path, record.file_name, record.changed(**changes))
    with pytest.raises(UserError) as refused:
        read_record(path, type(record))
    assert words in refused.value.cause
    assert str(path) in refused.value.cause
    assert "pclbench verify --repair" in refused.value.cure


@pytest.mark.parametrize("record", WHOLE, ids=lambda record: record.what)
def test_a_change_of_anything_else_is_found_by_the_digest(record, tmp_path):
    path = save_record(tmp_path, record.file_name, record)
    content = json.loads(path.read_text())
    for change in ({"created": "2030-01-01"}, {"environment": {**HERE.content(), "threads": 9}}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match=SEAL):
            read_record(path, type(record))
    path.write_text(json.dumps(dict(reversed(content.items()))))  # the same in another order
    assert read_record(path, type(record)) == record


@pytest.mark.parametrize("record", WHOLE, ids=lambda record: record.what)
def test_a_record_from_before_there_were_digests_is_read(record, tmp_path):
    path = save_record(tmp_path, record.file_name, record)
    content = json.loads(path.read_text())
    del content[SEAL]
    path.write_text(json.dumps(content))
    examined = examine_record(path, type(record))
    assert (examined.record, examined.faults, examined.sealed) == (record, (), False)


@pytest.mark.parametrize("record", WHOLE, ids=lambda record: record.what)
def test_a_record_under_another_s_name_is_refused(record, tmp_path):
    path = save_record(tmp_path, "0123456789ab", record)
    with pytest.raises(UserError, match="the file's name: 0123456789ab"):
        read_record(path, type(record))


def test_training_losses_are_finite(tmp_path):
    record = TRAINING.changed(history=epoch(3, loss=math.inf))
    assert [fault.what for fault in record.faults()] == ["epoch 3"]
    assert isinstance(record, TrainingRecord)


def test_an_external_model_has_the_id_of_its_code_and_weights(paths):
    model = ExternalModel(
        name="mine",
        scale="demo",
        dataset="digits",
        source="mine.py:Net",
        files=("mine.py",),
        code="cccccccccccc",
        weights="bbbbbbbbbbbb",
    )
    target = MODEL.changed(recipe=model, checkpoint=model.id())
    made = MEASUREMENT.changed(target=target, id=measurement_id(target, set=SET.id))
    save_measurement(paths, made)
    assert load_measurements(paths) == [made]
    other = target.changed(recipe=model.changed(code="dddddddddddd"))
    path = save_measurement(paths, made.changed(target=other))
    with pytest.raises(UserError, match="checkpoint of mine"):
        read_record(path, Measurement)


@pytest.mark.parametrize(
    ("verdicts", "n", "bits"),
    [
        ("e0", 3, 0b111),
        ("e0", 8, 0b11100000),
        ("ff80", 9, 0b111111111),
        ("e1", 3, None),
        ("e", 3, None),
        ("e000", 3, None),
        ("E0", 3, None),
        ("1_", 8, None),
    ],
)
def test_verdicts_are_as_many_bits_as_images_then_zeros(verdicts, n, bits):
    assert verdict_bits(verdicts, n) == bits
