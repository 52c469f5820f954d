"""The cache gives back what was put in, notices damage, and survives being killed."""

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from robustbench_pcl.data import dataset as data_cache
from robustbench_pcl.data import loader
from robustbench_pcl.data.dataset import RawDataset, channel_statistics, split_digest
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError

CIFAR10 = dataset_spec("cifar10")


@pytest.mark.parametrize("spec", DATASETS.values(), ids=lambda spec: spec.name)
def test_what_was_written_is_read(spec, toy):
    raw = toy(spec)
    data_cache.write(spec, raw)
    dataset = data_cache.read(spec)
    assert np.array_equal(dataset.train.images, raw.train_images)
    assert np.array_equal(dataset.train.labels, raw.train_labels)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int64
    assert len(dataset.test) == len(spec.classes)
    assert dataset.provenance == raw.provenance(spec)
    pixels = raw.train_images / 255
    np.testing.assert_allclose(dataset.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_arrays_are_read_only_and_images_are_mapped(toy):
    data_cache.write(CIFAR10, toy(CIFAR10))
    split = data_cache.read(CIFAR10).train
    assert isinstance(split.images, np.memmap)
    assert not split.images.flags.writeable
    assert not split.labels.flags.writeable


def test_a_record_says_which_images_were_used(toy):
    data_cache.write(CIFAR10, toy(CIFAR10))
    dataset = data_cache.read(CIFAR10)
    record = dataset.record("test")
    assert (record.dataset, record.digest, record.source) == ("cifar10", dataset.test.digest, "toy")
    assert record.subset
    assert record.note == dataset.provenance.note
    assert dataset.record("train").digest == dataset.train.digest != dataset.test.digest


def test_digest_depends_on_pixels_labels_and_shape():
    images, labels = np.zeros((2, 1, 2, 8), dtype=np.uint8), np.array([0, 1])
    digests = {
        split_digest(images, labels),
        split_digest(images + np.uint8(1), labels),
        split_digest(images, labels[::-1]),
        split_digest(images.reshape(2, 1, 4, 4), labels),
    }
    assert len(digests) == 4
    assert split_digest(np.asfortranarray(images), labels.astype(">i8")) in digests


def test_statistics_of_constant_channels():
    images = np.zeros((3, 2, 4, 4), dtype=np.uint8)
    images[:, 1] = 255
    assert channel_statistics(images) == ((0.0, 1.0), (0.0, 0.0))


def test_not_there():
    assert data_cache.read(CIFAR10) is None
    assert data_cache.verify(CIFAR10) is None
    assert loader.dataset_info("cifar10") is None


def test_what_is_cached_is_known_without_opening_an_image(toy, cache):
    data_cache.write(CIFAR10, toy(CIFAR10))
    dataset = data_cache.read(CIFAR10)
    for path in (cache / "cifar10").glob("*.npy"):
        path.unlink()
    info = loader.dataset_info("cifar10")
    assert (info.train.digest, info.test.digest) == (dataset.train.digest, dataset.test.digest)
    assert (info.train.count, info.test.count) == (20, 10)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("array", ["images", "labels"])
def test_verify_catches_one_flipped_bit(split, array, toy, cache):
    data_cache.write(CIFAR10, toy(CIFAR10))
    assert data_cache.verify(CIFAR10) is not None
    path = cache / "cifar10" / f"{split}-{array}.npy"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        data_cache.verify(CIFAR10)
    assert f"cached {split} images of CIFAR-10 have changed" in caught.value.cause
    assert "pclbench data add cifar10" in caught.value.cure


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def wrong_label(path: Path) -> None:
    np.save(path, np.full(20, 10))


def wrong_shape(path: Path) -> None:
    np.save(path, np.zeros((20, 3, 28, 28), dtype=np.uint8))


def pickled(path: Path) -> None:
    np.save(path, np.array([{}] * 20, dtype=object), allow_pickle=True)


def other_order(path: Path) -> None:
    np.save(path, np.asfortranarray(np.load(path)))


def later_format(path: Path) -> None:
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train-images.npy", truncate),
        ("train-images.npy", Path.unlink),
        ("train-images.npy", wrong_shape),
        ("train-images.npy", pickled),
        ("train-images.npy", other_order),
        ("test-images.npy", lambda path: path.write_bytes(b"")),
        ("train-labels.npy", wrong_label),
        ("train-labels.npy", pickled),
        ("train-labels.npy", truncate),
        ("info.json", truncate),
        ("info.json", Path.unlink),
        ("info.json", later_format),
    ],
)
def test_a_broken_cache_is_an_error_with_a_cure(name, damage, toy, cache):
    data_cache.write(CIFAR10, toy(CIFAR10))
    damage(cache / "cifar10" / name)
    with pytest.raises(UserError) as caught:
        loader.load("cifar10")
    assert "is broken" in caught.value.cause
    assert "\n" not in caught.value.cause
    assert "`pclbench data verify cifar10`" in caught.value.cure
    data_cache.write(CIFAR10, toy(CIFAR10))  # adding it again mends it
    assert data_cache.verify(CIFAR10) is not None


