"""Checkpoints: what is written comes back, and nothing else is believed, let alone executed."""

import io
import pickle
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from store_artefacts import DATA, HERE, OURS, SET, SOFTMAX, TRAINING, weights

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.checkpoints import (
    find_checkpoint,
    find_checkpoints,
    load_arrays,
    open_checkpoint,
    save_arrays,
    save_checkpoint,
    weights_digest,
)
from robustbench_pcl.store.records import load_trainings, save_training

ID = OURS.id(DATA.digest)


@pytest.fixture
def checkpoint(tmp_path):
    return save_checkpoint(tmp_path, OURS, ID, weights())


def assert_refused(path, *words):
    """Whatever asks for the checkpoint gets one line of cause and one of cure."""
    for read in (open_checkpoint, load_arrays):
        with pytest.raises(UserError) as raised:
            read(path)
        for line in (raised.value.cause, raised.value.cure):
            assert line
            assert "\n" not in line
        assert str(path) in raised.value.cause
        for word in words:
            assert word in str(raised.value)


def test_a_checkpoint_comes_back(tmp_path, checkpoint):
    found = find_checkpoint(tmp_path, ID)
    assert found == checkpoint == open_checkpoint(checkpoint.path)
    assert found.record.recipe == OURS
    assert found.record.recipe.start == SOFTMAX
    digest = weights_digest(weights())
    assert found.path.name == f"digits-ours-demo-{ID}-{digest}.safetensors"
    loaded = load_arrays(found.path, found.record.weights)
    assert loaded.keys() == weights().keys()
    for name, array in weights().items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert find_checkpoint(tmp_path, "ba9876543210") is None
    assert find_checkpoint(tmp_path / "nowhere", ID) is None


def test_the_weights_digest_sees_names_shapes_types_and_bytes():
    arrays = weights()
    digest = weights_digest(arrays)
    assert digest == weights_digest(dict(reversed(arrays.items())))
    for name, array in (
        ("weight", arrays["weight"].reshape(4, 3, 25)),
        ("weight", np.nextafter(arrays["weight"], 1)),
        ("steps", arrays["steps"].astype(np.int32)),
        ("other", arrays["steps"]),
    ):
        assert weights_digest({**arrays, name: array}) != digest


# One recipe, trained to different weights


@pytest.fixture
def two(paths):
    """One recipe trained with 1 and with 2 threads, each with its training record."""
    made = []
    for threads in (1, 2):
        saved = save_checkpoint(paths.checkpoints, OURS, ID, weights(seed=threads))
        changes = {"checkpoint": ID, "weights": saved.record.weights}
        where = HERE.changed(threads=threads)
        save_training(paths, TRAINING.changed(environment=where, **changes))
        made.append(saved)
    return made


def test_both_are_kept_and_seen(paths, two):
    assert sorted(paths.checkpoints.iterdir()) == sorted(saved.path for saved in two)
    assert find_checkpoints(paths.checkpoints, ID) == sorted(two, key=lambda saved: saved.path)
    threads = {record.weights: record.environment.threads for record in load_trainings(paths)}
    assert threads == {saved.record.weights: number for number, saved in enumerate(two, 1)}


def test_the_first_by_name_is_used_and_names_the_others(paths, two):
    first, second = sorted(two, key=lambda saved: saved.path)
    found = find_checkpoint(paths.checkpoints, ID)
    assert (found.path, found.record) == (first.path, first.record)
    assert found.others == (second,)
    np.testing.assert_array_equal(
        load_arrays(found.path)["weight"], load_arrays(first.path)["weight"]
    )
    nearest = found.standing_for(OURS.changed(inference="nearest"))
    assert nearest.others == found.others
    second.path.unlink()
    assert find_checkpoint(paths.checkpoints, ID).others == ()


def test_they_are_different_models_with_different_adversarial_sets(two):
    one, other = (saved.record for saved in two)
    assert one.checkpoint == other.checkpoint
    assert one.key != other.key
    assert SET.changed(source=one).id != SET.changed(source=other).id


