"""Suites: which models, attacks and data a TOML file asks for, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.configuration import (
    Count,
    Description,
    Mode,
    Place,
    Scale,
    Seed,
    explained,
)
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.pipeline.diagnosing import Diagnose
from robustbench_pcl.pipeline.models import add_external, find_model
from robustbench_pcl.pipeline.tasks import Measure
from robustbench_pcl.recipe import AnyModel, Origin
from robustbench_pcl.recipes.load import load_attack
from robustbench_pcl.recipes.presets import MOST_BASES, add_recipes
from robustbench_pcl.store.reading import LARGEST_TOML, parse_toml, read_bounded

MOST_MEASUREMENTS = 100_000
"""Of one part."""
_CURE = "See docs/suites.md for a whole example."


class AttackEntry(Description):
    """One ``[[attack]]``: its name, any of its parameters, and how its images are made.

    Attributes:
        name: of the attack.
        mode: exact, fast or early-stop; as the command says if None.
    """

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Any] = Field(init=False)

    name: str
    mode: Mode | None = None


def _one_or_several(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Several = BeforeValidator(_one_or_several)
"""Of a list that may be written as its only member."""
Names = Annotated[tuple[str, ...], Several]


class Part(Description):
    """Which targets are attacked by what; every target by every attack, on every data set.

    Attributes:
        title: what it asks, in words.
        datasets: names of data sets.
        targets: models that are measured: recipes, trajectories, external models, checkpoints'
            files.
        sources: models that adversarial images are also made on.
        attack: the attacks; what one leaves out is as ``pclbench attack`` has it.
        scale: of every recipe; of an external model it decides how many images are attacked.
        seed: of every recipe and attack; several train every recipe several times.
        images: how many test images; the scale's own number if None.
        diagnose: also ask whether the first attack's numbers hold, with the sources' images, too.
    """

    title: str = ""
    datasets: Annotated[Names, Field(min_length=1)]
    targets: Annotated[Names, Field(min_length=1)]
    sources: Names = ()
    attack: Annotated[tuple[AttackEntry, ...], Several, Field(min_length=1)]
    scale: Scale = "quick"
    seed: Annotated[tuple[Seed, ...], Several, Field(min_length=1)] = (0,)
    images: Count | None = None
    diagnose: bool = False

    @model_validator(mode="after")
    def _can_be_planned(self) -> Self:
        each = len(self.attack) * (1 + len(self.sources)) + 1
        if len(self.datasets) * len(self.seed) * len(self.targets) * each > MOST_MEASUREMENTS:
            raise ValueError(f"it asks for more than {MOST_MEASUREMENTS:,} measurements")
        return self


class Trajectory(Description):
    """A long training with a checkpoint at several of its epochs, each a recipe of its own.

    They are named after the epochs: ``long-100``, ``long-300``. Each goes on where the one before
    it ended, with its prototypes.

    Attributes:
        base: the recipe that it differs from.
        start: the recipe that the first one continues from.
        epochs: after which there is a checkpoint, rising.
        fields: all else that differs from the base, in the form of ``presets.toml``.
    """

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Any] = Field(init=False)

    base: str
    start: str
    epochs: Annotated[tuple[Count, ...], Field(min_length=1, max_length=MOST_BASES - 10)]

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.epochs)):
            raise ValueError("epochs do not rise")
        if not isinstance((self.model_extra or {}).get("schedule", {}), Mapping):
            raise ValueError("schedule is not a table")
        return self

    def recipes(self, name: str) -> dict[str, dict[str, Any]]:
        """Its recipes by name, in the form of ``presets.toml``."""
        further = dict(self.model_extra or {})
        schedule = {"milestones": [], **further.pop("schedule", {})}
        found, start, before = {}, self.start, 0
        for epochs in self.epochs:
            own = {**schedule, "epochs": epochs - before}
            found[f"{name}-{epochs}"] = {
                "base": self.base,
                "start": start,
                "schedule": own,
                **further,
            }
            start, before = f"{name}-{epochs}", epochs
        return found


class Suite(Description):
    """A user's own suite in a TOML file; see ``docs/suites.md``.

    Attributes:
        part: what is asked, each complete.
        recipes: recipes of the suite's own, in the form of ``presets.toml``.
        trajectories: long trainings by name, each with several checkpoints.
        models: external models by name, which come in when the suite is run.
    """

    part: tuple[Part, ...]
    recipes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    trajectories: dict[str, Trajectory] = Field(default_factory=dict)
    models: dict[str, Origin] = Field(default_factory=dict)
    _where: str = PrivateAttr("")

    def tasks(
        self, artefacts: Artefacts, *, images: int | None = None, mode: Mode = "fast"
    ) -> list[tuple[Part, list[Measure | Diagnose]]]:
        """Clean, white-box and black-box accuracy of every target, and diagnoses, part by part.

        Args:
            artefacts: where checkpoints and external models are.
            images: how many test images, whatever the suite says; as it says if None.
            mode: how adversarial sets are made where the suite does not say.

        Raises:
            UserError: a data set, model, attack or parameter is unknown, or a value is wrong.
        """
        found: list[tuple[Part, list[Measure | Diagnose]]] = []
        for number, part in enumerate(self.part, 1):
            try:
                tasks = list(self._tasks(part, artefacts, images or part.images, mode))
            except UserError as error:
                place = f"part {number}, " if len(self.part) > 1 else ""
                raise UserError(f"{self._where}{place}{error.cause}", error.cure) from error
            found.append((part, tasks))
        return found

    def _tasks(
        self, part: Part, artefacts: Artefacts, images: int | None, mode: Mode
    ) -> Iterator[Measure | Diagnose]:
        targets = [name for target in part.targets for name in self._points(target)]
        for dataset in part.datasets:
            attacks = [
                (_attack(entry, number, dataset, part.scale), entry.mode or mode)
                for number, entry in enumerate(part.attack, 1)
            ]
            for seed in part.seed:
                known = {
                    name: self._model(name, dataset, part.scale, seed, artefacts)
                    for name in (*targets, *part.sources)
                }
                for target in (known[name] for name in targets):
                    sources = [known[name] for name in part.sources if known[name] != target]
                    yield Measure(target, images=images)
                    for source in (target, *sources):
                        for attack, how in attacks:
                            yield Measure(target, source, attack, images, seed, how)
                    if part.diagnose:
                        yield Diagnose(target, attacks[0][0], images, seed, tuple(sources))

    def _points(self, target: str) -> list[str]:
        """A trajectory's recipes, or the target itself."""
        if target in self.trajectories:
            return list(self.trajectories[target].recipes(target))
        return [target]

    def _model(
        self, name: str, dataset: str, scale: Scale, seed: int, artefacts: Artefacts
    ) -> AnyModel:
        if name in self.models:
            return add_external(artefacts, self.models[name], dataset, name=name, scale=scale)
        return find_model(artefacts, name, dataset, scale, seed)