def test_arrays_that_do_not_fit_are_not_cached(toy):
    data_cache.write(CIFAR10, toy(CIFAR10))
    before = data_cache.read(CIFAR10).train.digest
    with pytest.raises(UserError, match="not uint8"):
        data_cache.write(CIFAR10, toy(dataset_spec("mnist")))
    assert data_cache.verify(CIFAR10).train.digest == before


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_a_cache_that_cannot_be_written(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PCLBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError) as caught:
        data_cache.write(CIFAR10, toy(CIFAR10))
    assert "cannot be written" in caught.value.cause
    assert "PCLBENCH_CACHE" in caught.value.cure


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PCLBENCH_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, "/c"),
        ({"PCLBENCH_CACHE": "~/c"}, "~/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/pclbench"),
        ({}, "~/.cache/pclbench"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders for caches")
def test_where_the_cache_is(environment, expected, monkeypatch):
    for name in ("PCLBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert data_cache.cache_root() == Path(expected).expanduser()


# Writes a second data set over a first, once for every step that touches the disk, and kills the
# writer (with SIGKILL) just before that step. Prints what a reader finds after each kill.
KILLER = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from robustbench_pcl.data import dataset as cache
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.data.dataset import RawDataset

spec = dataset_spec("cifar10")
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}

def data(value):
    images = np.full((20, 3, 32, 32), value, dtype=np.uint8)
    labels = np.arange(20) % 10
    return RawDataset(images, labels, images[:10], labels[:10], "toy")

def write_until(last_step):
    steps = 0
    def watch(event, arguments):
        nonlocal steps
        if event in STEPS:
            steps += 1
            if steps == last_step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    cache.write(spec, data(2))
    os._exit(0)

found, last_step, killed = [], 0, True
while killed:
    last_step += 1
    cache.write(spec, data(1))
    child = os.fork()
    if child == 0:
        write_until(last_step)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    found.append(int(cache.verify(spec).train.images[0, 0, 0, 0]))
cache.write(spec, data(3))
left = sorted(path.name for path in cache.cache_root().glob(".*-old-*"))
print(json.dumps({"found": found, "left": left}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_writer_killed_at_any_step_leaves_the_old_data_or_the_new():
    run = subprocess.run(
        [sys.executable, "-c", KILLER], capture_output=True, text=True, check=True, timeout=60
    )
    result = json.loads(run.stdout)
    found = result["found"]
    assert len(found) > 15
    assert set(found) == {1, 2}
    assert found == sorted(found)  # old up to one step, new from there on
    assert result["left"] == []


def add_many_times(seed: int) -> None:
    images = np.full((20, 3, 32, 32), seed, dtype=np.uint8)
    labels = np.arange(20) % 10
    raw = RawDataset(images, labels, images[:10], labels[:10], "toy")
    for _ in range(10):
        data_cache.write(CIFAR10, raw)


def test_two_writers_at_once_leave_one_whole_data_set(cache):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(add_many_times, [1, 2]))
    assert data_cache.verify(CIFAR10).train.images[0, 0, 0, 0] in {1, 2}
    assert [path.name for path in cache.iterdir() if "-new-" in path.name] == []


def test_a_reader_never_sees_a_replacement_half_done():
    add_many_times(1)
    seen = set()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        writing = pool.submit(add_many_times, 2)
        while not writing.done():
            split = data_cache.read(CIFAR10).train
            assert split_digest(split.images, split.labels) == split.digest
            seen.add(int(split.images[0, 0, 0, 0]))
    assert seen <= {1, 2}


def test_what_a_killed_writer_left_is_swept_after_a_day(toy, cache):
    data_cache.write(CIFAR10, toy(CIFAR10))
    fresh, stale = cache / ".cifar10-new-fresh", cache / ".cifar10-new-stale"
    fresh.mkdir()
    stale.mkdir()
    os.utime(stale, (0, 0))
    data_cache.write(CIFAR10, toy(CIFAR10))
    assert fresh.exists()
    assert not stale.exists()
