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

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.checkpoints import (
    find_checkpoint,
    open_checkpoint,
    save_checkpoint,
)
from robustbench_pcl.store.tensors import load_arrays, save_arrays, weights_digest
from robustbench_pcl.training.assemble import arrays_of, build_model, laid_out, restore


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "weight": random.normal(size=(4, 3, 5, 5)).astype(np.float32),
        "steps": np.array(7, dtype=np.int64),
        "transposed": random.normal(size=(6, 4)).astype(np.float32).T,
    }


@pytest.fixture
def checkpoint(tmp_path, tiny, arrays):
    return save_checkpoint(tmp_path, tiny("ours"), "0123456789ab", arrays)


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


def test_round_trip(tmp_path, tiny, arrays, checkpoint):
    found = find_checkpoint(tmp_path, "0123456789ab")
    assert found == checkpoint == open_checkpoint(checkpoint.path)
    assert found.record.recipe == tiny("ours")
    assert found.record.recipe.start == tiny("softmax")
    assert found.path.name == "digits-ours-demo-0123456789ab.safetensors"
    loaded = found.arrays()
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert find_checkpoint(tmp_path, "ba9876543210") is None
    assert find_checkpoint(tmp_path / "nowhere", "0123456789ab") is None


def test_the_weights_digest_sees_names_shapes_types_and_bytes(arrays):
    digest = weights_digest(arrays)
    assert digest == weights_digest(dict(reversed(arrays.items())))
    for name, array in (
        ("weight", arrays["weight"].reshape(4, 3, 25)),
        ("weight", np.nextafter(arrays["weight"], 1)),
        ("steps", arrays["steps"].astype(np.int32)),
        ("other", arrays["steps"]),
    ):
        assert weights_digest({**arrays, name: array}) != digest


def test_a_real_model_comes_back_to_the_same_logits(tmp_path, tiny):
    recipe = tiny("ours")
    model = laid_out(build_model(recipe, [0.3], [0.4]), torch.device("cpu")).eval()
    with torch.no_grad():
        model.criterion.losses["4"].prototypes.normal_()
    saved = save_checkpoint(tmp_path, recipe, "0123456789ab", arrays_of(model))
    restored = restore(saved)
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(restored(images), model(images))
        labels = torch.arange(5)
        joint = [one.joint_loss(images, labels) for one in (restored, model)]
        assert all(torch.equal(*both) for both in zip(*joint, strict=True))
    assert not restored.training


class Payload:
    """What a pickled file can do to whoever opens it."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def zipped(payload):
    buffer = io.BytesIO()
    torch.save({"state_dict": payload}, buffer)
    return buffer.getvalue()


def legacy(payload):
    buffer = io.BytesIO()
    torch.save({"state_dict": payload}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


PICKLES = {
    "zip": (zipped, lambda data: torch.load(io.BytesIO(data), weights_only=False)),
    "legacy": (legacy, lambda data: torch.load(io.BytesIO(data), weights_only=False)),
    **{
        f"protocol-{number}": (
            lambda payload, number=number: pickle.dumps(payload, protocol=number),
            pickle.loads,
        )
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_pickles_are_refused_and_never_executed(tmp_path, kind, suffix):
    write, execute = PICKLES[kind]
    canary = tmp_path / "canary"
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(write(Payload(canary)))
    assert_refused(path)
    if kind in ("zip", "legacy", "protocol-2", "protocol-5"):
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
        (b"x", "truncated"),
        (bytes(1000), "truncated or damaged"),
        (b"\xff" * 1000, "truncated or damaged"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, words):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert_refused(path, words)


def test_an_hdf5_file(tmp_path):
    path = tmp_path / "model.safetensors"
    with h5py.File(path, "w") as file:
        file["weight"] = np.zeros(3)
    assert_refused(path, "an HDF5 file")


def test_a_missing_file_and_a_folder(tmp_path):
    assert_refused(tmp_path / "missing.safetensors", "No such file", "pclbench train")
    assert_refused(tmp_path, "directory")


def test_a_truncated_file_of_any_length(checkpoint):
    content = checkpoint.path.read_bytes()
    lengths = {*range(0, 20), *range(20, len(content), 37), len(content) - 1}
    for length in lengths:
        checkpoint.path.write_bytes(content[:length])
        assert_refused(checkpoint.path)
    checkpoint.path.write_bytes(content)
    assert open_checkpoint(checkpoint.path) == checkpoint


def test_safetensors_of_someone_else(tmp_path, arrays):
    path = tmp_path / "model.safetensors"
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for metadata in (None, {"format": "pt"}):
        save_file(plain, path, metadata=metadata)
        with pytest.raises(UserError, match="no recipe, so it was not written by pclbench"):
            open_checkpoint(path)


@pytest.mark.parametrize("description", ["{", "[]", "null", "{}", '{"checkpoint": 3}'])
def test_a_damaged_description(tmp_path, description):
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.zeros(3)}, path, metadata={"pclbench": description})
    with pytest.raises(UserError, match=r"damaged|cannot be read"):
        open_checkpoint(path)


def test_a_recipe_of_another_version(tmp_path, checkpoint, arrays):
    content = checkpoint.record.content()
    content["recipe"]["colour"] = "blue"
    save_arrays(checkpoint.path, arrays, content)
    with pytest.raises(UserError, match=r"recipe\.colour.*another version"):
        open_checkpoint(checkpoint.path)


def test_weights_swapped_under_a_header(checkpoint, arrays):
    arrays["weight"] = arrays["weight"] + 1
    save_arrays(checkpoint.path, arrays, checkpoint.record.content())
    swapped = open_checkpoint(checkpoint.path)
    with pytest.raises(UserError, match="not the ones that its header names"):
        swapped.arrays()


def test_one_flipped_bit_of_the_weights(checkpoint):
    content = bytearray(checkpoint.path.read_bytes())
    content[-5] ^= 1
    checkpoint.path.write_bytes(content)
    with pytest.raises(UserError, match="not the ones that its header names"):
        open_checkpoint(checkpoint.path).arrays()


def test_weights_of_another_model(tmp_path, tiny):
    recipe = tiny("softmax")
    for other, words in (
        (tiny("softmax", width=0.3), r"classifier.head.weight is \(10, 19\) where \(10, 13\)"),
        (tiny("ours"), "criterion.losses.3"),
    ):
        arrays = arrays_of(build_model(other, [0.0], [1.0]))
        saved = save_checkpoint(tmp_path, recipe, "0123456789ab", arrays)
        with pytest.raises(UserError, match=f"another model's weights: .*{words}"):
            restore(saved)
