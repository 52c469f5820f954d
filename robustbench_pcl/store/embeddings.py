"""Embeddings: a model's features as points in the plane, for the figures.

A workspace has them in safetensors, published evidence as JSON.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from robustbench_pcl.configuration import Count, Description, Dump, digest, explained
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.checkpoints import (
    changed,
    load_arrays,
    load_description,
    save_arrays,
    weights_digest,
)
from robustbench_pcl.store.reading import PassedOver, check_file, load_each
from robustbench_pcl.store.records import DataRecord, ModelRecord, StoredRecord, read_record
from robustbench_pcl.store.rules import Faults, unequal

Array = np.ndarray[Any, Any]
SHAPES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "points": ("f", (2,)),
    "labels": ("i", ()),
    "predictions": ("i", ()),
    "anchors": ("f", (2,)),
    "head": ("f", (3,)),
}
"""Of a layout's arrays: the kind of numbers, and the shape of a row."""
SUFFIXES = (".safetensors", ".json")
"""Of a workspace's embeddings, and of published ones."""
LARGEST_EMBEDDING = 2**26
"""Bytes of a file of points: 50,000 images have 2 million."""
Method = Literal["features", "tsne"]
"""How features become points in the plane: two neurons as they are, or t-SNE of any number."""


class View(Description):
    """How to look at a model's features of test images.

    Attributes:
        layer: the layer's number in Table 1.
        method: from features to points.
        attack: the complete configuration of a white-box attack on the model itself; None for
            clean images.
        epoch: how many epochs of its own training the model has had; None for the trained model.
            Nothing is attacked before the end of a training.
    """

    layer: Count
    method: Method = "features"
    attack: Dump | None = None
    epoch: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _attacks_a_trained_model(self) -> Self:
        if self.attack is not None and self.epoch is not None:
            raise ValueError("a model is attacked when it is trained, not in between")
        return self


@dataclass(frozen=True)
class Layout:
    """Points in the plane and what is known of each.

    Attributes:
        points: float32 (N, 2).
        labels: int64 (N,), true classes.
        predictions: int64 (N,), the model's classes.
        anchors: float32 (K, 2), the classes' prototypes or centres; None where there are none in
            this plane.
        head: float32 (K, 3), weights and bias of the linear layer that decides a class from a
            point; None where no such layer does.
    """

    points: Array
    labels: Array
    predictions: Array
    anchors: Array | None = None
    head: Array | None = None

    @property
    def accuracy(self) -> float:
        """Fraction of the images classified as their label."""
        return float((self.predictions == self.labels).mean())

    def with_anchors(self, classes: Sequence[int]) -> Array:
        """The points and the anchors of some classes, (M, 2)."""
        if self.anchors is None:
            return self.points
        return np.concatenate([self.points, self.anchors[list(classes)]])

    def arrays(self) -> dict[str, Array]:
        """The arrays there are, by name."""
        return {name: array for name, array in vars(self).items() if array is not None}


class EmbeddingSpecification(Description):
    """What an embedding is made from; its digest is the embedding's id.

    Attributes:
        model: whose features. Before the end of a training its weights are "": they are not
            kept, and follow from the checkpoint's id and the epoch.
        view: which features, how they are drawn, and the attack.
        data: the clean images.
        adversarial_set: id of the attacked images, or None for clean ones.
        classes: only images of these are shown.
        n: the first so many of them; fewer where there are no more.
        seed: of t-SNE.
    """

    model: ModelRecord
    view: View
    data: DataRecord
    adversarial_set: str | None
    classes: tuple[int, ...]
    n: int
    seed: int

    @cached_property
    def id(self) -> str:
        """The id: model, layer, method, pixels, classes, n and seed decide it; names do not."""
        model = self.model.key if self.view.epoch is None else self.model.checkpoint
        return digest(
            {
                "model": model,
                "view": self.view.content(exclude=("attack",)),
                "data": self.data.digest,
                "set": self.adversarial_set,
                "classes": self.classes,
                "n": self.n,
                "seed": self.seed,
            }
        )


class EmbeddingRecord(Description):
    """What is kept beside the points.

    Attributes:
        spec: what they were made from.
        content_digest: of the points and all that is known of them.
        environment: where they were made.
        created: ISO 8601 time, UTC.
    """

    spec: EmbeddingSpecification
    content_digest: str
    environment: Environment
    created: str


class PublishedEmbedding(StoredRecord):
    """An embedding as one JSON file.

    Attributes:
        record: what is kept beside the points.
        arrays: those of the layout, by name; a number has the digits that make it again.
    """

    what: ClassVar[str] = "published embedding"

    record: EmbeddingRecord
    arrays: Mapping[str, list[Any]]

    @property
    def file_name(self) -> str:
        """The embedding's id."""
        return self.record.spec.id

    def faults(self) -> Faults:
        """The points are those that were stored."""
        try:
            found = weights_digest(self.layout_arrays())
        except (ValueError, TypeError):
            found = "none: they are no rows of numbers"
        yield from unequal("content_digest", self.record.content_digest, found)

    def layout_arrays(self) -> dict[str, Array]:
        """The arrays as they were stored, float32 and int64.

        Raises:
            ValueError, TypeError: one is no rows of numbers.
        """
        types = {name: "float32" if kind == "f" else "int64" for name, (kind, _) in SHAPES.items()}
        return {
            name: np.array(rows, dtype=types.get(name, "float32"))
            for name, rows in self.arrays.items()
        }


