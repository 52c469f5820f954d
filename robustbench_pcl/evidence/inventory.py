"""What lies in a workspace: artefacts, what they were made from, and what was left over."""

from __future__ import annotations

import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, NamedTuple

from robustbench_pcl.configuration import ID_LENGTH, Dump
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import UserError, in_one_line
from robustbench_pcl.evidence.stored import FOLDERS, models_in, name_of, why
from robustbench_pcl.progress import Progress, tracked
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.store.adversarial_sets import AdversarialSet, open_set
from robustbench_pcl.store.atomic import TEMPORARY
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.checkpoints import Checkpoint, open_checkpoint
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import SUFFIXES, Embedding, open_embedding
from robustbench_pcl.store.formats import DAMAGE, LARGEST_FILE
from robustbench_pcl.store.reading import cannot_read, check_file
from robustbench_pcl.store.records import (
    DataRecord,
    Measurement,
    ModelRecord,
    Paths,
    TrainingRecord,
    read_record,
)

Travelling = Literal[
    "training", "checkpoint", "set", "measurement", "embedding", "diagnosis", "certificate"
]
"""Kinds that are whole."""
Kind = Travelling | Literal["strip", "partial", "parts", "job", "temporary", "other"]
"""In the order in which they are written: what is made of something comes behind it."""
TITLES: Mapping[Kind, str] = {
    "training": "Training records",
    "checkpoint": "Checkpoints",
    "set": "Adversarial sets",
    "measurement": "Measurements",
    "embedding": "Embeddings",
    "diagnosis": "Diagnoses",
    "certificate": "Certificates",
    "strip": "Strips of images",
    "partial": "States of interrupted trainings",
    "parts": "Parts of adversarial sets",
    "job": "Runs of executors",
    "temporary": "Temporary files",
    "other": "Other files",
}
Records = TrainingRecord | Measurement | Diagnosis | Certificate
About = Checkpoint | AdversarialSet | Embedding | Records
NAMED = re.compile(rf"([0-9a-f]{{{ID_LENGTH}}})(?:-([0-9a-f]{{{ID_LENGTH}}}))?$")
"""How the name of an artefact's file ends: its id, or a checkpoint's id and weights."""


class Place(NamedTuple):
    """Where artefacts of one kind lie, and what reads one."""

    folder: Path
    kind: Kind
    suffixes: Sequence[str]
    read: Callable[[Path], About]


def _records(folder: Path, kind: Kind, record: type[Records]) -> Place:
    return Place(folder, kind, (".json",), partial(read_record, kind=record))


PLACES: Mapping[str, Place] = {
    place.folder.as_posix(): place
    for place in (
        _records(FOLDERS.trainings, "training", TrainingRecord),
        Place(FOLDERS.checkpoints, "checkpoint", (".safetensors",), open_checkpoint),
        Place(FOLDERS.adversarial_sets, "set", (".h5",), open_set),
        _records(FOLDERS.measurements, "measurement", Measurement),
        Place(FOLDERS.embeddings, "embedding", SUFFIXES, open_embedding),
        _records(FOLDERS.diagnoses, "diagnosis", Diagnosis),
        _records(FOLDERS.certificates, "certificate", Certificate),
    )
}
"""By folder, in the order in which artefacts are made from each other."""
TRAVELLING = tuple(place.kind for place in PLACES.values())


