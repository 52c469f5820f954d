"""Adversarial sets as somebody might make them who means harm, and as damage makes them."""

import json
import struct
import zlib

import h5py
import numpy as np
from store_artefacts import SET, as_before_digests

N, SIDES = SET.n, (1, 8, 8)


def by_h5py(change):
    """A change that the library makes."""

    def make(path):
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    make.__name__ = change.__name__
    return make


def instead_of_images(file, *shape, **kinds):
    del file["images"]
    return file.create_dataset("images", shape or (N, *SIDES), **{"dtype": "f4", **kinds})


@by_h5py
def a_link_out(file):
    del file["images"]
    file["images"] = h5py.ExternalLink("/etc/passwd", "images")


@by_h5py
def a_soft_link(file):
    file.move("labels", "felled")
    file["labels"] = h5py.SoftLink("/felled")


@by_h5py
def external_storage(file):
    instead_of_images(file, external=[("/etc/passwd", 0, N * 64 * 4)])


@by_h5py
def a_virtual_data_set(file):
    del file["images"]
    layout = h5py.VirtualLayout((N, *SIDES), "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "images", (N, *SIDES))
    file.create_virtual_dataset("images", layout)


@by_h5py
def references(file):
    del file["labels"]
    file["labels"] = np.array([file.ref] * N, dtype=h5py.ref_dtype)


@by_h5py
def references_to_regions(file):
    region = file["images"].regionref[:2]
    del file["labels"]
    file["labels"] = np.array([region] * N, dtype=h5py.regionref_dtype)


@by_h5py
def a_type_of_its_own(file):
    file["type"] = np.dtype("i8")
    del file["labels"]
    file.create_dataset("labels", (N,), dtype=file["type"])


@by_h5py
def text_for_labels(file):
    del file["labels"]
    file["labels"] = ["7"] * N


@by_h5py
def floats_for_labels(file):
    labels = file["labels"][:]
    del file["labels"]
    file["labels"] = labels.astype("f8")


@by_h5py
def images_without_data(file):
    instead_of_images(file, N, 1, 4000, 4000)


@by_h5py
def chunks_without_data(file):
    instead_of_images(file, N, 1, 4000, 4000, chunks=(1, 1, 4000, 4000), compression="gzip")


@by_h5py
def a_chunk_of_gigabytes(file):
    instead_of_images(file, N, 1, 8000, 8000, chunks=(N, 1, 3000, 3000), compression="gzip")


@by_h5py
def a_chunk_that_grows(file):
    file["images"].id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(2**28), 9))


@by_h5py
def another_packing(file):
    instead_of_images(file, compression="lzf")


@by_h5py
def millions_of_labels(file):
    del file["labels"]
    file.create_dataset("labels", (2**40,), dtype="i8", chunks=(1000,))


@by_h5py
def one_image_more(file):
    instead_of_images(file, N + 1, *SIDES)


@by_h5py
def no_images_of_two_dimensions(file):
    instead_of_images(file, N, 64)


@by_h5py
def one_array_more(file):
    file["more"] = np.zeros(3)


@by_h5py
def a_group(file):
    file.create_group("/".join("a" * 500))


@by_h5py
def thousands_of_arrays(file):
    for number in range(2000):
        file[f"a{number}"] = 0


@by_h5py
def thousands_of_attributes(file):
    for number in range(2000):
        file.attrs[f"a{number}"] = number


@by_h5py
def a_large_attribute(file):
    file.attrs["more"] = np.zeros(8000)


@by_h5py
def no_number(file):
    file["images"][3] = np.nan


@by_h5py
def a_pixel_above_1(file):
    file["images"][3, 0, 0, 0] = 1.5


@by_h5py
def predictions_that_are_the_labels(file):
    file["predictions"][:] = file["labels"][:]


@by_h5py
def another_felling(file):
    file["felled_by"][:] = -1


