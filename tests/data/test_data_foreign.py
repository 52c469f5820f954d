"""Files of other tools: every format and layout gives the same images; the rest is refused."""

import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from robustbench_pcl.data import hdf5_worker
from robustbench_pcl.data.foreign import read_foreign
from robustbench_pcl.errors import UserError

N, SHAPE = 6, (3, 4, 5)
PIXELS = np.random.default_rng(0).integers(0, 256, (N, *SHAPE), dtype=np.uint8)
IMAGES = PIXELS.astype(np.float32) / 255
LABELS = np.arange(N)


def hdf5(path: Path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def torch_file(path: Path, **arrays):
    torch.save({name: torch.as_tensor(array.copy()) for name, array in arrays.items()}, path)


WRITERS = {
    "a.h5": hdf5,
    "a.hdf5": hdf5,
    "a.npz": np.savez,
    "b.npz": np.savez_compressed,
    "a.pt": torch_file,
    "a.pth": torch_file,
    "A.PT": torch_file,
    "a.safetensors": lambda path, **arrays: save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}, path
    ),
}
LAYOUTS = {
    "bytes": PIXELS,
    "float32": IMAGES,
    "float64": IMAGES.astype(np.float64),
    "channels last": IMAGES.transpose(0, 2, 3, 1),
    "bytes, channels last": PIXELS.transpose(0, 2, 3, 1),
    "beyond 1 by rounding": IMAGES + np.float32(1e-6),
}


def read(path: Path, shape=SHAPE, most=10):
    return read_foreign(path, shape, most)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_images(name, layout, tmp_path):
    path = tmp_path / name
    WRITERS[name](path, x_adv=LAYOUTS[layout], y=LABELS, indices=LABELS[::-1])
    found = read(path)
    assert found.images.dtype == np.float32
    np.testing.assert_allclose(found.images, IMAGES, rtol=0, atol=2e-6)
    assert found.images.max() <= 1
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(found.indices, LABELS[::-1])


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_name_says_is_adversarial_counts_before_images(name, tmp_path):
    path = tmp_path / name
    WRITERS[name](path, images=np.zeros_like(PIXELS), adv=PIXELS, x=np.zeros_like(PIXELS))
    found = read(path)
    np.testing.assert_array_equal(found.images, IMAGES)
    assert found.labels is None
    assert found.indices is None


ALONE = {
    "a.npy": lambda path: np.save(path, PIXELS),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(PIXELS)),
    "a.npz": lambda path: np.savez(path, PIXELS),
    "a.pt": lambda path: torch.save(torch.as_tensor(PIXELS), path),
    "b.pt": lambda path: torch.save((torch.as_tensor(IMAGES), torch.arange(N)), path),
    "c.pt": lambda path: torch.save(torch.as_tensor(IMAGES).requires_grad_(), path),
    "a.h5": lambda path: hdf5(path, anything=PIXELS),
}


@pytest.mark.parametrize("name", ALONE)
def test_an_only_array_needs_no_name(name, tmp_path):
    ALONE[name](tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name).images, IMAGES)


def test_half_precision_is_read_as_float32(tmp_path):
    half = torch.as_tensor(IMAGES)
    torch.save({"adv": half.half()}, tmp_path / "a.pt")
    save_tensors({"adv": half.bfloat16()}, tmp_path / "a.safetensors")
    np.testing.assert_allclose(read(tmp_path / "a.pt").images, IMAGES, atol=1e-3)
    np.testing.assert_allclose(read(tmp_path / "a.safetensors").images, IMAGES, atol=4e-3)


def test_grey_images_need_no_channel(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS[:, 0])
    found = read(tmp_path / "a.npy", shape=(1, 4, 5))
    np.testing.assert_array_equal(found.images, IMAGES[:, :1])


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def linked(path: Path):
    """The images lie in another file."""
    hdf5(path.with_name("other.h5"), adv=PIXELS)
    with h5py.File(path, "w") as file:
        file["adv"] = h5py.ExternalLink("other.h5", "adv")


def outside(path: Path):
    """The bytes of the images lie in another file."""
    path.with_name("raw").write_bytes(PIXELS.tobytes())
    with h5py.File(path, "w") as file:
        stored = [(str(path.with_name("raw")), 0, PIXELS.nbytes)]
        file.create_dataset("adv", PIXELS.shape, "u1", external=stored)


