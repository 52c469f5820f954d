"""A bundle: what is in it, that it is always the same, and what it leaves alone."""

import json
import re
from pathlib import Path

import pytest
from bundles import ALWAYS, N, bundle_of

from robustbench_pcl import results
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.manifest import MANIFEST, Selection
from robustbench_pcl.store.records import Paths

TEXT = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_in_it_is_what_the_document_says(whole_bundle):
    (table,) = re.findall(r"\| path \| content \|\n(.*?)\n\n", TEXT, re.DOTALL)
    named = {
        name.rstrip("/")
        for row in table.splitlines()
        for name in re.findall(r"`([\w./]+)`", row.split("|")[1])
    }
    folders = {Path(name).parent.as_posix() for name in contents(whole_bundle) if "/" in name}
    assert named == {*folders, "report.html", MANIFEST}


def test_the_same_evidence_is_the_same_bytes(evidence_home, whole_bundle, tmp_path):
    bundle_of(evidence_home, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(whole_bundle)


def test_it_is_a_workspace_like_any_other(evidence_home, whole_bundle):
    assert results(whole_bundle).equals(results(evidence_home))


def test_weights_and_sets_travel_where_they_are_asked_for(evidence_home, tmp_path):
    bundle_of(evidence_home, tmp_path / "none", weights=False, sets=False)
    bundle_of(evidence_home, tmp_path / "sets", weights=False)
    assert not (tmp_path / "none/checkpoints").exists()
    assert not Paths(tmp_path / "none").adversarial_sets.exists()
    assert not (tmp_path / "sets/checkpoints").exists()
    assert len(list(Paths(tmp_path / "sets").adversarial_sets.iterdir())) == 4


SELECTIONS = {
    "a model": (Selection(models=("ours",)), {"ours"}),
    "a table": (Selection(tables=(3,), datasets=("digits",)), {"ours", "softmax"}),
    "a table and a model": (Selection(tables=(9,), models=("softmax",)), {"softmax", "ours"}),
    "a scale": (Selection(scale="demo"), {"ours", "softmax"}),
    "a seed": (Selection(seeds=(0,)), {"ours", "softmax"}),
}


@pytest.mark.parametrize("selected", SELECTIONS)
def test_what_is_selected_can_be_verified_by_itself(selected, evidence_home, tmp_path, verifier):
    selection, targets = SELECTIONS[selected]
    bundle_of(evidence_home, tmp_path / "bundle", selection=selection)
    assert set(results(tmp_path / "bundle")["target"]) <= targets
    found = verifier.bundle(tmp_path / "bundle")
    assert found.findings == []
    assert found.unchecked == ALWAYS


WRONG = {
    "a model that is not there": (Selection(models=("nobody",)), "Nothing is measured"),
    "a seed that is not there": (Selection(seeds=(7,)), "Nothing is measured"),
    "a data set that there is not": (Selection(datasets=("imagenet",)), "no data set"),
    "a table without numbers": (Selection(tables=(1,)), "Nothing is measured for a table 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_nothing_is_written_where_nothing_is_stored_of_it(wrong, evidence_home, tmp_path):
    selection, cause = WRONG[wrong]
    with pytest.raises(UserError, match=cause):
        bundle_of(evidence_home, tmp_path / "bundle", selection=selection)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_anything_in_it_is_left_as_it_is(evidence_home, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        bundle_of(evidence_home, tmp_path)
    assert contents(tmp_path) == {"mine.txt": b"mine"}
    with pytest.raises(UserError, match="Cannot write"):
        bundle_of(evidence_home, tmp_path / "mine.txt")
    (tmp_path / "empty").mkdir()
    bundle_of(evidence_home, tmp_path / "empty")
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "empty"}


def test_what_is_asked_for_but_gone_is_said(evidence_home, tmp_path):
    home = tmp_path / "home"
    bundle_of(evidence_home, home, weights=False, sets=False)
    said = []
    bundle_of(home, tmp_path / "bundle", say=said.append)
    assert [line for line in said if "the weights of ours" in line]
    assert len([line for line in said if "adversarial set" in line]) == 4


def test_the_manifest_names_every_other_file_and_no_time(whole_bundle):
    manifest = json.loads((whole_bundle / MANIFEST).read_text())
    assert {*manifest["files"], MANIFEST} == set(contents(whole_bundle))
    assert set(manifest) == {"environments", "files", "format", "pclbench", "selection"}


def test_rows_have_an_image_each_and_what_felled_it(whole_bundle):
    measured = results(whole_bundle)
    (strongest,) = measured.loc[measured["attack"].str.startswith("Strongest"), "id"]
    rows = (whole_bundle / f"images/{strongest}.csv").read_text().splitlines()
    assert len(rows) == N + 1
    assert any("PGD" in row for row in rows)
