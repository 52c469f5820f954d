"""Publishing: what is in the folder, what is not, who may add to it, and that changes are found."""

import json
import shutil

import numpy as np
import pytest
from bundles import ALWAYS

from robustbench_pcl import Workspace
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.manifest import Selection
from robustbench_pcl.evidence.published import publish
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.report.results import load_evidence
from robustbench_pcl.report.strips import strip
from robustbench_pcl.store.records import (
    ModelRecord,
    Paths,
    load_measurements,
    load_trainings,
    save_measurement,
)
from robustbench_pcl.store.rules import measurement_id, wilson

KINDS = ("measurements", "trainings", "diagnoses", "certificates", "embeddings", "strips")


def published(home, folder, **selected):
    return publish(Paths(home), folder, Selection(**selected), Progress())


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def evidence(evidence_home, tmp_path_factory):
    """What is published of the workspace; to be read only."""
    folder = tmp_path_factory.mktemp("published") / "evidence"
    published(evidence_home, folder)
    return folder


@pytest.fixture
def home(evidence_home, tmp_path):
    """Copies of the workspace's records, to be changed."""
    for kind in KINDS[:-1]:
        shutil.copytree(evidence_home / "results" / kind, tmp_path / "home" / "results" / kind)
    return tmp_path / "home"


def test_all_that_was_measured_is_there_but_no_weights_and_no_sets(evidence, evidence_home):
    here, there = (load_evidence(Paths(folder)) for folder in (evidence, evidence_home))
    assert here.measurements.equals(there.measurements)
    assert here.diagnoses == there.diagnoses
    assert here.certificates == there.certificates
    assert {path.suffix for path in evidence.rglob("*.*")} == {".json", ".png"}
    for one, other in zip(here.embeddings, there.embeddings, strict=True):
        assert one.record == other.record
        for name, array in other.layout().arrays().items():
            assert np.array_equal(one.layout().arrays()[name], array)
            assert one.layout().arrays()[name].dtype == array.dtype


def test_what_models_were_trained_from_is_published_with_them(evidence, evidence_home):
    names = {each.recipe.name for each in load_trainings(Paths(evidence))}
    assert names == {"softmax", "ours"}  # "ours-pgd" is trained there, and not measured
    assert "ours-pgd" in {each.recipe.name for each in load_trainings(Paths(evidence_home))}


def test_each_white_box_accuracy_has_the_strip_that_its_images_make(evidence, evidence_home):
    paths = Paths(evidence_home)
    white_box = [
        each
        for each in load_measurements(paths)
        if each.source and each.source.key == each.target.key
    ]
    strips = {each.id: strip(paths, each) for each in white_box}
    found = {path.stem: path.read_bytes() for path in (evidence / "strips").iterdir()}
    assert found == {name: picture for name, picture in strips.items() if picture}
    assert found