@dataclass(frozen=True, eq=False)
class Item:
    """A file or folder of a workspace.

    Attributes:
        kind: of what it is.
        name: its path in the workspace, with forward slashes.
        path: where it is.
        size: in bytes, of a folder with all that is in it.
        changed: when it was last, in seconds since 1970.
        about: what it says of itself; None where it says nothing, or is damaged.
        damage: why it could not be read, or "".
    """

    kind: Kind
    name: str
    path: Path
    size: int
    changed: float
    about: About | None = None
    damage: str = ""

    @cached_property
    def names(self) -> tuple[str, str]:
        """Its id, and the digest of a model's weights or "", as its file's name has them."""
        if isinstance(self.about, Checkpoint):
            return self.about.record.checkpoint, self.about.record.weights
        match = NAMED.search(self.path.stem)
        return (match[1], match[2] or "") if match else (self.path.name, "")

    @property
    def id(self) -> str:
        """Its id; what has none has its file's name."""
        return self.names[0]

    @property
    def models(self) -> tuple[ModelRecord, ...]:
        """The models that it is about: its own or its target first, then its sources."""
        match self.about:
            case Checkpoint(record=model):
                return (model,)
            case TrainingRecord(checkpoint=checkpoint, weights=weights, recipe=recipe):
                return (ModelRecord(checkpoint=checkpoint, weights=weights, recipe=recipe),)
            case AdversarialSet(spec=spec):
                return (spec.source,) if spec.source else ()
            case Embedding():
                return (self.about.spec.model,)
            case Measurement() | Diagnosis() | Certificate():
                return tuple(models_in(self.about))
        return ()

    @property
    def _described(self) -> object:
        """What names the images that it was made from."""
        if isinstance(self.about, AdversarialSet | Embedding):
            return self.about.spec
        return self.about

    @property
    def data(self) -> DataRecord | None:
        """The images that it was made from."""
        return getattr(self._described, "data", None)

    @property
    def dataset(self) -> str | None:
        """The name of its data set."""
        if self.data is not None:
            return self.data.dataset
        return self.models[0].recipe.dataset if self.models else None

    @property
    def attack(self) -> Dump | None:
        """The complete configuration of its attack."""
        return getattr(getattr(self._described, "view", self._described), "attack", None)

    @property
    def images(self) -> int | None:
        """How many images it is about."""
        return getattr(self._described, "n", None)

    @property
    def set_id(self) -> str | None:
        """The id of the adversarial set that it was made from."""
        return getattr(self._described, "adversarial_set", None)

    @property
    def record(self) -> object:
        """What says where and when it was made."""
        match self.about:
            case AdversarialSet():
                return self.about.summary
            case Embedding():
                return self.about.record
        return self.about

    @property
    def environment(self) -> Environment | None:
        """Where it was made; a checkpoint does not say so, but its training record does."""
        return getattr(self.record, "environment", None)

    @property
    def created(self) -> str:
        """When it was made, ISO 8601, UTC; of what does not say so, when it was last changed."""
        changed = datetime.fromtimestamp(self.changed, UTC).isoformat(timespec="seconds")
        return getattr(self.record, "created", changed)


class Inventory:
    """All that lies in a workspace.

    Args:
        paths: of the workspace.
        items: what is there, in the order of its making.
    """

    def __init__(self, paths: Paths, items: Iterable[Item]) -> None:
        self.paths = paths
        self.items = tuple(items)
        self._by_id: dict[tuple[Kind, str], list[Item]] = defaultdict(list)
        for item in self.items:
            self._by_id[item.kind, item.id].append(item)

    def of(self, *kinds: Kind) -> list[Item]:
        """The items of some kinds."""
        return [item for item in self.items if item.kind in kinds]

    def known(self, kind: Kind, identity: str, weights: str = "") -> list[Item]:
        """The items with an id; of a model, those with some weights, or any."""
        found = self._by_id.get((kind, identity), [])
        return [item for item in found if weights in ("", item.names[1])]

    def above(self, item: Item) -> list[Item]:
        """What it was made from, as far as that is here; a model and its training go together."""
        found: list[Item] = []
        for model in item.models:
            found += self.known("checkpoint", model.checkpoint, model.weights)
        if item.set_id is not None:
            found += self.known("set", item.set_id)
        if isinstance(item.about, Checkpoint):
            found += self.known("training", *item.names)
            found += self.starts(item)
        return [each for each in found if each is not item]

    def starts(self, checkpoint: Item) -> list[Item]:
        """The checkpoints of the recipe that a model's training went on from."""
        recipe = checkpoint.models[0].recipe
        if isinstance(recipe, ExternalModel) or recipe.start is None:
            return []
        trained = self.known("training", *checkpoint.names)
        digests = {each.data.digest for each in trained if each.data}
        return [
            item for digest in digests for item in self.known("checkpoint", recipe.start.id(digest))
        ]

    def absent(self, item: Item) -> list[str]:
        """What it was made from and that is not here, in words."""
        found = [
            f"checkpoint {model.checkpoint} ({model.recipe.name})"
            for model in item.models
            if not self.known("checkpoint", model.checkpoint, model.weights)
        ]
        if item.set_id is not None and not self.known("set", item.set_id):
            found.append(f"adversarial set {item.set_id}")
        return found

    @cached_property
    def _below(self) -> dict[str, list[Item]]:
        below: dict[str, list[Item]] = defaultdict(list)
        for item in self.items:
            for other in self.above(item):
                below[other.name].append(item)
        return below

    def below(self, item: Item) -> list[Item]:
        """What was made from it, also by way of others, in the order of making."""
        return self._closure([item], lambda each: self._below[each.name])[1:]

    def with_all_above(self, items: Iterable[Item]) -> list[Item]:
        """Some items and all that they rest on, in the order of making."""
        return self._closure(items, self.above)

    def _closure(
        self, items: Iterable[Item], beside: Callable[[Item], Sequence[Item]]
    ) -> list[Item]:
        waiting, found = list(items), dict[str, Item]()
        while waiting:
            item = waiting.pop()
            if item.name not in found:
                found[item.name] = item
                waiting += beside(item)
        order = {item.name: place for place, item in enumerate(self.items)}
        return sorted(found.values(), key=lambda item: order[item.name])

    def find(self, text: str) -> list[Item]:
        """The items that a user may mean: by an id or its beginning, by weights, by a file.

        A training record is meant only where its checkpoint is not here; a strip, by its file.
        """
        path = Path(text)
        tests: tuple[Callable[[Item], bool], ...] = (
            lambda item: text in (item.name, item.path.name),
            lambda item: path.exists() and item.path.resolve() == path.resolve(),
            lambda item: item.kind != "strip" and text in item.names,
            lambda item: item.kind != "strip" and any(n.startswith(text) for n in item.names),
        )
        found = ([item for item in self.items if text and test(item)] for test in tests)
        named = next(filter(None, found), [])
        checkpoints = {each.names for each in named if each.kind == "checkpoint"}
        return [item for item in named if item.kind != "training" or item.names not in checkpoints]

    def one(self, text: str) -> Item:
        """The item that a user means.

        Raises:
            UserError: there is none, or it may be several.
        """
        found = self.find(text)
        if not found:
            cause = f"There is nothing called {text!r} in {self.paths.root}."
            raise UserError(cause, "See what there is: pclbench store list.")
        if len(found) > 1:
            shown = ", ".join(item.name for item in found[:MOST_SHOWN])
            more = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
            cause = f"{text!r} may be {len(found)} things: {shown}{more}."
            raise UserError(cause, "Give more of its id, or its file's name.")
        return found[0]


