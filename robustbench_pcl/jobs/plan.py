"""Cells to jobs: what has to be trained, crafted and measured, in an order that works."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.recipe import Recipe


@dataclass(frozen=True)
class Job(ABC):
    """A piece of work whose result is an artefact; done when that exists, so it may run twice."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it does, in a few words."""

    @abstractmethod
    def done(self, bench: Bench) -> bool:
        """Whether its artefact is stored."""

    @abstractmethod
    def run(self, bench: Bench) -> None:
        """Make its artefact."""


@dataclass(frozen=True)
class Train(Job):
    """Train a recipe."""

    recipe: Recipe

    @property
    def title(self) -> str:
        """Name and data set."""
        return f"train {self.recipe.name} on {self.recipe.dataset}"

    def done(self, bench: Bench) -> bool:
        """Whether the checkpoint is stored."""
        return bench.checkpoint(self.recipe) is not None

    def run(self, bench: Bench) -> None:
        """Train it."""
        bench.train(self.recipe)


@dataclass(frozen=True)
class Craft(Job):
    """Craft an adversarial set."""

    source: Recipe
    attack: Part

    @property
    def title(self) -> str:
        """Attack, source and data set."""
        return f"{describe(self.attack)} on {self.source.name}, {self.source.dataset}"

    def done(self, bench: Bench) -> bool:
        """Whether the set is stored."""
        return bench.find_adversarial_set(self.source, self.attack) is not None

    def run(self, bench: Bench) -> None:
        """Craft it."""
        bench.craft(self.source, self.attack)


@dataclass(frozen=True)
class Measure(Job):
    """Measure a target on clean images or on a source's adversarial set."""

    target: Recipe
    source: Recipe | None = None
    attack: Part | None = None

    @property
    def title(self) -> str:
        """Target, and what it is measured on."""
        if self.attack is None or self.source is None:
            return f"clean accuracy of {self.target.name}, {self.target.dataset}"
        against = f"{describe(self.attack)} from {self.source.name}"
        return f"{self.target.name} under {against}, {self.target.dataset}"

    def done(self, bench: Bench) -> bool:
        """Whether the measurement is stored."""
        return bench.find_measurement(self.target, self.source, self.attack) is not None

    def run(self, bench: Bench) -> None:
        """Measure it."""
        bench.measure(self.target, self.source, self.attack)


def plan(measures: Iterable[Measure], trainings: Iterable[Train] = ()) -> list[Job]:
    """All jobs behind some measurements: trainings first, then sets, then measurements.

    Args:
        measures: what is to be known.
        trainings: models that are wanted for their training figures alone.
    """
    measures = list(measures)
    trained: dict[str, Job] = {}
    crafted: dict[str, Job] = {}
    measured: dict[str, Job] = {}
    for job in trainings:
        _add_training(trained, job.recipe)
    for measure in measures:
        for recipe in filter(None, (measure.source, measure.target)):
            _add_training(trained, recipe)
        if measure.attack is not None:
            craft = Craft(measure.source or measure.target, measure.attack)
            crafted.setdefault(repr(craft), craft)
        measured.setdefault(repr(measure), measure)
    return [*trained.values(), *crafted.values(), *measured.values()]


def describe(attack: Part) -> str:
    """An attack in a few words: ``pgd eps 0.3``, ``pgd eps 0.3 loss margin``."""
    shown = {name: attack.parameters.get(name) for name in ("eps", "c", "loss")}
    words = [
        f"{name} {_short(value)}"
        for name, value in shown.items()
        if value not in (None, "cross-entropy")
    ]
    return " ".join([attack.name, *words])


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _add_training(jobs: dict[str, Job], recipe: Recipe) -> None:
    """Add a training after the one that it starts from."""
    if recipe.start is not None:
        _add_training(jobs, recipe.start)
    jobs.setdefault(recipe.id(""), Train(recipe))