def test_all_of_it_is_verified_and_what_is_not_there_is_said_once(evidence, verifier):
    found = verifier.published(evidence)
    assert found.findings == []
    assert all(found.checked[kind] for kind in KINDS)
    said = [sentence for sentence in found.unchecked if sentence not in ALWAYS]
    assert len(said) == 2
    assert "weights of ours and softmax" in said[0] or "weights of softmax and ours" in said[0]
    assert "adversarial sets that are not here" in said[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_changed_byte_is_found(evidence, tmp_path, verifier, kind):
    folder = shutil.copytree(evidence, tmp_path / "evidence")
    path = sorted((folder / kind).iterdir())[0]
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    found = verifier.published(folder)
    assert found.wrong_files[0] == f"{kind}/{path.name}"
    with pytest.raises(UserError, match="not as it was published"):
        published(evidence, folder)


def test_files_that_are_gone_or_were_added_are_found(evidence, tmp_path, verifier):
    folder = shutil.copytree(evidence, tmp_path / "evidence")
    gone = next((folder / "strips").iterdir())
    gone.unlink()
    (folder / "measurements" / "notes.txt").write_text("mine")
    said = " ".join(map(str, verifier.published(folder).findings))
    assert f"strips/{gone.name}: the file: gone" in said
    assert "measurements/notes.txt: the file: there" in said


def test_the_same_evidence_changes_nothing(evidence, evidence_home, home, tmp_path):
    folder = shutil.copytree(evidence, tmp_path / "evidence")
    done = published(evidence_home, folder)
    assert not done.added
    assert done.known > 0
    for each in load_measurements(Paths(home)):  # made on another day, by a slower machine
        seconds = 2 * each.seconds
        again = each.changed(created="2027-01-01T00:00:00+00:00", seconds=seconds)
        save_measurement(Paths(home), again)
    published(home, folder)
    assert contents(folder) == contents(evidence)


def test_what_is_published_bit_by_bit_is_what_is_published_at_once(
    evidence, evidence_home, tmp_path
):
    for model in ("ours", "softmax"):
        published(evidence_home, tmp_path / "evidence", models=(model,))
    assert contents(tmp_path / "evidence") == contents(evidence)


def test_records_that_disagree_are_refused(evidence, home, tmp_path):
    folder = shutil.copytree(evidence, tmp_path / "evidence")
    other = next(each for each in load_measurements(Paths(home)) if each.attack is None)
    verdicts = "0" * len(other.verdicts)
    wrong = other.changed(verdicts=verdicts, correct=0, correct_8bit=0, interval=wilson(0, other.n))
    save_measurement(Paths(home), wrong)
    with pytest.raises(UserError, match=f"disagree: the measurement {other.id}") as error:
        published(home, folder)
    assert "another folder" in error.value.cure
    assert contents(folder) == contents(evidence)


def test_measurements_of_one_set_that_disagree_are_refused(evidence, home, tmp_path):
    """The set cost one workspace so many seconds, and the other one more."""
    folder = shutil.copytree(evidence, tmp_path / "evidence")
    transferred = next(
        each
        for each in load_measurements(Paths(home))
        if each.source and each.source.key != each.target.key
    )
    target, images = transferred.source, transferred.adversarial_set
    identity = measurement_id(target, set=images)
    seconds = transferred.seconds + 1
    white_box = transferred.changed(target=target, id=identity, seconds=seconds)
    save_measurement(Paths(home), white_box)
    with pytest.raises(UserError, match=r"disagree: .* seconds \(in "):
        published(home, folder)
    assert contents(folder) == contents(evidence)


def test_a_folder_with_something_else_is_not_filled(evidence_home, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="something other"):
        published(evidence_home, tmp_path)
    assert contents(tmp_path) == {"mine.txt": b"mine"}


def own_model(record):
    """The same accuracy, of a model that somebody brought along."""
    model = ExternalModel(
        name="my-net",
        scale="demo",
        dataset="digits",
        source="my_model.py:Net",
        folder="/home/anna/thesis",
        files=("my_model.py",),
        code="0123456789ab",
        weights="ba9876543210",
    )
    target = ModelRecord(checkpoint=model.id(), weights=model.weights, recipe=model)
    identity = measurement_id(target, data=record.data.digest, n=record.n)
    return record.changed(target=target, id=identity, seed=0)


def test_no_folder_of_anybodys_machine_is_published(home, tmp_path):
    paths = Paths(home)
    clean = next(each for each in load_measurements(paths) if each.attack is None)
    own = own_model(clean)
    save_measurement(paths, own)
    published(home, tmp_path / "evidence", models=("my-net",))
    text = (tmp_path / "evidence" / "measurements" / f"{own.id}.json").read_text()
    assert "anna" not in text
    assert json.loads(text)["target"]["recipe"]["source"] == "my_model.py:Net"
    data = own.data.changed(note="copied from /home/anna/data")
    save_measurement(paths, own.changed(data=data))
    with pytest.raises(UserError, match="names a folder of a machine: copied from /home/anna"):
        published(home, tmp_path / "other", models=("my-net",))


def test_nothing_new_is_made_among_published_evidence(evidence):
    with pytest.raises(UserError, match="nothing new is made there"):
        Workspace(evidence, device="cpu")
