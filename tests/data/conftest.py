"""Small data sets in the shapes of the real ones, and the files that they may come in."""

import gzip
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_pcl.data.dataset import RawDataset
from robustbench_pcl.data.datasets import DatasetSpec


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    monkeypatch.setenv("PCLBENCH_CACHE", str(root))
    monkeypatch.delenv("PCLBENCH_DATA", raising=False)
    return root


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for Debian's packages, so that tests do not depend on the machine."""
    folder = tmp_path / "debian"
    monkeypatch.setattr("robustbench_pcl.data.loader.DEBIAN_FOLDER", folder)
    return folder


@pytest.fixture
def toy() -> Callable[..., RawDataset]:
    """Make a small random data set with two training images and one test image a class."""

    def make(spec: DatasetSpec, seed: int = 0) -> RawDataset:
        random = np.random.default_rng(seed)
        classes = len(spec.classes)
        train_labels = random.permutation(np.repeat(np.arange(classes), 2))
        test_labels = random.permutation(np.arange(classes))
        return RawDataset(
            random.integers(0, 256, (2 * classes, *spec.shape), dtype=np.uint8),
            train_labels,
            random.integers(0, 256, (classes, *spec.shape), dtype=np.uint8),
            test_labels,
            "toy",
        )

    return make


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a data set as images: ``top/<split>/<class>/<id>.<suffix>``."""

    def write(
        raw: RawDataset, names: tuple[str, ...], suffix: str = "png", top: str = "images/top"
    ) -> Path:
        root = tmp_path / top
        for split, images, labels in (
            ("train", raw.train_images, raw.train_labels),
            ("test", raw.test_images, raw.test_labels),
        ):
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                path = root / split / names[label] / f"{number}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(path)
        return root

    return write


@pytest.fixture
def folder_names() -> Callable[[DatasetSpec], tuple[str, ...]]:
    """The data set's class names as folders may spell them."""
    return lambda spec: tuple(re.sub(r"[^\w-]", "-", name).lower() for name in spec.classes)


def zip_folder(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder.parent))
    return target


def tar_folder(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz" if target.suffix.endswith("gz") else "w") as archive:
        archive.add(folder, "./")
    return target


@pytest.fixture
def packed(tmp_path: Path) -> Callable[[Path, str], Path]:
    """Pack a folder under a name whose ending says how; "folder" leaves it as it is."""

    def pack(folder: Path, name: str) -> Path:
        if name == "folder":
            return folder
        return (zip_folder if name.endswith(".zip") else tar_folder)(folder, tmp_path / name)

    return pack


@pytest.fixture
def idx_files() -> Callable[..., Path]:
    """Write a grey data set as the four classic IDX files."""

    def write(raw: RawDataset, folder: Path, zipped: bool = True) -> Path:
        folder.mkdir(parents=True)
        for name, array in (
            ("train-images-idx3-ubyte", raw.train_images[:, 0]),
            ("train-labels-idx1-ubyte", raw.train_labels),
            ("t10k-images-idx3-ubyte", raw.test_images[:, 0]),
            ("t10k-labels-idx1-ubyte", raw.test_labels),
        ):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content = header + array.astype(np.uint8).tobytes()
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
        return folder

    return write
