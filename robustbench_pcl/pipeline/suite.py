"""Suites: which models, attacks and data a TOML file asks for, part by part."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from robustbench_pcl.configuration import (
    Count,
    Description,
    Mode,
    Scalar,
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
from robustbench_pcl.recipes.presets import add_recipes

_CURE = "See docs/suites.md for a whole example."


class AttackEntry(Description):
    """One ``[[attack]]``: its name, any of its parameters, and how its images are made.

    Attributes:
        name: of the attack.
        mode: exact, fast or early-stop; as the command says if None.
    """

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    name: str
    mode: Mode | None = None


def _read_seeds(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


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
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    sources: tuple[str, ...] = ()
    attack: Annotated[tuple[AttackEntry, ...], Field(min_length=1)]
    scale: Scale = "quick"
    seed: Annotated[tuple[Seed, ...], BeforeValidator(_read_seeds), Field(min_length=1)] = (0,)
    images: Count | None = None
    diagnose: bool = False


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
    epochs: Annotated[tuple[Count, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.epochs)):
            raise ValueError("epochs do not rise")
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
        return [
            (part, list(self._tasks(part, artefacts, images or part.images, mode)))
            for part in self.part
        ]

    def _tasks(
        self, part: Part, artefacts: Artefacts, images: int | None, mode: Mode
    ) -> Iterator[Measure | Diagnose]:
        targets = [name for target in part.targets for name in self._points(target)]
        for dataset in part.datasets:
            attacks = [
                (
                    load_attack(entry.name, dataset, part.scale, entry.model_extra or {}),
                    entry.mode or mode,
                )
                for entry in part.attack
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


def load_suite(path: Path) -> Suite:
    """Read a suite file; its own recipes are then names like any other.

    What stands above the first ``[[part]]`` holds for every part that does not say otherwise; a
    file without parts is one part.

    Raises:
        UserError: it cannot be read, is not TOML, or says something that no suite has.
    """
    tables: dict[str, Any] = {}
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))
        suite = Suite.model_validate(_with_parts(tables))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}.", _CURE) from error
    except ValidationError as error:
        wrong = explained(error, str(path), _CURE)
        cause = wrong.cause if "part" in tables else wrong.cause.replace("part.0.", "", 1)
        raise UserError(cause, wrong.cure) from error
    add_recipes(suite.recipes, str(path))
    for name, trajectory in suite.trajectories.items():
        add_recipes(trajectory.recipes(name), f"{path}: {name}")
    return suite


def _with_parts(tables: Mapping[str, Any]) -> dict[str, Any]:
    """A file's tables with every part complete."""
    shared = {key: value for key, value in tables.items() if key in Part.model_fields}
    others = {key: value for key, value in tables.items() if key not in (*shared, "part")}
    parts = tables.get("part", [{}])
    complete = [{**shared, **part} if isinstance(part, Mapping) else part for part in parts]
    return {**others, "part": complete}
