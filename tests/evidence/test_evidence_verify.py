"""Verifying: what is recomputed, what cannot be, forgeries of all of it, and hostile files."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
from bundles import ALWAYS, EPS, N, bundle_of, flip
from store_artefacts import sign_set
from tampering import files, seal_again, set_text, sign_again

from robustbench_pcl import results
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.answers import Sample
from robustbench_pcl.evidence.findings import printable
from robustbench_pcl.evidence.manifest import MANIFEST
from robustbench_pcl.evidence.verify import Verifier
from robustbench_pcl.store.records import Paths, load_measurements, save_measurement


def found_in(verification):
    return " ".join(map(str, verification.findings))


def test_all_of_a_whole_bundle_is_checked(whole_bundle, verifier):
    found = verifier.bundle(whole_bundle)
    assert found.holds
    assert found.unchecked == ALWAYS
    kinds = ("measurements", "trainings", "diagnoses", "certificates", "embeddings", "checkpoints")
    assert all(found.checked[kind] for kind in (*kinds, "adversarial sets", "per-image rows"))
    # 2 clean, 3 sets on their sources, 1 transferred, 1 imported; 3 of these in 8 bits as well;
    # a diagnosis and a certificate.
    assert found.checked["images classified again"] == 6 * N + 7 + 2 * N + 7 + 2 * N
    assert found.checked["radii certified again"] > 0


def test_a_workspace_is_verified_by_the_same_code(unfinished_home, verifier):
    found = verifier.workspace(unfinished_home)
    assert found.findings == []
    assert found.unchecked == ALWAYS
    assert found.checked["adversarial sets"] == 4
    assert found.checked["interrupted trainings"] == 1
    assert found.checked["parts of adversarial sets"] == 1
    assert found.checked["files"] == 0
    with pytest.raises(UserError, match="no folder"):
        verifier.workspace(unfinished_home / "nowhere")


def test_a_sample_is_a_share_of_each_set(whole_bundle):
    found = Verifier(share=0.25, seed=1, device="cpu").bundle(whole_bundle)
    assert found.findings == []
    assert found.checked["images classified again"] == 6 * 3 + 2 + 3
    said = [sentence for sentence in found.unchecked if sentence not in ALWAYS]
    for sentence, words in zip(said, ("margins", "8 bits", "diagnoses"), strict=True):
        assert words in sentence


def test_a_sample_is_drawn_by_its_seed_and_by_the_file():
    drawn = [Sample(0.1, seed).rows(name, 1000) for seed, name in ((0, "a"), (0, "b"), (1, "a"))]
    assert np.array_equal(drawn[0], Sample(0.1, 0).rows("a", 1000))
    assert all(len(set(rows)) == 100 for rows in drawn)
    assert all((np.diff(rows) > 0).all() for rows in drawn)
    assert len({tuple(rows) for rows in drawn}) == 3
    assert np.array_equal(Sample(1.0, 5).rows("a", 7), np.arange(7))


def test_what_is_not_in_the_bundle_is_said_to_be_unchecked(evidence_home, tmp_path, verifier):
    bundle_of(evidence_home, tmp_path / "bundle", weights=False, sets=False)
    found = verifier.bundle(tmp_path / "bundle")
    assert found.holds
    said = " ".join(found.unchecked)
    for words in ("Pixels", "weights of ours and softmax answer", "Per-image classes"):
        assert words in said
    assert len(found.unchecked) == len(set(found.unchecked))


def test_clean_images_that_are_not_here_are_said(whole_bundle, tmp_path, verifier, monkeypatch):
    monkeypatch.setattr("robustbench_pcl.data.loader.LOCAL_SOURCES", ())
    monkeypatch.setenv("PCLBENCH_CACHE", str(tmp_path))
    found = verifier.bundle(whole_bundle)
    assert found.holds
    assert any("clean images of digits" in sentence for sentence in found.unchecked)


@pytest.fixture
def forged(evidence_home, tmp_path):
    """A workspace of the forger's own, who bundles it anew after each change."""
    home = shutil.copytree(evidence_home, tmp_path / "home")

    def write(**options):
        bundle_of(home, tmp_path / "bundle", **options)
        return tmp_path / "bundle"

    return home, write


def one(home, label, white_box):
    frame = results(home)
    chosen = frame[frame["attack"].str.startswith(label) & (frame["white_box"] == white_box)]
    (measurement,) = [
        each for each in load_measurements(Paths(home)) if each.id == chosen["id"].iloc[0]
    ]
    return measurement


FORGERIES = {"clean": ("Clean", False), "transferred": ("PGD", False), "white-box": ("PGD", True)}


@pytest.mark.parametrize("which", FORGERIES)
def test_a_verdict_with_all_that_follows_from_it_is_found_by_the_weights(which, forged, verifier):
    home, write = forged
    measurement = one(home, *FORGERIES[which])
    right = measurement.withstood().copy()
    save_measurement(Paths(home), flip(measurement, 5).changed(felled_by="", stages=()))
    if which == "white-box":  # the set keeps its source's classes
        path = Paths(home).adversarial_sets / f"{measurement.adversarial_set}.h5"
        with h5py.File(path, "r+") as file:
            label = file["labels"][5]
            file["predictions"][5] = (label + 1) % 10 if right[5] else label
            file["felled_by"][5] = 0 if right[5] else -1
            codes = np.where(file["felled_by"][:] == -1, 0, file["felled_by"][:] + 2)
        codes[file_wrong(path)] = 1
        seal_again(home)
        save_measurement(
            Paths(home),
            flip(measurement, 5).changed(felled_by=codes.astype(np.uint8).tobytes().hex()),
        )
    found = verifier.bundle(write())
    assert "not the weights'" in found_in(found)
    assert {finding.what for finding in found.findings} <= {
        "images whose predictions are not the weights'",
        "images whose verdicts are not the weights'",
    }


