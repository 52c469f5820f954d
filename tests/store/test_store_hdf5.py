"""HDF5 that others made: whatever a file says, it is refused within bounds of time and memory."""

import json
import os
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hostile_sets import HOSTILE, SIDES, N, predictions_that_are_the_labels
from store_artefacts import SET, as_before_digests, save_set, sign_set

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.adversarial_sets import TEXTS, find_set, open_set
from robustbench_pcl.store.hdf5 import fletcher32, open_hdf5
from robustbench_pcl.store.records import Paths

SECRET = "root:"
"""What no message may repeat of a file outside."""


READ = """
import json, resource, sys, time
from pathlib import Path
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.adversarial_sets import open_set

resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
found = {}
for path in sorted(Path(sys.argv[1]).glob("*.h5")):
    start, found[path.stem] = time.process_time(), ["", 0]
    try:
        images = open_set(path)
        images.verify()
        images.felled_by()
    except UserError as error:
        found[path.stem] = [str(error), time.process_time() - start]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What reading each hostile file gives, all in one process with 1 GiB, and the seconds."""
    pytest.importorskip("resource")
    folder = tmp_path_factory.mktemp("hostile")
    whole = save_set(Paths(folder / "whole")).read_bytes()
    for name, change in HOSTILE.items():
        path = folder / f"{name}.h5"
        path.write_bytes(whole)
        change(path)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READ, str(folder)]
    result = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, env=environment
    )
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_within_bounds(name, read):
    words, seconds = read[name]
    assert f"{name}.h5 is not a whole adversarial set" in words
    assert SECRET not in words
    assert seconds < 20


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path),
    ],
    ids=["a pipe", "a folder", "a device", "a link out", "a link to nothing", "a link to itself"],
)
def test_what_is_no_file_is_not_opened(make, tmp_path):
    path = tmp_path / "sets" / f"{SET.id}.h5"
    path.parent.mkdir()
    make(path)
    with pytest.raises(UserError) as error:
        find_set(path.parent, SET.id)
    assert str(path) in error.value.cause
    assert SECRET not in str(error.value)


def test_a_set_of_another_specification_is_refused(tmp_path):
    path = save_set(Paths(tmp_path))
    path.rename(path.with_name("0123456789ab.h5"))
    with pytest.raises(UserError, match=f"it holds {SET.id}"):
        find_set(path.parent, "0123456789ab")


def test_sets_of_older_versions_are_read(tmp_path):
    path = save_set(Paths(tmp_path))
    expected = open_set(path)
    as_before_digests(path)
    with h5py.File(path) as file:
        assert {file.attrs.get_id(name).dtype.kind for name in TEXTS} == {"O"}
    found = open_set(path)
    assert (found.spec, found.stages, found.shape) == (expected.spec, expected.stages, SIDES)
    assert found.summary.content_digest is None
    assert expected.summary.content_digest is not None
    found.verify()


def test_all_is_read_as_the_library_reads_it(tmp_path):
    """Types, chunks that do not divide the array, filters left out, attributes, and no rows."""
    random = np.random.default_rng(0)
    arrays = {
        "integers": np.arange(-3, 4),
        "truths": np.array([True, False, True]),
        "doubles": random.normal(size=(5, 3)),
        "nothing": np.empty((0, 2), np.float32),
    }
    noise, steps = random.random((70, 3, 4), np.float32), np.arange(1001)
    attributes = {"text": "ö any", "whole": 7, "truth": True, "half": 0.5, "many": [1.5, 2.0]}
    with h5py.File(tmp_path / "a.h5", "w", libver="earliest") as file:
        file.attrs.update(attributes)
        file.attrs["fixed"] = np.bytes_("ö fixed".encode())
        del file.attrs["whole"]
        file.attrs["whole"] = 7
        for name, array in arrays.items():
            file[name] = array
        # Noise does not get smaller: HDF5 then leaves the filter out.
        file.create_dataset("noise", data=noise, chunks=(32, 3, 4), compression="gzip")
        file.create_dataset("steps", data=steps, chunks=(64,), fletcher32=True, compression=1)
    with open_hdf5(tmp_path / "a.h5") as contents:
        assert contents.attributes == {**attributes, "fixed": "ö fixed"}
        for name, array in {**arrays, "noise": noise, "steps": steps}.items():
            found = contents.arrays[name].read()
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)
            np.testing.assert_array_equal(contents.arrays[name].read(1, 3), array[1:3])
        np.testing.assert_array_equal(contents.arrays["noise"].read(30, 68), noise[30:68])


def test_the_checksum_is_fletcher_s():
    """https://en.wikipedia.org/wiki/Fletcher%27s_checksum, of big-endian words."""
    assert fletcher32(b"badcfe") == 0x56502D2A
    assert fletcher32(bytes(8)) == 0
    assert fletcher32(b"\xff" * 4) == 0xFFFFFFFF


def test_who_signs_again_what_he_changed_is_not_found_by_digests(tmp_path):
    """Digests find damage and simple changes; weights and clean images find the rest."""
    path = save_set(Paths(tmp_path))
    predictions_that_are_the_labels(path)
    with pytest.raises(UserError, match="do not match their digest"):
        open_set(path).verify()
    sign_set(path)
    open_set(path).verify()
    assert open_set(path).source_verdicts().all()


def test_every_byte_counts(tmp_path):
    """A set that is damaged in any way gives its own content, or a cause: 300 ways."""
    path = save_set(Paths(tmp_path))
    content, whole = path.read_bytes(), open_set(path)
    expected = [batch.tobytes() for batch, _ in whole.batches(N)], whole.columns["labels"]
    random = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(content)
        where = int(random.integers(12_000))
        if random.random() < 0.5:
            changed[where] ^= 1 << int(random.integers(8))
        else:
            changed[where : where + 8] = struct.pack("<Q", random.integers(2**63))
        path.write_bytes(changed)
        try:
            found = open_set(path)
            images = [batch.tobytes() for batch, _ in found.batches(N)]
        except UserError:
            continue
        assert images == expected[0]
        np.testing.assert_array_equal(found.columns["labels"], expected[1])
        assert (found.spec, found.summary) == (whole.spec, whole.summary)