MOST_SHOWN = 6
"""Candidates that a message names."""


def take_stock(paths: Paths, progress: Progress | None = None) -> Inventory:
    """Look at all that lies in a workspace; what cannot be read is there as damaged.

    Links that lead out are not followed; pipes and devices are not opened.

    Raises:
        UserError: there is no such folder, or this user may not look into it.
    """
    if not paths.root.is_dir():
        raise UserError(f"There is no folder {paths.root}.", "Check its path.")
    entries, order = list(_entries(paths)), list(TITLES)
    shown = tracked(entries, f"reading {paths.root}", len(entries), progress or Progress())
    items = list(filter(None, (_item(paths, path) for path in shown)))
    return Inventory(paths, sorted(items, key=lambda item: (order.index(item.kind), item.name)))


def _entries(paths: Paths) -> Iterator[Path]:
    """Files and folders in the workspace's folders, but these folders themselves."""
    own = {folder for name, folder in vars(paths).items() if name != "root"}
    waiting = [paths.checkpoints, paths.results]
    while waiting:
        folder = waiting.pop()
        try:
            inside = sorted(folder.iterdir()) if folder.is_dir() else []
        except OSError as error:
            raise cannot_read(folder, error) from error
        waiting += [path for path in inside if path in own and path.is_dir()]
        yield from (path for path in inside if path not in waiting)


def _item(paths: Paths, path: Path) -> Item | None:
    """A file or folder with what it says of itself; None where it is gone by now."""
    try:
        folder = stat.S_ISDIR(path.lstat().st_mode)
        size, changed = _extent(path)
    except FileNotFoundError:
        return None
    kind, read = _kind(paths, path, folder=folder)
    about, damage = None, ""
    try:
        if not folder:
            check_file(path, LARGEST_FILE, "stored file", paths.root)
        about = read(path) if read else None
    except UserError as error:
        damage = why(error, path)
    except (RecursionError, *DAMAGE) as error:
        damage = in_one_line(error)
    return Item(kind, name_of(path, paths), path, size, changed, about, damage)


def _kind(paths: Paths, path: Path, *, folder: bool) -> tuple[Kind, Callable[[Path], About] | None]:
    """What a file or folder is by its name and place, and what reads it."""
    place = PLACES.get(name_of(path.parent, paths))
    if TEMPORARY.fullmatch(path.name) or path.parent == paths.claims:
        return "temporary", None
    if path.name.startswith("."):
        return "other", None
    if not folder and place is not None and path.suffix in place.suffixes:
        return place.kind, place.read
    known: dict[tuple[bool, Path, str], Kind] = {
        (True, paths.adversarial_sets, ".parts"): "parts",
        (True, paths.jobs, path.suffix): "job",
        (False, paths.partial, ".safetensors"): "partial",
        (False, paths.strips, ".png"): "strip",
    }
    return known.get((folder, path.parent, path.suffix), "other"), None


def _extent(path: Path) -> tuple[int, float]:
    """Bytes, and the time of the last change; of a folder that of the newest in it."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size, status.st_mtime
    inside = [_extent(each) for each in path.iterdir()]
    return sum(size for size, _ in inside), max([status.st_mtime, *(when for _, when in inside)])
