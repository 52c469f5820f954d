"""One artefact of each kind, how it is stored and how it is read."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from robustbench_pcl.environment import Environment
from robustbench_pcl.recipe import Recipe, Schedule
from robustbench_pcl.store.adversarial_sets import (
    COLUMNS,
    TEXTS,
    SetSpecification,
    content_digest,
    find_set,
)
from robustbench_pcl.store.checkpoints import find_checkpoint, save_checkpoint
from robustbench_pcl.store.embeddings import (
    EmbeddingSpecification,
    Layout,
    View,
    load_embeddings,
    save_embedding,
)
from robustbench_pcl.store.parts import Draft, Part, finish_set, save_part
from robustbench_pcl.store.records import (
    DataRecord,
    Measurement,
    ModelRecord,
    Paths,
    TrainingRecord,
    load_measurements,
    load_trainings,
    now,
    save_measurement,
    save_training,
)
from robustbench_pcl.store.rules import measurement_id, wilson

HERE = Environment(
    pclbench="0.2.0",
    python="3.11.7",
    torch="2.6.0",
    platform="Linux x86_64",
    device="a processor",
    threads=1,
)
DATA = DataRecord(dataset="digits", digest="dddddddddddd", source="scikit-learn")
PGD = {"name": "pgd", "eps": 0.1, "steps": 10, "loss": "margin", "random_start": True}
SOFTMAX = Recipe(
    name="softmax",
    scale="demo",
    dataset="digits",
    model="conv6",
    width=0.2,
    schedule=Schedule(epochs=4, batch_size=32, milestones=(3,)),
)
OURS = SOFTMAX.changed(
    name="ours",
    loss={"name": "pcl", "separation": 4.0, "weight": 1.0},
    feature_layers=(3, 4, 5),
    start=SOFTMAX,
)
MODEL = ModelRecord(checkpoint="aaaaaaaaaaaa", weights="bbbbbbbbbbbb", recipe=OURS)
SET = SetSpecification(source=MODEL, attack=PGD, norm="linf", data=DATA, n=50, seed=0, mode="exact")
EMBEDDING = EmbeddingSpecification(
    model=MODEL,
    view=View(layer=5, method="tsne"),
    data=DATA,
    adversarial_set=None,
    classes=tuple(range(10)),
    n=40,
    seed=0,
)
MEASUREMENT = Measurement(
    id=measurement_id(MODEL, set=SET.id),
    data=DATA,
    target=MODEL,
    source=MODEL,
    attack=PGD,
    adversarial_set=SET.id,
    largest_linf=0.1,
    mean_l2=0.4,
    n=50,
    correct=3,
    correct_8bit=4,
    interval=wilson(3, 50),
    verdicts="e0000000000000",
    seconds=1.5,
    forward_passes=100,
    backward_passes=100,
    seed=0,
    environment=HERE,
    created=now(),
)
TRAINING = TrainingRecord(
    checkpoint=OURS.id(DATA.digest),
    weights=MODEL.weights,
    recipe=OURS,
    data=DATA,
    seconds_per_epoch=0.5,
    history=[
        {"epoch": epoch, "loss": 0.25, "warnings": ["it may run away"]} for epoch in range(1, 5)
    ],
    environment=HERE,
    created=now(),
)


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "weight": random.normal(size=(4, 3, 5, 5)).astype(np.float32),
        "steps": np.array(7, dtype=np.int64),
        "transposed": random.normal(size=(6, 4)).astype(np.float32).T,
    }


def layout(**more: np.ndarray) -> Layout:
    random = np.random.default_rng(0)
    return Layout(
        points=random.normal(size=(40, 2)).astype(np.float32),
        labels=random.integers(0, 10, 40),
        predictions=random.integers(0, 10, 40),
        **more,
    )


def clean_images(n: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


def adversarial_images(n: int = 50) -> dict[str, np.ndarray]:
    """The arrays of a whole set on ``clean_images``."""
    random = np.random.default_rng(1)
    noise = random.uniform(-0.1, 0.1, (n, 1, 8, 8)).astype(np.float32)
    return {
        "images": np.clip(clean_images()[:n].astype(np.float32) / 255 + noise, 0, 1),
        "indices": np.arange(n),
        "labels": random.integers(0, 10, n),
        "predictions": random.integers(0, 10, n),
    }


def part_of(content: dict[str, np.ndarray], **changes: Any) -> Part:
    """Images that have been through a stage, all of them better than before."""
    fooled = content["predictions"] != content["labels"]
    own = {
        "stage": 0,
        "indices": content["indices"],
        "predictions": content["predictions"],
        "margins": np.where(fooled, 1.0, -1.0),
        "fooled": fooled,
        "better": np.ones(len(fooled), bool),
        "blind": np.zeros(len(fooled), bool),
        "images": content["images"],
        "seconds": 1.5,
        "forward_passes": 10,
        "backward_passes": 20,
    }
    return Part(**{**own, **changes})


def save_set(paths: Paths) -> Path:
    content, folder = adversarial_images(), paths.adversarial_sets
    part = save_part(folder, SET.id, part_of(content))
    rows = np.arange(len(content["labels"]))
    draft = Draft(
        stages=("PGD",),
        labels=content["labels"],
        predictions=part.predictions,
        felled_by=np.where(part.fooled, 0, -1),
        blind=rows < 0,
        parts=[part],
        part=np.zeros_like(rows),
        position=rows,
    )
    return finish_set(folder, SET, draft, clean_images(), HERE).path


def sign_set(path: Path) -> None:
    """Write the digests of a set anew, as somebody would who changed it."""
    with h5py.File(path, "r+") as file:
        kept = {name: file.attrs[name] for name in TEXTS}
        texts = {
            name: text if isinstance(text, str) else text.decode() for name, text in kept.items()
        }
        summary = json.loads(texts["summary"])
        summary["images_digest"] = hashlib.sha256(file["images"][:].tobytes()).hexdigest()[:12]
        columns = {name: file[name][:] for name in COLUMNS if name in file}
        texts["summary"] = json.dumps(summary)
        summary["content_digest"] = content_digest(texts, columns)
        file.attrs["summary"] = np.bytes_(json.dumps(summary).encode())


def as_before_digests(path: Path) -> None:
    """Take from a set what sets had not before they kept a digest of their content."""
    with h5py.File(path, "r+") as file:
        summary = json.loads(file.attrs["summary"])
        del summary["content_digest"]
        for name, text in ((name, file.attrs[name]) for name in TEXTS):
            file.attrs[name] = text.decode()  # it had any length
        file.attrs["summary"] = json.dumps(summary)


@dataclass(frozen=True)
class Kind:
    """A kind of artefact: how one is stored, and how all are read.

    Attributes:
        name: in the plural.
        save: stores one and returns its file.
        read: reads it, as the package does.
    """

    name: str
    save: Callable[[Paths], Path]
    read: Callable[[Paths], Any]

    def __str__(self) -> str:
        return self.name


KINDS = [
    Kind(
        "checkpoints",
        lambda paths: save_checkpoint(paths.checkpoints, OURS, "aaaaaaaaaaaa", weights()).path,
        lambda paths: find_checkpoint(paths.checkpoints, "aaaaaaaaaaaa"),
    ),
    Kind("adversarial sets", save_set, lambda paths: find_set(paths.adversarial_sets, SET.id)),
    Kind(
        "embeddings",
        lambda paths: save_embedding(paths.embeddings, EMBEDDING, layout(), HERE, now()).path,
        lambda paths: load_embeddings(paths.embeddings),
    ),
    Kind("measurements", lambda paths: save_measurement(paths, MEASUREMENT), load_measurements),
    Kind("trainings", lambda paths: save_training(paths, TRAINING), load_trainings),
]


def set_format(path: Path, number: int | None) -> None:
    """Write another format's number into a stored file; None: as pclbench 0.1, which wrote none."""
    if path.suffix == ".json":
        path.write_text(json.dumps(_renumbered(json.loads(path.read_bytes()), number)))
    elif path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            content = _renumbered(dict(file.attrs), number)
            file.attrs.pop("format")
            file.attrs.update(content)
    else:
        with safe_open(path, framework="numpy") as file:
            header = _renumbered(json.loads(file.metadata()["pclbench"]), number)
        save_file(load_file(path), path, metadata={"pclbench": json.dumps(header)})


def _renumbered(content: dict[str, Any], number: int | None) -> dict[str, Any]:
    assert content.pop("format") == 2
    return content if number is None else {**content, "format": number}
