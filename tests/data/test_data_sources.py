"""Where data sets are found, in which order, and what is said when they are not."""

import functools
import hashlib
import http.server
import pickle
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from robustbench_pcl.data import loader
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def write_cifar(root: Path, name: str, raw, monkeypatch) -> Path:
    """Write torchvision's CIFAR batches, and make their sums the published ones."""
    published = getattr(torchvision.datasets, name)
    folder = root / published.base_folder
    folder.mkdir(parents=True)
    key = "labels" if name == "CIFAR10" else "fine_labels"
    entries = {
        published.train_list[0][0]: (raw.train_images, raw.train_labels),
        published.test_list[0][0]: (raw.test_images, raw.test_labels),
    }
    sums = {}
    for file, (images, labels) in entries.items():
        content = pickle.dumps({"data": images.reshape(len(images), -1), key: labels.tolist()})
        (folder / file).write_bytes(content)
        sums[file] = md5(content)
    meta = pickle.dumps({published.meta["key"]: ["a class"]})
    (folder / published.meta["filename"]).write_bytes(meta)
    train, test = ([[file, total]] for file, total in sums.items())
    monkeypatch.setattr(published, "train_list", train)
    monkeypatch.setattr(published, "test_list", test)
    monkeypatch.setattr(published, "meta", {**published.meta, "md5": md5(meta)})
    return folder


def write_svhn(root: Path, raw, monkeypatch) -> None:
    """Write torchvision's SVHN files, where the digit 0 has the label 10."""
    io = pytest.importorskip("scipy.io")
    sums = {}
    for split, images, labels in (
        ("train", raw.train_images, raw.train_labels),
        ("test", raw.test_images, raw.test_labels),
    ):
        path = root / f"{split}_32x32.mat"
        root.mkdir(parents=True, exist_ok=True)
        digits = np.where(labels == 0, 10, labels).astype(np.uint8)
        io.savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": digits[:, np.newaxis]})
        sums[split] = ["", path.name, md5(path.read_bytes())]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", sums)


def assert_same_images(dataset, raw):
    assert np.array_equal(dataset.train.images, raw.train_images)
    assert np.array_equal(dataset.train.labels, raw.train_labels)
    assert np.array_equal(dataset.test.images, raw.test_images)
    assert np.array_equal(dataset.test.labels, raw.test_labels)


@pytest.fixture
def torchvision_files(tmp_path, toy, idx_files, monkeypatch):
    """Write a data set as torchvision keeps it; returns torchvision's root and the images."""

    def write(name):
        spec, root = dataset_spec(name), tmp_path / "root"
        raw = toy(spec)
        if spec.torchvision.startswith("CIFAR"):
            write_cifar(root, spec.torchvision, raw, monkeypatch)
        elif spec.torchvision == "SVHN":
            write_svhn(root, raw, monkeypatch)
        else:
            idx_files(raw, root / spec.torchvision / "raw", zipped=False)
        return root, raw

    return write


FROM_TORCHVISION = [spec.name for spec in DATASETS.values() if spec.torchvision]


@pytest.mark.parametrize("name", FROM_TORCHVISION)
def test_torchvision_files_under_data_root(name, torchvision_files):
    root, raw = torchvision_files(name)
    dataset = loader.load(name, root, download=False)
    assert_same_images(dataset, raw)
    assert dataset.provenance.source == "torchvision files"


def test_the_environment_names_the_data_root(torchvision_files, monkeypatch):
    root, raw = torchvision_files("mnist")
    monkeypatch.setenv("PCLBENCH_DATA", str(root))
    assert_same_images(loader.load("mnist", download=False), raw)


def test_the_cache_comes_first(torchvision_files):
    root, raw = torchvision_files("mnist")
    loader.load("mnist", root, download=False)
    shutil.rmtree(root)
    assert_same_images(loader.load("mnist", root, download=False), raw)


def test_torchvision_files_come_before_debian(torchvision_files, toy, idx_files, nothing_installed):
    root, raw = torchvision_files("fmnist")
    other = toy(dataset_spec("fmnist"), seed=1)
    idx_files(other, nothing_installed / "fashion-mnist")
    assert_same_images(loader.load("fmnist", root, download=False), raw)
    dataset = loader.fetch("fmnist", download=False)
    assert_same_images(dataset, other)
    assert dataset.provenance.source == "Debian dataset-fashion-mnist"


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_pickles_whose_sum_is_not_the_published_one_are_never_opened(
    torchvision_files, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    root, _ = torchvision_files("cifar10")
    for path in (root / "cifar-10-batches-py").iterdir():
        path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="md5 sums are not the published ones"):
        loader.load("cifar10", root, download=False)
    assert not Path("exploded").exists()


