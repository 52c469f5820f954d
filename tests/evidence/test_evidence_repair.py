"""Repairing: what does not hold is set aside, what can be made again is, and nothing is lost."""

import json
import shutil

import h5py
import pytest
from bundles import bundle_of, flip
from tampering import files, seal_again, swap

from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.repair import repair
from robustbench_pcl.store.adversarial_sets import find_set
from robustbench_pcl.store.records import Measurement, Paths, read_record, save_measurement


@pytest.fixture
def home(unfinished_home, tmp_path):
    return shutil.copytree(unfinished_home, tmp_path / "home")


def contents(home):
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for top in ("checkpoints", "results")
        for path in (home / top).rglob("*")
        if path.is_file()
    }


def numbers(home):
    """What measurements and sets say, but for when and how fast they were made."""
    paths, found = Paths(home), {}
    for path in paths.measurements.glob("*.json"):
        record = read_record(path, Measurement)
        found[path.stem] = record.changed(created="", seconds=0.0)
        if record.adversarial_set:
            images = find_set(paths.adversarial_sets, record.adversarial_set)
            pixels = b"".join(batch.tobytes() for batch, _ in images.batches(100))
            found[images.spec.id] = pixels, {k: v.tolist() for k, v in images.columns.items()}
    return found


def measured(home, target, attack=None, source=None):
    """The file of a measurement."""
    (path,) = [
        path
        for path in files(home, "results/measurements/*.json")
        if described(read_record(path, Measurement)) == (target, attack, source)
    ]
    return path


def described(record):
    attack, source = record.attack and record.attack["name"], record.source
    return record.target.recipe.name, attack, source and source.recipe.name


def set_of(home, *wanted):
    record = read_record(measured(home, *wanted), Measurement)
    return Paths(home).adversarial_sets / f"{record.adversarial_set}.h5"


def a_count(home):
    path = measured(home, "softmax")
    path.write_text(json.dumps({**json.loads(path.read_text()), "correct": 999}))
    return [path]


def a_record_that_cannot_be_read(home):
    path = measured(home, "ours", "pgd", "softmax")
    path.write_bytes(b"{")
    return [path]


def a_verdict_with_all_that_follows(home):
    path = measured(home, "ours", "pgd", "softmax")
    save_measurement(Paths(home), flip(read_record(path, Measurement), 3))
    return [path]


def predictions(home):
    path = set_of(home, "ours", "pgd", "ours")
    with h5py.File(path, "r+") as file:
        file["predictions"][:] = file["labels"][:]
    return [path]


def black_images_with_their_digests(home):
    path = set_of(home, "ours", "pgd", "softmax")
    with h5py.File(path, "r+") as file:
        file["images"][:] = 0
    seal_again(home)
    return [path]


def a_set_and_its_measurement(home):
    """The set still says what it is."""
    path, record = set_of(home, "ours", "pgd", "ours"), measured(home, "ours", "pgd", "ours")
    with h5py.File(path, "r+") as file:
        file["labels"][3] = 11
    record.write_bytes(b"")
    return [path, record]


def a_set_that_cannot_be_read(home):
    """Its measurement says what it is."""
    path = set_of(home, "ours", "pgd", "softmax")
    path.write_bytes(path.read_bytes()[:300])
    return [path]


def two_records_swapped(home):
    paths = measured(home, "ours"), measured(home, "softmax")
    swap(*paths)
    return list(paths)


def two_checkpoints_swapped(home):
    paths = files(home, "checkpoints/*.safetensors")[:2]
    swap(*paths)
    return paths


MADE_AGAIN = (
    *(a_count, a_record_that_cannot_be_read, a_verdict_with_all_that_follows, predictions),
    *(black_images_with_their_digests, a_set_and_its_measurement, a_set_that_cannot_be_read),
    *(two_records_swapped, two_checkpoints_swapped),
)


