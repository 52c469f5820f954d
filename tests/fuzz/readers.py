"""Every reader of files that may come from anywhere, each with a small real file.

A reader returns what it read, so that it can be searched for what it should not have seen.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from fabricated import make_certificate, make_diagnosis, make_model
from safetensors.numpy import save_file
from samples import RECIPES, SUITE, classic, pictures, tarred, zipped
from store_artefacts import (
    EMBEDDING,
    HERE,
    MEASUREMENT,
    OURS,
    SET,
    TRAINING,
    adversarial_images,
    layout,
    part_of,
    save_set,
    weights,
)

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.configuration import parse_eps
from robustbench_pcl.data import dataset as cache
from robustbench_pcl.data.archives import parse_idx
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.data.foreign import read_foreign
from robustbench_pcl.data.user_files import read_archive
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import CheckedSet
from robustbench_pcl.evidence.manifest import (
    MANIFEST,
    Manifest,
    Selection,
    read_manifest,
    write_listing,
)
from robustbench_pcl.models.weights import read_weights
from robustbench_pcl.pipeline.suite import load_suite
from robustbench_pcl.pipeline.tasks import Train
from robustbench_pcl.pipeline.worker import TaskFile
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.recipes.presets import PAPER_PRESETS, PRESETS, load_recipes
from robustbench_pcl.report.requirements import read_requirements
from robustbench_pcl.report.results import load_evidence
from robustbench_pcl.store.adversarial_sets import find_set
from robustbench_pcl.store.certificates import Certificate, certificate_id
from robustbench_pcl.store.checkpoints import find_checkpoints, load_arrays, save_checkpoint
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import find_embedding, save_embedding
from robustbench_pcl.store.parts import Part, load_parts, save_part
from robustbench_pcl.store.records import (
    Measurement,
    Paths,
    TrainingRecord,
    now,
    read_record,
    save_measurement,
    save_record,
    save_training,
)
from robustbench_pcl.training.build import build_model
from robustbench_pcl.training.step import RunState, optimisers

DIGITS = dataset_spec("digits")
SHAPE, MOST = (1, 8, 8), 60
EPS = ("0.03", "8/255", "0.5/255", "1e-2", ".1", "3e-4/2")


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        make: writes a small real file somewhere into an empty folder, and returns it.
        read: reads that file, or another in its place.
        cases: in every run of the tests.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Iterable[Any]]
    cases: int = 100


def _record(kind: type[Any], make: Callable[[Paths], Path]) -> Reader:
    return Reader(lambda root: make(Paths(root)), lambda path: [read_record(path, kind)], 130)


def _doubted(paths: Paths) -> Path:
    record = make_diagnosis(make_model("ours"), {"name": "pgd", "eps": 0.03, "steps": 10})
    return save_record(paths.diagnoses, record.id, record)


def _certified(paths: Paths) -> Path:
    ours = make_model("ours")
    made = make_certificate(ours, [(0.04, None)] * 10)
    identity = certificate_id(ours, made.data.digest, n=made.n, largest_eps=made.largest_eps)
    return save_record(paths.certificates, identity, made.changed(id=identity))


def _everything(root: Path) -> Path:
    paths = Paths(root)
    _doubted(paths), _certified(paths), save_training(paths, TRAINING)
    save_embedding(paths.embeddings, EMBEDDING, layout(), HERE, now())
    return save_measurement(paths, MEASUREMENT)


def _evidence(path: Path) -> list[Any]:
    left_out: list[UserError] = []
    evidence = load_evidence(Paths(path.parents[2]), left_out.append)
    rows = [evidence.measurements.to_csv(), evidence.trainings.to_csv(), evidence.records]
    assert len(left_out) + len(evidence.measurements) == 1, "left out, or read"
    return [*rows, *map(str, left_out)]


def _checkpoint(path: Path) -> list[Any]:
    (found,) = find_checkpoints(path.parent, "a" * 12)
    return [found, load_arrays(path, found.record.weights)]


def _set(path: Path) -> list[Any]:
    images = find_set(path.parent, path.stem)
    assert images is not None
    checked = CheckedSet(path.name, images)
    return [images, checked.labels, checked.felled_by, *(block for _, block in checked.blocks())]


def _parts(path: Path) -> list[Any]:
    found = load_parts(path.parent.parent, SET.id)
    return [each.read_images(np.arange(len(each.indices))) for each in found]


STATE = RunState(
    build_model(OURS, (0.5,), (0.5,)),
    *optimisers(build_model(OURS, (0.5,), (0.5,)), OURS.schedule),
    identity="a" * 12,
)


def _state(root: Path) -> Path:
    path = root / "checkpoints" / "partial" / f"{'a' * 12}.safetensors"
    STATE.save(path)
    return path


def _load_state(path: Path) -> list[Any]:
    STATE.load(path)
    return [STATE.history]


def _task(root: Path) -> Path:
    path = root / "task.json"
    TaskFile.of(Train(OURS), Workspace(root, device="cpu")).write(path)
    return path


def _read_task(path: Path) -> list[Any]:
    task = TaskFile.read(path)
    return [task, task.changed(folder=path.parent, checkpoints=(), plugins=()).open()]


def _text(name: str, text: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        path = root / name
        path.write_text(text, encoding="utf-8")
        return path

    return make


def _forget() -> None:
    for name in [name for name in PRESETS if name not in PAPER_PRESETS]:
        del PRESETS[name]


def _suite(path: Path) -> list[Any]:
    try:
        suite = load_suite(path)
        return [suite.tasks(Workspace(path.parent, device="cpu"))]
    finally:
        _forget()


def _recipes(path: Path) -> list[Any]:
    try:
        load_recipes(path)
        mine = [name for name in PRESETS if name not in PAPER_PRESETS]
        return [load_recipe(name, "digits", "demo") for name in mine[:20]]
    finally:
        _forget()


def _values(path: Path) -> list[Any]:
    found: list[Any] = []
    for text in path.read_bytes().decode(errors="replace").split("\n")[:20]:
        for name in ("eps", "steps", "restarts", "loss", "relative_step_size"):
            for read in (
                parse_eps,
                lambda value, name=name: ATTACKS["pgd"].complete({name: value}),
            ):
                try:
                    found.append(read(text))
                except UserError as error:
                    found.append(str(error))
    return found


def _manifest(root: Path) -> Path:
    known = Manifest(
        pclbench="0.2.0",
        selection=Selection(tables=(3,)),
        environments=(HERE,),
        files={"report.html": {"sha256": "0" * 64, "size": 3}},
    )
    write_listing(root / MANIFEST, known)
    return root / "bundle.json"


def _archive(path: Path) -> list[Any]:
    raw = read_archive(DIGITS, path)
    assert len(raw.train_images) == len(raw.train_labels)
    return [raw.train_images, raw.test_images, raw.train_labels, raw.source]


def _of_pixels(path: Path) -> list[Any]:
    found = read_foreign(path, SHAPE, MOST)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    return [found.images, found.labels, found.indices]


def _pixels(name: str, write: Callable[..., object], cases: int = 100) -> Reader:
    content = adversarial_images()

    def make(root: Path) -> Path:
        write(root / name, images=content["images"], labels=content["labels"])
        return root / name

    return Reader(make, _of_pixels, cases)


def _save_torch(path: Path, *, legacy: bool = False, **arrays: np.ndarray[Any, Any]) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)


def _weights(name: str, write: Callable[..., object]) -> Reader:
    def make(root: Path) -> Path:
        write(root / name, **{key: np.array(each) for key, each in weights().items()})
        return root / name

    return Reader(make, lambda path: [read_weights(path)])


def _cached(name: str) -> Reader:
    def make(root: Path) -> Path:
        os.environ["PCLBENCH_CACHE"] = str(root)
        cache.write(DIGITS, read_archive(DIGITS, zipped(root / "a.zip", classic())))
        return root / "digits" / name

    def read(path: Path) -> list[Any]:
        os.environ["PCLBENCH_CACHE"] = str(path.parents[1])
        found = cache.verify(DIGITS)
        return [] if found is None else [found.train.images, found.test.labels, found.provenance]

    return Reader(make, read, 70)


def _saved(name: str, save: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        save(root / name)
        return root / name

    return make


def _path_of(part: Part) -> Path:
    assert part.path is not None
    return part.path


def _folder(path: Path) -> None:
    for name, content in pictures().items():
        file = path.parents[3] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _hdf5(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    with h5py.File(path, "w") as file:
        file.update(arrays)


READERS: dict[str, Reader] = {
    "measurement": _record(Measurement, lambda paths: save_measurement(paths, MEASUREMENT)),
    "training": _record(TrainingRecord, lambda paths: save_training(paths, TRAINING)),
    "diagnosis": _record(Diagnosis, _doubted),
    "certificate": _record(Certificate, _certified),
    "evidence": Reader(_everything, _evidence, 80),
    "checkpoint": Reader(
        lambda root: save_checkpoint(root / "checkpoints", OURS, "a" * 12, weights()).path,
        _checkpoint,
        130,
    ),
    "interrupted training": Reader(_state, _load_state, 80),
    "embedding": Reader(
        lambda root: save_embedding(Paths(root).embeddings, EMBEDDING, layout(), HERE, now()).path,
        lambda path: [
            found.layout() for found in [find_embedding(path.parent, path.stem)] if found
        ],
        130,
    ),
    "adversarial set": Reader(lambda root: save_set(Paths(root)), _set, 200),
    "part of a set": Reader(
        lambda root: _path_of(save_part(root / "sets", SET.id, part_of(adversarial_images()))),
        _parts,
        130,
    ),
    "task": Reader(_task, _read_task, 80),
    "suite": Reader(_text("suite.toml", SUITE), _suite, 130),
    "recipes": Reader(_text("recipes.toml", RECIPES), _recipes, 130),
    "values": Reader(_text("values.txt", "\n".join(EPS)), _values, 100),
    "requirements": Reader(
        _text("required.txt", "# of CI\nours.pgd >= 45\nours.clean.low > 80.5\n"),
        lambda path: [list(read_requirements(path, "ours"))],
    ),
    "manifest": Reader(_manifest, lambda path: [read_manifest(path.parent)]),
    "zip of images": Reader(_saved("a.zip", lambda path: zipped(path, pictures())), _archive),
    "stored zip": Reader(
        _saved("a.zip", lambda path: zipped(path, pictures(), zipfile.ZIP_STORED)), _archive
    ),
    "zip of JPEG": Reader(_saved("a.zip", lambda path: zipped(path, pictures(".jpg"))), _archive),
    "tar": Reader(_saved("a.tar", lambda path: tarred(path, pictures())), _archive),
    "gzipped tar": Reader(
        _saved("a.tar.gz", lambda path: tarred(path, pictures(), "w:gz")), _archive
    ),
    "zip of IDX": Reader(_saved("a.zip", lambda path: zipped(path, classic())), _archive),
    "image": Reader(
        _saved("digits/train/0/0.png", _folder),
        lambda path: _archive(path.parents[3]),
    ),
    "IDX": Reader(
        _saved("images", lambda path: path.write_bytes(classic()["train-images-idx3-ubyte"])),
        lambda path: [parse_idx(path.read_bytes(), path.name)],
    ),
    "gzipped IDX": Reader(
        _saved("labels", lambda path: path.write_bytes(classic()["train-labels-idx1-ubyte.gz"])),
        lambda path: [parse_idx(path.read_bytes(), path.name)],
    ),
    "npy": _pixels("a.npy", lambda path, images, labels: np.save(path, images)),
    "npz": _pixels("a.npz", np.savez),
    "compressed npz": _pixels("a.npz", np.savez_compressed),
    "pt": _pixels("a.pt", _save_torch),
    "safetensors": _pixels("a.safetensors", lambda path, **arrays: save_file(arrays, path)),
    "foreign HDF5": _pixels("a.h5", lambda path, **arrays: _hdf5(path, arrays), 12),
    "weights in safetensors": _weights(
        "w.safetensors", lambda path, **arrays: save_file(arrays, path)
    ),
    "weights of torch": _weights("w.pt", _save_torch),
    "weights of old torch": _weights(
        "w.pt", lambda path, **arrays: _save_torch(path, legacy=True, **arrays)
    ),
    "cache's description": _cached("info.json"),
    "cache's images": _cached("train-images.npy"),
    "cache's labels": _cached("test-labels.npy"),
}
