"""Small real files that no code of the package writes: suites, recipes, images, archives."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SUITE = """
scale = "demo"
datasets = ["digits"]

[recipes.mine]
base = "ours"
schedule = { epochs = 3, milestones = [2] }
at.demo = { width = 0.2 }
adversarial_training = { attack = "pgd", high = "16/255" }

[trajectories.long]
base = "softmax"
start = "softmax"
epochs = [1, 3]

[[part]]
title = "white box"
targets = ["mine", "long"]
sources = ["softmax"]
seed = [0, 1]
diagnose = true

[[part.attack]]
name = "pgd"
eps = "8/255"
steps = 10

[[part]]
targets = ["ours"]
images = 100

[[part.attack]]
name = "apgd"
mode = "exact"
eps = 0.1
"""
RECIPES = """
[mine]
base = "ours"
members = 2
embedding = 32
loss = { name = "pcl", weight = 0.5 }
feature_layers = [3, 4]
start.schedule.epochs = 2
[mine-too]
base = "mine"
defense = "adp"
at.demo.in_place_of = { resnet110 = "resnet20" }
"""


def pictures(suffix: str = ".png") -> dict[str, bytes]:
    """A small data set as files: one image of each class in each split."""
    found = {"digits/classes.txt": "\n".join(map(str, range(10))).encode()}
    for split in ("train", "test"):
        for label in range(10):
            stream = io.BytesIO()
            pixels = np.random.default_rng(label).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(stream, {".png": "png", ".jpg": "jpeg"}[suffix])
            found[f"digits/{split}/{label}/{label}{suffix}"] = stream.getvalue()
    return found


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """An array of bytes in MNIST's format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def classic() -> dict[str, bytes]:
    """The four files of MNIST, for 20 images each."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    return {
        "train-images-idx3-ubyte": idx(images),
        "train-labels-idx1-ubyte.gz": gzip.compress(idx(labels), mtime=0),
        "t10k-images-idx3-ubyte": idx(images[:10]),
        "t10k-labels-idx1-ubyte": idx(labels[:10]),
    }


def zipped(path: Path, files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    """Files as a zip archive."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    """Files as a tar archive."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
