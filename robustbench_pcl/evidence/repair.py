"""Repairing a workspace: what does not hold is set aside, and made again where that can be done.

Nothing is deleted. What was set aside is known by the name of its file, which is an id, so that it
can be made again from weights and descriptions that hold, even where the file cannot be read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import norm_of
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.manifest import MANIFEST
from robustbench_pcl.evidence.stored import FOLDERS, Stored
from robustbench_pcl.evidence.verify import Verifier
from robustbench_pcl.pipeline.tasks import Generate, Measure
from robustbench_pcl.pipeline.training import make_embedding
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipe import AnyModel, ExternalModel
from robustbench_pcl.report.diagnosis_formats import commands_of
from robustbench_pcl.store.adversarial_sets import (
    AdversarialSet,
    SetSpecification,
    find_set,
    open_set,
)
from robustbench_pcl.store.atomic import replacing, set_aside
from robustbench_pcl.store.checkpoints import checkpoint_name
from robustbench_pcl.store.embeddings import EmbeddingSpecification, open_embedding
from robustbench_pcl.store.records import ModelRecord, now
from robustbench_pcl.store.rules import measurement_id

if TYPE_CHECKING:
    from robustbench_pcl.models.supervised import SupervisedModel

ROUNDS = 4
"""What is made again may show that something else does not hold; so often, that is looked for."""
DAMAGED = FOLDERS.results / "damaged"
ORDER = (FOLDERS.checkpoints, FOLDERS.adversarial_sets, FOLDERS.measurements)
"""In which things are made again; what comes first is needed by the others."""
Make = Callable[[], object]


@dataclass
class Repaired:
    """What was done.

    Attributes:
        found: what does not hold now, and what could not be checked.
        aside: where that which did not hold lies now, by the path that it had; both in the folder.
        made: paths of what was made again, or put back under its own name.
        left: why something was not made again, or the command that makes it, by its path.
    """

    found: Verification
    aside: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def repair(verifier: Verifier, folder: Path) -> Repaired:
    """Set aside what does not hold in a workspace, and make it again where that can be done.

    Args:
        verifier: how to verify, and on which device to compute.
        folder: of the workspace.

    Raises:
        UserError: there is no such folder, it is a bundle, or the disk refuses.
    """
    if (folder / MANIFEST).exists():
        raise UserError(
            f"{folder} is a bundle: it shows what somebody found, and is not changed.",
            "Fetch it again, or repair the workspace behind it: pclbench verify --home DIR "
            "--repair",
        )
    found, stored = verifier.look_into(folder)
    repaired = Repaired(found)
    for _ in range(ROUNDS):
        lost = _set_aside(folder, found, repaired)
        if not lost:
            break
        makers = Makers(verifier, folder, stored, lost).by_path()
        for path in sorted(lost, key=_order):
            _make(folder, path, makers, repaired)
            if path not in repaired.made:
                repaired.left.setdefault(path, _command(path, stored))
        _put_back(folder, found, stored, repaired)
        found, stored = verifier.look_into(folder)
    repaired.found = found
    return repaired


def _set_aside(folder: Path, found: Verification, repaired: Repaired) -> dict[str, Path]:
    """Move what does not hold away; where it lies now, by the path that it had."""
    lost: dict[str, Path] = {}
    for path in found.wrong_files:
        if (folder / path).is_file():
            lost[path] = set_aside(folder / path, folder / DAMAGED / now()[:10] / path)
            repaired.aside[path] = lost[path].relative_to(folder).as_posix()
            if path in repaired.made:
                repaired.made.remove(path)
    return lost


def _order(path: str) -> int:
    parent = PurePosixPath(path).parent
    return next((place for place, kind in enumerate(ORDER) if PurePosixPath(kind) == parent), 9)


def _make(folder: Path, path: str, makers: Mapping[str, Make], repaired: Repaired) -> None:
    """Make something again, if that is known how; note that it was made, or why not."""
    if path not in makers:
        return
    try:
        makers[path]()
    except UserError as error:
        repaired.left[path] = f"{error.cause} {error.cure}"
        return
    if (folder / path).exists():
        repaired.made.append(path)
        repaired.left.pop(path, None)


def _put_back(folder: Path, found: Verification, stored: Stored, repaired: Repaired) -> None:
    """Give what was sound but for the name of its file its own name, unless that is taken."""
    for path, own in _own_names(stored):
        faults = {each.what for each in found.findings if each.file == path}
        if path in repaired.aside and faults == {"the file's name"}:
            place = folder / PurePosixPath(path).parent / own
            if not place.exists():
                with replacing(place) as temporary:
                    shutil.copyfile(folder / repaired.aside[path], temporary)
                own_path = place.relative_to(folder).as_posix()
                repaired.made.append(own_path)
                repaired.left.pop(own_path, None)
            repaired.left.pop(path, None)


def _own_names(stored: Stored) -> Iterator[tuple[str, str]]:
    """For what could be read its path, and the name that its file should have."""
    for path, record in {**stored.judged, **stored.trainings}.items():
        yield path, f"{record.file_name}.json"
    for path, checkpoint in stored.checkpoints.items():
        yield path, checkpoint_name(checkpoint.record)
    for path, checked in stored.sets.items():
        yield path, f"{checked.images.spec.id}.h5"


class Makers:
    """What makes artefacts again, from the weights and descriptions that hold.

    Args:
        verifier: on which device to compute.
        folder: of the workspace.
        stored: what could be read before anything was set aside.
        lost: where that which was set aside lies now, by the path that it had.
    """

    def __init__(
        self, verifier: Verifier, folder: Path, stored: Stored, lost: Mapping[str, Path]
    ) -> None:
        self._verifier, self._folder, self._stored, self._lost = verifier, folder, stored, lost
        self._checkpoints = {
            (each.record.checkpoint, each.record.weights): each
            for name, each in stored.checkpoints.items()
            if name not in lost
        }
        self._workspaces: dict[tuple[str, str], Workspace] = {}

    def by_path(self) -> dict[str, Make]:
        """What makes each of the lost artefacts that can be made again, by its path."""
        makers: dict[str, Make] = {}
        specifications = {each.id: each for each in self._specifications()}
        for each in specifications.values():
            if each.source and self._is_here(each.source):
                makers[_path(FOLDERS.adversarial_sets, f"{each.id}.h5")] = partial(self._set, each)
        counts = {each.n for each in self._stored.judged.values() if each.n > 0}
        clean = {each.data.digest for each in self._stored.judged.values()}
        for target in self._targets():
            for identity in specifications:
                path = _measured(measurement_id(target, set=identity))
                makers.setdefault(path, partial(self._on_set, target, identity))
            for n in counts:
                for digest in clean:
                    path = _measured(measurement_id(target, data=digest, n=n))
                    makers.setdefault(path, partial(self._on_clean, target, n, digest))
        for spec in self._embedded():
            if spec.view.epoch is None and self._is_here(spec.model):
                path = _path(FOLDERS.embeddings, f"{spec.id}.safetensors")
                makers[path] = partial(self._embedding, spec)
        return {path: makers[path] for path in self._lost if path in makers}

    def _specifications(self) -> Iterator[SetSpecification]:
        """Of all sets that are described anywhere."""
        for checked in self._stored.sets.values():
            yield checked.images.spec
        for place in self._inside(FOLDERS.adversarial_sets):
            with suppress(UserError):  # also where its images can no longer be read
                yield open_set(place).spec
        for each in self._stored.measurements.values():
            if each.attack is not None and isinstance(each.attack.get("name"), str):
                try:
                    yield SetSpecification(
                        source=each.source,
                        attack=each.attack,
                        norm=norm_of(each.attack),
                        data=each.data,
                        n=each.n,
                        seed=each.seed,
                        mode=each.mode,
                    )
                except ValidationError:  # a number of images that there cannot be
                    continue

    def _embedded(self) -> Iterator[EmbeddingSpecification]:
        """Of the embeddings that were set aside, as far as their headers can be read."""
        for place in self._inside(FOLDERS.embeddings):
            with suppress(UserError):
                yield open_embedding(place).spec

    def _inside(self, folder: Path) -> list[Path]:
        """What was set aside of a kind."""
        kind = PurePosixPath(folder)
        return [place for path, place in self._lost.items() if PurePosixPath(path).parent == kind]

    def _targets(self) -> list[ModelRecord]:
        """All models whose weights are here, as checkpoints and records describe them."""
        found = [each.record for each in self._checkpoints.values()]
        found += [each.target for each in self._stored.measurements.values()]
        return list({each.key: each for each in found if self._is_here(each)}.values())

    def _is_here(self, model: ModelRecord) -> bool:
        return (model.checkpoint, model.weights) in self._checkpoints

    def _workspace(self, model: ModelRecord) -> Workspace:
        """A workspace in which exactly these weights stand for their recipe."""
        key = (model.checkpoint, model.weights)
        if key not in self._workspaces:
            verifier = self._verifier
            self._workspaces[key] = Workspace(
                self._folder,
                device=verifier.device,
                data_root=verifier.data_root,
                progress=verifier.progress,
            )
            self._workspaces[key].open(self._checkpoints[key].path)
        return self._workspaces[key]

    def _set(self, specification: SetSpecification) -> None:
        source = specification.source
        assert source is not None  # others are imported
        workspace = self._workspace(source)
        attack = ATTACKS.read(specification.attack)
        n, seed, mode = specification.n, specification.seed, specification.mode
        task = Generate(source.recipe, attack, n, seed, mode)
        again = task.specification(workspace)
        if again is None or again.id != specification.id:
            raise _other_images(source.recipe)
        task.compute(workspace)

    def _on_set(self, target: ModelRecord, identity: str) -> None:
        self._workspace(target).judge(target.recipe, self._found_set(identity))

    def _on_clean(self, target: ModelRecord, n: int, digest: str) -> None:
        workspace = self._workspace(target)
        if workspace.dataset(target.recipe.dataset).test.digest != digest:
            raise _other_images(target.recipe)
        Measure(target.recipe, images=n).compute(workspace)

    def _embedding(self, specification: EmbeddingSpecification) -> None:
        model, name = specification.model, specification.adversarial_set
        workspace = self._workspace(model)
        if workspace.dataset(model.recipe.dataset).test.digest != specification.data.digest:
            raise _other_images(model.recipe)
        images = self._found_set(name) if name else None
        restored = cast("SupervisedModel", workspace.model(model.recipe))
        make_embedding(workspace, restored, specification, images)

    def _found_set(self, identity: str) -> AdversarialSet:
        images = find_set(Path(self._folder) / FOLDERS.adversarial_sets, identity)
        if images is None:
            raise UserError(f"Its adversarial set {identity} is not here.", "Attack again.")
        return images


def _path(folder: Path, name: str) -> str:
    return (folder / name).as_posix()


def _measured(identity: str) -> str:
    return _path(FOLDERS.measurements, f"{identity}.json")


def _other_images(model: AnyModel) -> UserError:
    return UserError(
        f"It is of other images of {model.dataset} than those here.",
        f"Add those: pclbench data add {model.dataset} FILE",
    )


def _command(path: str, stored: Stored) -> str:
    """What makes something that was set aside and could not be made again."""
    kind = PurePosixPath(path).parent.name
    if path in stored.diagnoses:
        return commands_of(stored.diagnoses[path])[0]
    if path in stored.certificates:
        recipe = stored.certificates[path].target.recipe
        return f"pclbench certify {recipe.name} --dataset {recipe.dataset} --scale {recipe.scale}"
    model = _trained(path, stored)
    if model is None:
        return _UNKNOWN.get(kind, "it is made again with its adversarial set")
    lost = "only training again tells, and the weights hold: " if kind == "trainings" else ""
    return lost + _training(model)


_UNKNOWN = {
    "partial": "the training starts again when it is needed",
    "checkpoints": "nothing here says how it was trained: pclbench train",
    "trainings": "nothing here says how it was trained: pclbench train",
    "diagnoses": "pclbench diagnose MODEL",
    "certificates": "pclbench certify MODEL",
    "embeddings": "pclbench run --figure NUMBER",
    "adversarial_sets": "nothing here says how it was made: pclbench attack makes or imports it",
    "measurements": "nothing here says what was measured: pclbench attack",
}
"""What to do where a file could not be read, by its folder."""


def _trained(path: str, stored: Stored) -> AnyModel | None:
    """The model of a checkpoint or a training record, from whatever still says it."""
    parent = PurePosixPath(path).parent
    if parent not in (PurePosixPath(FOLDERS.checkpoints), PurePosixPath(FOLDERS.trainings)):
        return None
    if path in stored.checkpoints:
        return stored.checkpoints[path].record.recipe
    known: list[tuple[str, AnyModel]]
    known = [(each.checkpoint, each.recipe) for each in stored.trainings.values()]
    known += [(each.record.checkpoint, each.record.recipe) for each in stored.checkpoints.values()]
    known += [(each.target.checkpoint, each.target.recipe) for each in stored.judged.values()]
    return next((recipe for checkpoint, recipe in known if checkpoint in path), None)


def _training(model: AnyModel) -> str:
    if isinstance(model, ExternalModel):
        command = f"pclbench attack {model.source} --weights FILE --dataset {model.dataset}"
        return f"{command} --name {model.name}"
    command = f"pclbench train {model.dataset} --recipe {model.name} --scale {model.scale}"
    return f"{command} --seed {model.seed}"