def test_torchvision_s_old_processed_files_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "MNIST" / "processed"
    folder.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="raw: not there"):
        loader.load("mnist", tmp_path, download=False)
    assert not Path("exploded").exists()


def test_a_damaged_file_is_named_and_the_next_source_is_tried(
    torchvision_files, toy, idx_files, nothing_installed
):
    root, _ = torchvision_files("fmnist")
    (root / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01")
    with pytest.raises(UserError, match="train-labels-idx1-ubyte is damaged"):
        loader.load("fmnist", root, download=False)
    idx_files(toy(dataset_spec("fmnist")), nothing_installed / "fashion-mnist")
    assert loader.load("fmnist", root, download=False).provenance.source.startswith("Debian")


def test_a_damaged_debian_package(nothing_installed):
    (nothing_installed / "fashion-mnist").mkdir(parents=True)
    with pytest.raises(UserError, match=r"Debian's package .* \(IDX files are missing"):
        loader.load("fmnist", download=False)


def test_svhn_without_scipy_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError) as caught:
        loader.load("svhn", tmp_path, download=False)
    assert caught.value.cure == "pip install scipy"


@pytest.mark.parametrize("name", FROM_TORCHVISION)
def test_nothing_anywhere(name, cache, tmp_path):
    with pytest.raises(UserError) as caught:
        loader.load(name, tmp_path / "empty", download=False)
    cause = caught.value.cause
    assert "\n" not in cause
    assert f"the cache ({cache / name}: not there)" in cause
    assert f"torchvision's files ({tmp_path / 'empty'}" in cause
    assert ("dataset-fashion-mnist" in cause) == (name == "fmnist")
    assert f"pclbench data add {name} FILE" in caught.value.cure


def test_nothing_anywhere_without_a_data_root():
    with pytest.raises(UserError, match="neither --data-root nor PCLBENCH_DATA is set"):
        loader.load("svhn", download=False)


def test_an_unknown_name():
    with pytest.raises(UserError, match="Did you mean"):
        loader.load("minst")


@pytest.fixture
def mirror(tmp_path):
    """A web server on this machine; returns its folder and its address."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_download_comes_last_and_is_cached(mirror, toy, idx_files, monkeypatch):
    folder, address = mirror
    raw = toy(dataset_spec("mnist"))
    files = idx_files(raw, folder / "mnist")
    sums = [(path.name, md5(path.read_bytes())) for path in files.iterdir()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{address}mnist/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    dataset = loader.load("mnist")
    assert_same_images(dataset, raw)
    assert dataset.provenance.source == "torchvision download"
    shutil.rmtree(files)
    assert loader.load("mnist").train.digest == dataset.train.digest


def test_a_failed_download_is_told_in_one_line(mirror, monkeypatch):
    _, address = mirror
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "url", f"{address}nothing.tar.gz")
    with pytest.raises(UserError) as caught:
        loader.load("cifar100")
    assert "torchvision's download (HTTP Error 404: File not found)" in caught.value.cause
    assert "\n" not in caught.value.cause


def test_digits():
    from sklearn.datasets import load_digits

    dataset = loader.load("digits", download=False)
    assert dataset.train.images.shape == (1_297, 1, 8, 8)
    assert dataset.test.images.shape == (500, 1, 8, 8)
    assert dataset.provenance.source == "scikit-learn"
    assert not dataset.provenance.subset
    # Stratified: each class is as frequent in both parts, to within one image.
    train, test = np.bincount(dataset.train.labels), np.bincount(dataset.test.labels)
    assert np.abs(test - (train + test) * 500 / 1_797).max() < 1
    # The 17 grey values, spread over 0..255; both parts together are scikit-learn's images.
    expected = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    found = np.concatenate([dataset.train.images, dataset.test.images]).reshape(-1, 64)
    assert np.array_equal(np.sort(found, axis=0), np.sort(expected, axis=0))
    assert set(np.unique(found)) == {round(value * 255 / 16) for value in range(17)}
    # The split is part of every stored result: it must not change with a library.
    assert (dataset.train.digest, dataset.test.digest) == ("8b81597aab76", "a59e374549dc")
