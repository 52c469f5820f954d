"""Stored results as a frame: one row per measurement, every column as it is documented."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from fabricated import (
    make_attack,
    make_data,
    make_evidence,
    make_measurement,
    make_model,
    make_training,
)

from robustbench_pcl.errors import UserError
from robustbench_pcl.report.results import (
    COLUMNS,
    TRAINING_COLUMNS,
    load_evidence,
    measurement_frame,
    results,
)
from robustbench_pcl.store.records import Paths, save_measurement, save_training

OURS, VGG = make_model("ours"), make_model("vgg19")
CLEAN = make_measurement(OURS, correct=905, data=make_data(lossy=True, subset=True))
PGD = make_measurement(
    OURS, OURS, make_attack("pgd"), correct=272, mode="fast", created="2025-02-01T00:00:00+00:00"
)
BLACK_BOX = make_measurement(
    OURS, VGG, make_attack("cw", c=0.1), correct_8bit=None, created="2025-03-01T00:00:00+00:00"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    for record in (BLACK_BOX, PGD, CLEAN):
        save_measurement(Paths(folder), record)
    save_training(Paths(folder), make_training())
    return folder


def test_there_is_one_row_per_measurement_oldest_first(folder):
    frame = results(folder)
    assert list(frame["id"]) == [CLEAN.id, PGD.id, BLACK_BOX.id]
    assert list(frame["accuracy"]) == [90.5, 27.2, 50.0]
    assert list(frame["source"]) == [None, "ours", "vgg19"]
    assert list(frame["white_box"]) == [False, True, False]
    assert list(frame["mode"]) == ["exact", "fast", "exact"]
    assert frame["eps"].isna().tolist() == [True, False, True]
    assert frame["correct_8bit"].isna().tolist() == [False, False, True]
    assert frame["parameters"][1] == PGD.attack
    low, high = frame.loc[0, ["low", "high"]]
    assert low < 90.5 < high


def test_a_folder_as_text_and_a_workspace_have_the_same_results(folder):
    for place in (str(folder), SimpleNamespace(paths=Paths(folder))):
        assert results(place)["id"].equals(results(folder)["id"])


@pytest.mark.parametrize("records", [[], [CLEAN, PGD, make_training()]], ids=["empty", "filled"])
def test_columns_and_types_are_the_documented_ones(records):
    evidence = make_evidence(records)
    for frame, columns in (
        (evidence.measurements, COLUMNS),
        (evidence.trainings, TRAINING_COLUMNS),
    ):
        assert [(name, str(dtype)) for name, dtype in frame.dtypes.items()] == [
            (column.name, column.dtype) for column in columns
        ]
        assert len({column.name for column in columns}) == len(columns)
        assert all(column.meaning for column in columns)


def test_images_are_described_with_what_is_wrong_with_them(folder):
    assert results(folder)["provenance"].tolist()[:2] == [
        "torchvision: lossy copies of the published pixels and a part of the published set",
        "torchvision",
    ]
    noted = make_measurement(data=make_data(lossy=True, note="JPEG copy, 8,000 images"))
    assert measurement_frame([noted])["provenance"][0] == "torchvision: JPEG copy, 8,000 images"


def test_clean_accuracy_has_one_word_and_attacks_that_differ_have_different_labels():
    dumps = [make_attack("pgd", steps=steps) for steps in (10, 40, 200)]
    dumps += [make_attack("pgd", loss="margin"), make_attack("pgd", relative_step_size=0.0001)]
    frame = measurement_frame([CLEAN, *(make_measurement(OURS, OURS, dump) for dump in dumps)])
    labels = frame["attack"].tolist()
    assert labels[0] == "Clean"
    assert labels[1:4] == ["PGD, eps 0.03", "PGD-40, eps 0.03", "PGD-200, eps 0.03"]
    assert len(set(labels)) == len(labels)


def test_evidence_holds_measurements_trainings_and_embeddings(folder):
    evidence = load_evidence(Paths(folder))
    assert (len(evidence.measurements), len(evidence.trainings)) == (3, 1)
    assert list(evidence.embeddings) == []
    assert evidence.trainings["seconds_per_epoch"].tolist() == [2.5]


def test_an_older_store_is_answered_by_what_to_do(tmp_path):
    path = Paths(tmp_path).measurements / "old.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"id": "old"}')
    with pytest.raises(UserError, match=r"pclbench 0\.1.*--home NEW"):
        results(tmp_path)
    assert path.exists()


def test_stored_results_are_read_without_torch(folder):
    program = (
        "import sys; from robustbench_pcl.report.results import results; "
        "from robustbench_pcl.report.render import table; "
        f"assert len(results({str(folder)!r})) == 3; "
        f"assert '27.2' in str(table(3, {str(folder)!r})); table(2); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