@by_h5py
def another_index(file):
    file["indices"][-1] = N + 3


@by_h5py
def another_title(file):
    file.attrs["stages"] = np.bytes_(b'["GDP"]')


@by_h5py
def another_seed(file):
    spec = json.loads(file.attrs["spec"])
    file.attrs["spec"] = np.bytes_(json.dumps({**spec, "seed": 1}).encode())


@by_h5py
def another_cost(file):
    summary = json.loads(file.attrs["summary"])
    file.attrs["summary"] = np.bytes_(json.dumps({**summary, "seconds": 1e-3}).encode())


@by_h5py
def deep_json(file):
    file.attrs["spec"] = np.bytes_(b"[" * 60_000)


def the_newest_hdf5(path):
    with h5py.File(path) as old, h5py.File(path.with_name("new"), "w", libver="latest") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
    return path.with_name("new").replace(path)


def patched(find, put, everywhere=False):
    """A change of the bytes behind a mark."""

    def make(path):
        content = path.read_bytes()
        assert find in content
        parts = content.split(find)
        places = range(1, len(parts) if everywhere else 2)
        for place in places:
            parts[place] = put + parts[place][len(put) :]
        path.write_bytes(find.join(parts))
        return path

    return make


def in_old_text(change):
    """The same in a set whose text has any length."""

    def make(path):
        as_before_digests(path)
        return change(path)

    return make


def a_tree_that_leads_to_itself(path):
    content = bytearray(path.read_bytes())
    tree = content.index(b"TREE")
    content[tree + 5] = 1  # its children are trees
    content[tree + 32 : tree + 40] = struct.pack("<Q", tree)
    path.write_bytes(content)
    return path


def a_header_that_goes_on_for_ever(path):
    """The root group's header is continued by itself."""
    content = bytearray(path.read_bytes())
    (root,) = struct.unpack_from("<Q", content, 64)
    content[root + 2 : root + 4] = b"\xff\xff"
    content[root + 16 : root + 40] = struct.pack("<HHIQQ", 16, 16, 0, root + 16, 24)
    path.write_bytes(content)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[:-3000])
    return path


HOSTILE = {
    **{
        change.__name__.replace("_", " "): change
        for change in (
            *(a_link_out, a_soft_link, external_storage, a_virtual_data_set, references),
            *(references_to_regions, a_type_of_its_own, text_for_labels, floats_for_labels),
            *(images_without_data, chunks_without_data, a_chunk_of_gigabytes, a_chunk_that_grows),
            *(another_packing, millions_of_labels, one_image_more, no_images_of_two_dimensions),
            *(one_array_more, a_group, thousands_of_arrays, thousands_of_attributes),
            *(a_large_attribute, no_number, a_pixel_above_1, predictions_that_are_the_labels),
            *(another_felling, another_index, another_title, another_seed, another_cost),
            *(deep_json, the_newest_hdf5, a_tree_that_leads_to_itself),
            *(a_header_that_goes_on_for_ever, cut),
        )
    },
    # HDF5's library does not return from the first of these.
    "64 zeros in the heap": in_old_text(patched(b"GCOL", bytes(60), everywhere=True)),
    "zeros in the heap's text": in_old_text(patched(b"GCOL\x01\0\0\0", bytes(64), everywhere=True)),
    "a heap without an end": in_old_text(
        patched(b"GCOL\x01\0\0\0", b"\xff" * 7 + b"\x7f", everywhere=True)
    ),
    "a long heap": in_old_text(patched(b"GCOL\x01\0\0\0", struct.pack("<Q", 2**33))),
    "no heap of names": patched(b"HEAP", bytes(64)),
    "zeros in a tree": patched(b"TREE", bytes(40), everywhere=True),
    "a large tree": patched(b"TREE", b"\x01\0\xff\xff", everywhere=True),
    "zeros in the group": patched(b"SNOD", bytes(64)),
}
"""What is done to the file of a whole set, by name."""
