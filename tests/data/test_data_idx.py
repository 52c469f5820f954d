"""IDX files are read as written, and damaged ones are named."""

import gzip
import struct

import numpy as np
import pytest

from robustbench_pcl.data.archives import (
    CLASSIC_NAMES,
    assemble_idx,
    classic_name,
    members,
    parse_idx,
    parse_idx_files,
)
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import UserError

CONTENT = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
FILE = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4) + CONTENT.tobytes()


@pytest.mark.parametrize("data", [FILE, gzip.compress(FILE, mtime=0)], ids=["plain", "gzip"])
def test_an_array_survives(data):
    assert np.array_equal(parse_idx(data, "x"), CONTENT)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_four_files_survive(zipped, toy, idx_files, tmp_path):
    raw = toy(dataset_spec("mnist"))
    folder = idx_files(raw, tmp_path / "raw", zipped)
    found = assemble_idx(parse_idx_files(members(folder)), "here")
    assert np.array_equal(found.train_images, raw.train_images)
    assert np.array_equal(found.train_labels, raw.train_labels)
    assert np.array_equal(found.test_images, raw.test_images)
    assert np.array_equal(found.test_labels, raw.test_labels)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FILE[:3],
        FILE[:10],
        FILE[:-1],
        FILE + b"\0",
        b"\0\0\x0d" + FILE[3:],  # floats
        b"\0\0\x08\0",  # no dimensions
        struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        gzip.compress(FILE, mtime=0)[:-12],
        gzip.compress(FILE, mtime=0)[:20] + b"\xff" * 20,
        b"\x1f\x8bnothing",
        b"<!DOCTYPE html><title>404</title>",
    ],
)
def test_damage_names_the_file(data):
    with pytest.raises(UserError, match="raw/train-images is damaged or incomplete"):
        parse_idx(data, "raw/train-images")


def test_a_missing_file_is_named(toy, idx_files, tmp_path):
    folder = idx_files(toy(dataset_spec("mnist")), tmp_path / "raw")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="missing: t10k-labels-idx1-ubyte"):
        assemble_idx(parse_idx_files(members(folder)), "here")


def test_swapped_files_are_noticed():
    arrays = dict.fromkeys(CLASSIC_NAMES, np.zeros(5, dtype=np.uint8))
    with pytest.raises(UserError, match="1 dimensions, not 3"):
        assemble_idx(arrays, "here")


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ("a/train-images-idx3-ubyte", "train-images-idx3-ubyte"),
        ("t10k-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-images-idx3-ubyte"),
        ("train-images", None),
    ],
)
def test_classic_names(member, name):
    assert classic_name(member) == name