def test_the_same_weights_under_two_names_are_one(paths, checkpoint):
    saved = save_checkpoint(paths.checkpoints, OURS, ID, weights())
    save_checkpoint(paths.checkpoints, OURS.changed(name="renamed", scale="quick"), ID, weights())
    found = find_checkpoint(paths.checkpoints, ID)
    assert found.path == saved.path
    assert found.others == ()


# Other files


class Payload:
    """What a pickled file can do to whoever opens it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def zipped(payload, **options):
    buffer = io.BytesIO()
    torch.save({"state_dict": payload}, buffer, **options)
    return buffer.getvalue()


def legacy(payload):
    return zipped(payload, _use_new_zipfile_serialization=False)


def unpickled_by_torch(data):
    return torch.load(io.BytesIO(data), weights_only=False)


PICKLES = {
    "zip": (zipped, unpickled_by_torch),
    "legacy": (legacy, unpickled_by_torch),
    "protocol-0": (lambda payload: pickle.dumps(payload, protocol=0), pickle.loads),
    "protocol-2": (lambda payload: pickle.dumps(payload, protocol=2), pickle.loads),
    "protocol-5": (lambda payload: pickle.dumps(payload, protocol=5), pickle.loads),
}


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_pickles_are_refused_and_never_executed(tmp_path, kind, suffix):
    write, execute = PICKLES[kind]
    canary = tmp_path / "canary"
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(write(Payload(canary)))
    assert_refused(path)
    if kind != "protocol-0":  # which is plain text
        assert_refused(path, "pickled", "can run code")
    assert not canary.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        execute(path.read_bytes())
    assert canary.exists()  # the payload was live: opening the file is what was avoided


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"\n  <HTML><head>", "a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "gzip"),
        (b"", "truncated"),
        (bytes(1000), "truncated or damaged"),
        (b"\xff" * 1000, "truncated or damaged"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, words):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert_refused(path, words)


def test_an_hdf5_file_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    with h5py.File(path, "w") as file:
        file["weight"] = np.zeros(3)
    assert_refused(path, "an HDF5 file")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert_refused(tmp_path / "missing.safetensors", "no such file", "pclbench train")
    assert_refused(tmp_path, "directory")


def test_safetensors_of_someone_else_have_no_recipe(tmp_path):
    path = tmp_path / "model.safetensors"
    plain = {name: np.ascontiguousarray(array) for name, array in weights().items()}
    for metadata in (None, {"format": "pt"}):
        save_file(plain, path, metadata=metadata)
        with pytest.raises(UserError, match="no recipe, so it was not written by pclbench"):
            open_checkpoint(path)


@pytest.mark.parametrize(
    "description", ["{", "[]", "null", '{"format": 2}', '{"format": 2, "checkpoint": 3}']
)
def test_a_damaged_description_is_named(tmp_path, description):
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.zeros(3)}, path, metadata={"pclbench": description})
    with pytest.raises(UserError, match=r"damaged|cannot be read"):
        open_checkpoint(path)


def test_a_recipe_with_a_strange_field_is_named(checkpoint):
    content = checkpoint.record.content()
    content["recipe"]["colour"] = "blue"
    save_arrays(checkpoint.path, weights(), content)
    with pytest.raises(UserError, match=r"recipe\.colour.*another version"):
        open_checkpoint(checkpoint.path)


def test_weights_swapped_under_a_header_are_found(checkpoint):
    save_arrays(checkpoint.path, weights(seed=1), checkpoint.record.content())
    swapped = open_checkpoint(checkpoint.path)
    with pytest.raises(UserError, match="not the ones that its header names"):
        load_arrays(swapped.path, swapped.record.weights)


def test_one_flipped_bit_of_the_weights_is_found(checkpoint):
    content = bytearray(checkpoint.path.read_bytes())
    content[-5] ^= 1
    checkpoint.path.write_bytes(content)
    with pytest.raises(UserError, match="not the ones that its header names"):
        load_arrays(checkpoint.path, checkpoint.record.weights)
