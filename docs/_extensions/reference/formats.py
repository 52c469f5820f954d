"""Pages of file formats: what every field of what is stored says, from the code that reads it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_type_hints

from pydantic import BaseModel

from reference import restructured as rst
from robustbench_pcl.environment import Environment
from robustbench_pcl.evidence.manifest import FileRecord, Manifest, Selection
from robustbench_pcl.pipeline.runs import RunRecord, TaskState
from robustbench_pcl.recipe import AdversarialTraining, ExternalModel, Recipe, Schedule
from robustbench_pcl.store.adversarial_sets import SetSpecification, SetSummary
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.claims import Process
from robustbench_pcl.store.diagnoses import Check, Competence, Diagnosis
from robustbench_pcl.store.embeddings import EmbeddingRecord, EmbeddingSpecification, Layout, View
from robustbench_pcl.store.records import DataRecord, Measurement, ModelRecord, TrainingRecord

PARTS = (DataRecord, ModelRecord, Environment, Recipe, Schedule, AdversarialTraining, ExternalModel)
"""What several files hold."""
FILES: dict[str, tuple[str, str, tuple[type, ...]]] = {
    "measurement": (
        "Measurements",
        "``results/measurements/<id>.json``: one accuracy.",
        (Measurement,),
    ),
    "training": (
        "Training records",
        "``results/trainings/<checkpoint>-<weights>.json``: how a checkpoint came to be.",
        (TrainingRecord,),
    ),
    "diagnosis": (
        "Diagnoses",
        "``results/diagnoses/<id>.json``: whether a robust accuracy holds.",
        (Diagnosis, Check, Competence),
    ),
    "certificate": (
        "Certificates",
        "``results/certificates/<id>.json``: a certified and a fooling radius for each image.",
        (Certificate,),
    ),
    "checkpoint": (
        "Checkpoints",
        "``checkpoints/<recipe>-<dataset>-...-<id>-<weights>.safetensors``: weights. The header's "
        "key ``pclbench`` is JSON: ``format``, ``seal`` (a digest of all that it says), and a "
        "model record. ``checkpoints/partial`` keeps interrupted trainings in the same form.",
        (ModelRecord,),
    ),
    "embedding": (
        "Embeddings",
        "``results/embeddings/<id>.safetensors``: points of the figures. The arrays are those of a "
        "layout, the header's key ``pclbench`` is JSON: ``format``, ``seal``, and a record.",
        (Layout, EmbeddingRecord, EmbeddingSpecification, View),
    ),
    "run": (
        "Runs",
        "``results/jobs/<run>/run.json``: what runs or ran, where, and what became of each task. "
        "``pclbench jobs status`` prints it.",
        (RunRecord, TaskState, Process),
    ),
    "manifest": (
        "Manifests of bundles and archives",
        "``bundle.json`` in a bundle, ``contents.json`` as an archive's first member: every other "
        "file with its SHA-256.",
        (Manifest, Selection, FileRecord),
    ),
}
"""Files whose fields are a class's: title, where they lie, and the classes."""
SET = """\
``results/adversarial_sets/<id>.h5``: the images of one attack on one source. HDF5 without links,
objects of variable length or filters other than gzip and Fletcher-32; pclbench reads it with its
own reader, and any HDF5 library can read it too."""
ARRAYS = (
    ("images", "float32 (n, C, H, W)", "adversarial images, pixels in [0, 1]; gzip, in chunks"),
    ("indices", "int64 (n)", "where in the test split each image's clean one is"),
    ("labels", "int64 (n)", "true classes"),
    ("predictions", "int64 (n)", "the source's classes of the adversarial images"),
    (
        "felled_by",
        "int64 (n)",
        "0 withstood, 1 wrong when clean, 2 + k fooled by stage k of the attack",
    ),
)
ATTRIBUTES = (
    ("format", "integer", "of the file"),
    ("complete", "true", "written last: the set is finished"),
    ("spec", "JSON", "what the set is made from, see below"),
    ("summary", "JSON", "what is known of it, see below"),
    ("stages", "JSON", "the titles of the attack's stages"),
)


def pages() -> dict[str, str]:
    """A page for each kind of file, one of what several of them hold, and one that lists them."""
    found = {
        f"formats/{name}": rst.page(
            rst.heading(title, 0, f"format-{name}"), words, *_classes(classes)
        )
        for name, (title, words, classes) in FILES.items()
    }
    found["formats/adversarial-set"] = rst.page(
        rst.heading("Adversarial sets", 0, "format-adversarial-set"),
        SET,
        rst.heading("Arrays", 1),
        rst.table(("Array", "Type", "What it is"), [_row(*row) for row in ARRAYS]),
        rst.heading("Attributes", 1),
        rst.table(("Attribute", "Type", "What it is"), [_row(*row) for row in ATTRIBUTES]),
        *_classes((SetSpecification, SetSummary)),
    )
    found["formats/parts"] = rst.page(
        rst.heading("What several files hold", 0, "format-parts"), *_classes(PARTS)
    )
    names = [*FILES, "adversarial-set", "parts"]
    found["formats/index"] = rst.page(
        rst.heading("File formats", 0, "formats"),
        "Everything that is stored names its format (2) and carries digests of all that it says. "
        "Nothing is pickled. An artefact's id is a digest of what it was made from.",
        rst.contents(names, hidden=False),
    )
    return found


def _classes(classes: Iterable[type]) -> Iterator[str]:
    for kind in classes:
        yield rst.heading(_words(kind.__name__), 1)
        yield rst.first_line(kind)
        yield rst.table(("Field", "Type", "What it says"), fields(kind))


def _words(name: str) -> str:
    """A class's name in words: "ModelRecord" is a model record."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def fields(kind: type) -> Iterator[tuple[str, str, str]]:
    """Each field of a class: its name, its type, what the class's docstring says of it."""
    said, types = rst.attributes(kind), get_type_hints(kind)
    for name in _names(kind):
        yield rst.code(name), rst.code(_type(types[name])), rst.plain(said.get(name, ""))


def _names(kind: type) -> list[str]:
    if issubclass(kind, BaseModel):
        return [*kind.model_fields]
    return [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]


def _type(annotation: Any) -> str:
    """A type in short, without the modules that it comes from."""
    text = inspect.formatannotation(annotation)
    if "ndarray" in text:
        return "array | None" if "None" in text.replace("NoneType", "None") else "array"
    text = text.replace("NoneType", "None")
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


def _row(name: str, kind: str, words: str) -> tuple[str, str, str]:
    return rst.code(name), rst.plain(kind), rst.plain(words)