def _attack(entry: AttackEntry, number: int, dataset: str, scale: Scale) -> Attack:
    """The complete attack of an entry, which is the part's so many-th."""
    try:
        return load_attack(entry.name, dataset, scale, entry.model_extra or {})
    except UserError as error:
        raise UserError(f"attack {number}: {error.cause}", error.cure) from error


def load_suite(path: Path) -> Suite:
    """Read a suite file; its own recipes are then names like any other.

    What stands above the first ``[[part]]`` holds for every part that does not say otherwise; a
    file without parts is one part.

    Raises:
        UserError: it cannot be read, is not TOML, or says something that no suite has.
    """
    content = read_bounded(path, LARGEST_TOML, "suite")
    tables = parse_toml(content, f"{path} is not TOML", _CURE)
    try:
        suite = Suite.model_validate(_with_parts(tables))
    except ValidationError as error:
        raise explained(error, str(path), _CURE, _place if "part" in tables else _in_one) from error
    suite._where = f"{path}: "
    add_recipes(suite.recipes, str(path))
    for name, trajectory in suite.trajectories.items():
        add_recipes(trajectory.recipes(name), f"{path}: {name}")
    return suite


def _place(where: Place) -> str:
    """A place in a suite, counted from 1: "part 2, attack 1, eps"."""
    words = ""
    for each in where:
        words += f" {each + 1}" if isinstance(each, int) else f", {each}"
    return words.removeprefix(", ")


def _in_one(where: Place) -> str:
    """The same in a file that is one part."""
    return _place(where[2:] if where[:1] == ("part",) else where)


def _with_parts(tables: Mapping[str, Any]) -> dict[str, Any]:
    """A file's tables with every part complete."""
    shared = {key: value for key, value in tables.items() if key in Part.model_fields}
    others = {key: value for key, value in tables.items() if key not in (*shared, "part")}
    parts = tables.get("part", [{}])
    if not isinstance(parts, list):
        return {**others, "part": parts}
    complete = [{**shared, **part} if isinstance(part, Mapping) else part for part in parts]
    return {**others, "part": complete}