def file_wrong(path):
    with h5py.File(path) as file:
        return file["felled_by"][:] == -2


def test_without_weights_such_a_forgery_stands_and_that_is_said(forged, verifier):
    home, write = forged
    save_measurement(Paths(home), flip(one(home, "Clean", False), 5))
    found = verifier.bundle(write(weights=False, sets=False))
    assert found.holds
    assert any("weights of" in sentence for sentence in found.unchecked)


def test_a_version_that_wrote_pages_otherwise_is_no_finding(bundle, verifier):
    (bundle / "report.html").write_text("another page")
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**manifest, "pclbench": "9.9"}))
    sign_again(bundle)
    found = verifier.bundle(bundle)
    assert found.holds
    assert "pclbench 9.9" in " ".join(found.unchecked)


def hostile(change):
    """A change of a set's file, which is signed again."""

    def make(bundle):
        path = files(bundle, "results/adversarial_sets/*.h5")[0]
        with h5py.File(path, "r+") as file:
            change(file, path)

    make.__name__ = change.__name__
    return make


@hostile
def a_link_out(file, path):
    del file["images"]
    file["images"] = h5py.ExternalLink("/etc/passwd", "images")


@hostile
def a_soft_link(file, path):
    file.move("images", "other")
    file["images"] = h5py.SoftLink("/other")


@hostile
def external_storage(file, path):
    shape = file["images"].shape
    del file["images"]
    size = int(np.prod(shape)) * 4
    file.create_dataset("images", shape, "f4", external=[("/etc/passwd", 0, size)])


@hostile
def a_virtual_data_set(file, path):
    shape = file["images"].shape
    del file["images"]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "images", shape)
    file.create_virtual_dataset("images", layout)


@hostile
def images_of_any_size(file, path):
    del file["images"]
    file.create_dataset("images", (N, 1, 40_000, 40_000), "f4", chunks=(1, 1, 1000, 1000))


@hostile
def one_array_more(file, path):
    file["more"] = np.zeros(3)


@hostile
def other_numbers(file, path):
    labels = file["labels"][:]
    del file["labels"]
    file["labels"] = labels.astype("f8")


@hostile
def no_number(file, path):
    file["images"][0, 0, 0, 0] = np.nan


def a_link_to_a_file(bundle):
    path = files(bundle, "results/measurements/*.json")[0]
    path.unlink()
    path.symlink_to("/etc/passwd")


def a_link_to_a_folder(bundle):
    shutil.move(bundle / "results/measurements", bundle.parent / "elsewhere")
    (bundle / "results/measurements").symlink_to(bundle.parent / "elsewhere")


def a_pipe(bundle):
    os.mkfifo(bundle / "results/measurements/0123456789ab.json")


def deep_json(bundle):
    files(bundle, "results/measurements/*.json")[0].write_text("[" * 200_000)


def many_images(bundle):
    path = files(bundle, "results/measurements/*.json")[0]
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "n": 10**400}))


def many_members(bundle):
    """A recipe whose model takes more memory than there is."""
    path = files(bundle, "results/measurements/*.json")[0]
    record = json.loads(path.read_text())
    record["target"]["recipe"]["members"] = 10**12
    path.write_text(json.dumps(record))


def a_pickle(bundle):
    files(bundle, "checkpoints/*")[0].write_bytes(b"\x80\x04cos\nsystem\n.")


HOSTILE = [
    *(a_link_out, a_soft_link, external_storage, a_virtual_data_set, images_of_any_size),
    *(one_array_more, other_numbers, no_number, a_link_to_a_file),
    *(a_link_to_a_folder, a_pipe, deep_json, many_images, many_members, a_pickle),
]


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_hostile_files_are_findings(change, bundle, verifier):
    change(bundle)
    if change not in (a_link_to_a_file, a_link_to_a_folder, a_pipe):
        sign_again(bundle)
    found = verifier.bundle(bundle)
    assert not found.holds
    assert "root:" not in found_in(found)


def test_names_reach_no_terminal_as_they_are(bundle, verifier):
    name = "\x1b[2Jgone\u202e.txt"
    (bundle / name).write_text("")
    found = verifier.bundle(bundle)
    (finding,) = found.findings
    assert finding.file == "\\u001b[2Jgone\\u202e.txt"
    assert printable("x" * 1000).endswith("...")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "[" * 200_000, '{"format": 2}', "\xff"], ids=lambda text: text[:9]
)
def test_a_manifest_that_is_none_is_refused(content, bundle, verifier):
    (bundle / MANIFEST).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="not a bundle's manifest"):
        verifier.bundle(bundle)
    (bundle / MANIFEST).unlink()
    with pytest.raises(UserError, match="no bundle in"):
        verifier.bundle(bundle)
    (bundle / MANIFEST).symlink_to("/dev/zero")
    with pytest.raises(UserError, match="no file"):
        verifier.bundle(bundle)


def test_images_beyond_the_budget_are_found(bundle, verifier):
    """Also where everything else says so, too."""
    measurement = one(bundle, "imported", False)
    assert measurement.attack["eps"] == EPS
    path = Paths(bundle).adversarial_sets / f"{measurement.adversarial_set}.h5"
    with h5py.File(path, "r+") as file:
        set_text(file, "summary", json.loads(file.attrs["summary"]) | {"largest_linf": 0.5})
    sign_set(path)
    save_measurement(Paths(bundle), measurement.changed(largest_linf=0.5))
    seal_again(bundle)
    sign_again(bundle)
    found = verifier.bundle(bundle)
    assert f"largest_linf: 0.5; expected: at most {EPS}" in found_in(found)