@dataclass(frozen=True)
class Embedding:
    """A stored embedding; the points are read only when asked for."""

    path: Path
    record: EmbeddingRecord

    @property
    def spec(self) -> EmbeddingSpecification:
        """What it was made from."""
        return self.record.spec

    def layout(self) -> Layout:
        """The points.

        Raises:
            UserError: the file is damaged.
        """
        arrays = self.arrays()
        missing = {"points", "labels", "predictions"} - {*arrays}
        if missing or {*arrays} - {*SHAPES} or not _fit(arrays):
            cause = f"{self.path} does not hold points in the plane, a label and a class for each."
            raise UserError(cause, _cure(self.path))
        return Layout(**arrays)

    def arrays(self) -> dict[str, Array]:
        """The arrays that are stored, whatever they are.

        Raises:
            UserError: they are not those that the record names, or the file is damaged.
        """
        if self.path.suffix == ".json":
            return read_record(self.path, PublishedEmbedding).layout_arrays()
        return load_arrays(self.path, self.record.content_digest)

    def published(self) -> PublishedEmbedding:
        """The same as one JSON file.

        Raises:
            UserError: the file is damaged.
        """
        arrays = {
            name: np.vectorize(lambda value: float(str(value)), otypes=[object])(array).tolist()
            if array.dtype.kind == "f"
            else array.tolist()
            for name, array in self.layout().arrays().items()
        }
        about = self.record
        return PublishedEmbedding(
            environment=about.environment, created=about.created, record=about, arrays=arrays
        )


def save_embedding(
    folder: Path,
    spec: EmbeddingSpecification,
    layout: Layout,
    environment: Environment,
    created: str,
) -> Embedding:
    """Store points under the id of what they were made from."""
    arrays = layout.arrays()
    record = EmbeddingRecord(
        spec=spec,
        content_digest=weights_digest(arrays),
        environment=environment,
        created=created,
    )
    path = _path(folder, spec.id)
    save_arrays(path, arrays, record.content())
    return Embedding(path, record)


def find_embedding(folder: Path, identity: str) -> Embedding | None:
    """The stored embedding with that id, or None.

    Raises:
        UserError: the file is there but is not an embedding.
    """
    found = (folder / f"{identity}{suffix}" for suffix in SUFFIXES)
    path = next(filter(os.path.lexists, found), None)
    return open_embedding(path) if path is not None else None


def load_embeddings(folder: Path, passed_over: PassedOver | None = None) -> list[Embedding]:
    """All stored embeddings, oldest first, each with the points that were stored.

    Args:
        folder: where they are.
        passed_over: is told why a file is left out; None to raise that.

    Raises:
        UserError: a file is not an embedding, and ``passed_over`` is None.
    """
    files = {path.stem: path for suffix in SUFFIXES[::-1] for path in folder.glob(f"[!.]*{suffix}")}
    found = load_each(files.values(), _open_whole, passed_over)
    return sorted(found, key=lambda embedding: embedding.record.created)


def _open_whole(path: Path) -> Embedding:
    """An embedding whose points can be drawn."""
    embedding = open_embedding(path)
    embedding.layout()
    return embedding


def open_embedding(path: Path) -> Embedding:
    """An embedding by its file.

    Raises:
        UserError: the file is missing, truncated, another embedding, or something else.
    """
    if path.suffix == ".json":
        return Embedding(path, read_record(path, PublishedEmbedding).record)
    check_file(path, LARGEST_EMBEDDING, "embedding", within=path.parent.parent)
    try:
        embedding = Embedding(path, EmbeddingRecord.model_validate(load_description(path)))
    except ValidationError as error:
        raise explained(error, f"{path} is not a whole embedding", _cure(path)) from error
    if embedding.spec.id != path.stem:
        raise changed(path, f"it holds embedding {embedding.spec.id}")
    return embedding


def _fit(arrays: Mapping[str, Array]) -> bool:
    """Whether arrays have the types and shapes of a layout's, as many rows as they should."""
    kinds = all(
        array.ndim == len(SHAPES[name][1]) + 1
        and array.shape[1:] == SHAPES[name][1]
        and array.dtype.kind == SHAPES[name][0]
        and (array.dtype.kind == "i" or bool(np.isfinite(array).all()))
        for name, array in arrays.items()
    )
    return kinds and len({len(arrays[name]) for name in ("points", "labels", "predictions")}) == 1


def _path(folder: Path, identity: str) -> Path:
    return folder / f"{identity}.safetensors"


def _cure(path: Path) -> str:
    return f"Move it away (mv {path.name} {path.name}.bad) and run the command again to make it."