@pytest.mark.parametrize("damage", MADE_AGAIN, ids=lambda damage: damage.__name__)
def test_what_can_be_made_again_is(damage, home, unfinished_home, verifier):
    damaged = {path.relative_to(home).as_posix() for path in damage(home)}
    before = contents(home)
    done = repair(verifier, home)
    assert done.found.findings == []
    assert damaged <= set(done.aside)
    assert damaged <= set(done.made)
    assert done.left == {}
    assert numbers(home) == numbers(unfinished_home)
    after = contents(home)
    assert {path: after[place] for path, place in done.aside.items()} == {
        path: before[path] for path in done.aside
    }


def a_byte_of(pattern):
    def change(home):
        path = files(home, pattern)[0]
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return path

    return change


def a_field_of(pattern, **changes):
    def change(home):
        path = files(home, pattern)[0]
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return path

    return change


def the_imported_set(home):
    path = set_of(home, "softmax", "imported")
    path.write_bytes(b"")
    return path


def a_part(home):
    (path,) = files(home, "results/adversarial_sets/*.parts/*")
    with h5py.File(path, "r+") as file:
        file["images"][1] = 0
    return path


NOT_MADE_AGAIN = {
    "weights": (
        a_byte_of("checkpoints/*-softmax-*.safetensors"),
        "pclbench train digits --recipe softmax --scale demo --seed 0",
    ),
    "a training record": (
        a_field_of("results/trainings/*.json", seconds_per_epoch=-1.0),
        "only training again tells",
    ),
    "a diagnosis": (
        a_field_of("results/diagnoses/*.json", withstood=-1),
        "pclbench diagnose ours --dataset digits --scale demo --attack pgd --eps 0.1",
    ),
    "a certificate": (
        a_field_of("results/certificates/*.json", method="none"),
        "pclbench certify ours --dataset digits --scale demo",
    ),
    "the state of a training": (a_byte_of("checkpoints/partial/*"), "starts again"),
    "a part of a set": (a_part, "with its adversarial set"),
    "images of another tool": (the_imported_set, "imports it"),
}


@pytest.mark.parametrize("which", NOT_MADE_AGAIN)
def test_what_cannot_be_made_again_is_named_with_its_command(which, home, verifier):
    damage, words = NOT_MADE_AGAIN[which]
    path = damage(home).relative_to(home).as_posix()
    done = repair(verifier, home)
    assert done.found.findings == []
    assert list(done.aside) == [path]
    assert done.made == []
    assert words in done.left[path]
    assert not (home / path).exists()


def test_an_embedding_is_laid_out_again(home, verifier):
    path = a_byte_of("results/embeddings/*")(home).relative_to(home).as_posix()
    done = repair(verifier, home)
    assert done.found.findings == []
    assert (list(done.aside), done.made, done.left) == ([path], [path], {})


def test_a_copy_under_another_name_is_only_set_aside(home, verifier):
    path = measured(home, "ours")
    shutil.copy(path, path.with_name("0123456789ab.json"))
    done = repair(verifier, home)
    assert list(done.aside) == ["results/measurements/0123456789ab.json"]
    assert (done.made, done.found.findings) == ([], [])
    assert path.exists()


def test_what_holds_is_left_as_it_is(home, verifier):
    before = contents(home)
    done = repair(verifier, home)
    assert (done.aside, done.made, done.left, done.found.findings) == ({}, [], {}, [])
    assert contents(home) == before


def test_what_was_set_aside_before_is_kept(home, verifier):
    for _ in range(2):
        a_count(home)
        repair(verifier, home)
    aside = [name for name in contents(home) if name.startswith("results/damaged/")]
    assert len(aside) == 2


def test_a_bundle_is_not_changed(unfinished_home, tmp_path, verifier):
    bundle_of(unfinished_home, tmp_path / "bundle")
    with pytest.raises(UserError, match="is not changed") as refused:
        repair(verifier, tmp_path / "bundle")
    assert "--home DIR --repair" in refused.value.cure
