"""Cells to jobs: what has to be trained, crafted and measured, in an order that works."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.embeddings import embed, find_embedding
from robustbench_pcl.jobs.job import Job
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.specs.view import View

__all__ = ["KINDS", "Craft", "Embed", "Job", "Measure", "Train", "describe", "lacking", "plan"]


@dataclass(frozen=True)
class Train(Job):
    """Train a recipe."""

    recipe: Recipe

    @property
    def title(self) -> str:
        """Name and data set."""
        return f"train {self.recipe.name} on {self.recipe.dataset}"

    @property
    def needs(self) -> tuple[Job, ...]:
        """The training that it starts from."""
        return (Train(self.recipe.start),) if self.recipe.start else ()

    def done(self, bench: Bench) -> bool:
        """Whether the checkpoint is stored."""
        return bench.checkpoint(self.recipe) is not None

    def run(self, bench: Bench) -> None:
        """Train it."""
        bench.train(self.recipe)

    def _made_from(self) -> list[object]:
        return [self.recipe.id("")]


@dataclass(frozen=True)
class Craft(Job):
    """Craft an adversarial set; until the source is fooled, if only that is asked."""

    source: Recipe
    attack: Part
    until_fooled: bool = False

    @property
    def title(self) -> str:
        """Attack, source and data set."""
        return f"{describe(self.attack)} on {self.source.name}, {self.source.dataset}"

    @property
    def needs(self) -> tuple[Job, ...]:
        """The source's training."""
        return (Train(self.source),)

    def done(self, bench: Bench) -> bool:
        """Whether the set is stored."""
        found = bench.find_adversarial_set(self.source, self.attack, until_fooled=self.until_fooled)
        return found is not None

    def run(self, bench: Bench) -> None:
        """Craft it."""
        bench.craft(self.source, self.attack, until_fooled=self.until_fooled)

    def _made_from(self) -> list[object]:
        return [*_decides(self.source), self.attack.content(), self.until_fooled]


@dataclass(frozen=True)
class Measure(Job):
    """Measure a target on clean images or on a source's adversarial set."""

    target: Recipe
    source: Recipe | None = None
    attack: Part | None = None
    until_fooled: bool = False

    @property
    def title(self) -> str:
        """Target, and what it is measured on."""
        if self.attack is None or self.source is None:
            return f"clean accuracy of {self.target.name}, {self.target.dataset}"
        against = f"{describe(self.attack)} from {self.source.name}"
        return f"{self.target.name} under {against}, {self.target.dataset}"

    @property
    def needs(self) -> tuple[Job, ...]:
        """The trainings of source and target, and the adversarial set."""
        if self.attack is None:
            return (Train(self.target),)
        return (Train(self.source or self.target), Train(self.target), self._craft(self.attack))

    def done(self, bench: Bench) -> bool:
        """Whether the measurement is stored."""
        found = bench.find_measurement(
            self.target, self.source, self.attack, until_fooled=self.until_fooled
        )
        return found is not None

    def run(self, bench: Bench) -> None:
        """Measure it."""
        bench.measure(self.target, self.source, self.attack, until_fooled=self.until_fooled)

    def _made_from(self) -> list[object]:
        clean = _decides(self.target)
        if self.attack is None:
            return clean
        return [*clean, *self._craft(self.attack)._made_from()]

    def _craft(self, attack: Part) -> Craft:
        return Craft(self.source or self.target, attack, self.until_fooled)


@dataclass(frozen=True)
class Embed(Job):
    """Turn a recipe's features into points in the plane."""

    recipe: Recipe
    view: View

    @property
    def title(self) -> str:
        """Layer, recipe, images and data set."""
        view, what = self.view, {"features": "features", "tsne": "t-SNE"}[self.view.method]
        words = f"{what} of layer {view.layer} of {self.recipe.name}"
        if view.epoch is not None:
            words += f" after epoch {view.epoch}"
        if view.attack is not None:
            words += f" under {describe(view.attack)}"
        return f"{words}, {self.recipe.dataset}"

    @property
    def needs(self) -> tuple[Job, ...]:
        """The recipe's training, and the adversarial set if the images are attacked."""
        training = Train(self.recipe)
        if self.view.attack is None:
            return (training,)
        return (training, Craft(self.recipe, self.view.attack))

    def done(self, bench: Bench) -> bool:
        """Whether the embedding is stored."""
        return find_embedding(bench, self.recipe, self.view) is not None

    def run(self, bench: Bench) -> None:
        """Make it."""
        embed(bench, self.recipe, self.view)

    def _made_from(self) -> list[object]:
        return [*_decides(self.recipe), self.view.content()]


def _decides(recipe: Recipe) -> list[object]:
    """What of a recipe decides the images that are attacked and the answers that are given."""
    return [recipe.id(""), recipe.scale, recipe.inference]


KINDS: dict[str, type[Job]] = {"train": Train, "craft": Craft, "measure": Measure, "embed": Embed}
"""The kinds of jobs by name, in the order in which they run."""


def plan(results: Iterable[Job], trainings: Iterable[Train] = ()) -> list[Job]:
    """All jobs behind some results: trainings first, then sets, then measurements and embeddings.

    Args:
        results: what is to be known.
        trainings: models that are wanted for their training figures alone.
    """
    return _with_needs([*trainings, *results], lambda _: False)


def lacking(jobs: Iterable[Job], bench: Bench) -> list[Job]:
    """The jobs that have to run for some jobs to be done, in an order that works.

    What a stored artefact was made from is not looked at: a checkpoint may have come alone,
    without the one that its training went on from.
    """
    return _with_needs(jobs, lambda job: job.done(bench))


def _with_needs(jobs: Iterable[Job], settled: Callable[[Job], bool]) -> list[Job]:
    """Jobs and those that they need, but not what is behind the settled ones."""
    found: dict[str, Job] = {}

    def add(job: Job) -> None:
        if job.key not in found and not settled(job):
            for need in job.needs:
                add(need)
            found[job.key] = job

    for job in jobs:
        add(job)
    order = list(KINDS)
    return sorted(found.values(), key=lambda job: order.index(job.kind))


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