def virtual(path: Path):
    """The images are a view of another file."""
    hdf5(path.with_name("other.h5"), adv=PIXELS)
    layout = h5py.VirtualLayout(PIXELS.shape, "u1")
    layout[:] = h5py.VirtualSource(path.with_name("other.h5"), "adv", PIXELS.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("adv", layout)


def huge_chunk(path: Path):
    """A few bytes that take gigabytes while they are unpacked."""
    with h5py.File(path, "w") as file:
        shape, most = (N, *SHAPE), (None, *SHAPE)
        file.create_dataset("adv", shape, "u1", chunks=(2**24, *SHAPE), maxshape=most)


def endless(path: Path):
    """Its library goes round in the group's tree, taking memory, until it is stopped."""
    hdf5(path, adv=PIXELS)
    content = bytearray(path.read_bytes())
    tree = content.index(b"TREE")
    content[tree + 5] = 1  # what it leads to are trees,
    content[tree + 32 : tree + 40] = tree.to_bytes(8, "little")  # namely itself
    path.write_bytes(content)


def huge_npz(path: Path):
    """Zeros, a thousand times as many as the header says, in a small file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adv.npy", bytes(2**26))


def promising(path: Path):
    """A header that says terabytes, and nothing after it."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**10, *SHAPE)}
        np.lib.format.write_array_header_1_0(file, header)


def padded(path: Path):
    """Tensors beside which lies much more than is asked for."""
    torch.save({"adv": torch.zeros(N, *SHAPE), "more": torch.zeros(2**20)}, path)


BAD = {
    "nothing.npz": (lambda path: None, "no file"),
    "folder.npz": (Path.mkdir, "no file"),
    "a.csv": (lambda path: path.write_text("1,2"), "no kind of file"),
    "text.npz": (lambda path: path.write_text("<html>"), "cannot be read"),
    "text.h5": (lambda path: path.write_text("<html>"), "cannot be read"),
    "text.npy": (lambda path: path.write_text("<html>"), "cannot be read"),
    "text.pt": (lambda path: path.write_text("<html>"), "torch.save"),
    "text.safetensors": (lambda path: path.write_text("<html>"), "cannot be read"),
    "empty.npy": (lambda path: path.write_bytes(b""), "cannot be read"),
    "pickle.pt": (lambda path: torch.save({"adv": Evil()}, path), "more than tensors"),
    "pickle.npz": (lambda path: np.savez(path, adv=np.array([Evil()])), "object"),
    "pickle.npy": (lambda path: np.save(path, np.array([Evil()])), "object"),
    "plain.pt": (lambda path: path.write_bytes(pickle.dumps(Evil())), "torch.save"),
    "legacy.pt": (
        lambda path: torch.save(
            torch.as_tensor(PIXELS), path, _use_new_zipfile_serialization=False
        ),
        "torch.save",
    ),
    "none.npz": (lambda path: np.savez(path, a=PIXELS, b=PIXELS), "'a', 'b'"),
    "number.pt": (lambda path: torch.save(7, path), "no array"),
    "linked.h5": (linked, "no array"),
    "outside.h5": (outside, "no array"),
    "virtual.h5": (virtual, "no array"),
    "chunk.h5": (huge_chunk, "no array"),
    "endless.h5": (endless, "does not get through it"),
    "zeros.npz": (huge_npz, "no array"),
    "padded.pt": (padded, "bytes"),
    "size.npy": (lambda path: np.save(path, PIXELS[:, :, :3]), "3 x 4 x 5"),
    "flat.npy": (lambda path: np.save(path, PIXELS.reshape(N, -1)), "3 x 4 x 5"),
    "scalar.npy": (lambda path: np.save(path, np.float32(0.5)), "3 x 4 x 5"),
    "many.npy": (lambda path: np.save(path, np.repeat(PIXELS, 2, axis=0)), "12 images"),
    "no.npy": (lambda path: np.save(path, PIXELS[:0]), "0 images"),
    "promise.npy": (promising, "10,000,000,000 images"),
    "integers.npy": (lambda path: np.save(path, PIXELS.astype(np.int64)), "int64"),
    "complex.npy": (lambda path: np.save(path, PIXELS.astype(np.complex64)), "complex64"),
    "text-array.npy": (lambda path: np.save(path, PIXELS.astype(str)), "<U3"),
    "bytes.npy": (lambda path: np.save(path, 255 * IMAGES), "0 to 255"),
    "normal.npy": (lambda path: np.save(path, (IMAGES - 0.5) / 0.25), "normalised"),
    "nan.npy": (lambda path: np.save(path, np.where(IMAGES > 0.99, np.nan, IMAGES)), "NaN"),
    "inf.npy": (lambda path: np.save(path, np.where(IMAGES > 0.99, np.inf, IMAGES)), "infinite"),
    "one-hot.npz": (lambda path: np.savez(path, adv=PIXELS, y=np.eye(N)), "one integer"),
    "few.npz": (lambda path: np.savez(path, adv=PIXELS, y=LABELS[1:]), "one integer"),
    "cut.h5": (lambda path: _cut(path, hdf5), "cannot be read"),
    "cut.npz": (lambda path: _cut(path, np.savez), "cannot be read"),
    "cut.pt": (lambda path: _cut(path, torch_file), "torch.save"),
}


def _cut(path: Path, write):
    write(path, adv=PIXELS, y=LABELS)
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused_with_a_reason(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, reason = BAD[name]
    write(tmp_path / name)
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    assert reason in error.value.cause + error.value.cure
    assert "\n" not in error.value.cause + error.value.cure
    assert not Path("unpickled").exists()


def test_what_takes_too_long_is_stopped(tmp_path, monkeypatch):
    hdf5(tmp_path / "a.h5", adv=PIXELS)
    read(tmp_path / "a.h5")
    monkeypatch.setattr(hdf5_worker, "SECONDS", 0)
    with pytest.raises(UserError, match="HDF5's library does not get through it"):
        read(tmp_path / "a.h5")
