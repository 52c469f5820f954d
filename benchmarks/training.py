"""Training: distance losses against cross-entropy, and our loop against the plain one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmarks.images import first
from benchmarks.interleaved import Work, compare
from benchmarks.peers import torchattacks_pgd
from benchmarks.plain import Craft, Pictures, PlainTraining, plain
from benchmarks.table import Goal, Row, at_least, at_most
from benchmarks.victims import TITLES
from robustbench_pcl.data.batches import DeviceSplit
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.training.assemble import build_model, laid_out
from robustbench_pcl.training.optimisers import optimisers
from robustbench_pcl.training.state import RunState
from robustbench_pcl.training.update import Totals, Update

BATCH = 256
IMAGES = 1_024
"""Images an epoch: more of them would only take longer."""
LOSSES = {"ours": 1.05, "center": 1.05, "contrastive": 1.10, "triplet": 1.10}
"""The recipes of Table 12, and how much longer than cross-entropy they may take."""
SHORT_ROUNDS = 5
"""Steps are short and their ratios near 1: so many times the rounds."""
WORKERS = (0, 2)


class Training:
    """An epoch a call, of the project's own batches and steps.

    Args:
        bench: with the data set.
        recipe: what is trained.
        images: the epoch's length.
    """

    def __init__(self, bench: Bench, recipe: Recipe, images: int) -> None:
        dataset = bench.dataset(recipe.dataset)
        model = laid_out(build_model(recipe, dataset.mean, dataset.std), bench.device)
        self.state = RunState(model, *optimisers(model, recipe.schedule))
        self.update = Update(recipe)
        self.split = DeviceSplit(first(dataset.train, images), bench.device)
        self.augmentation = dataset.spec.augmentation
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self) -> float:
        self.state.model.train()
        total = Totals()
        for images, labels, _ in self.split.epoch(BATCH, self.generator, self.augmentation):
            total.add(self.update(self.state, images, labels, self.generator))
        return total.last_loss()


def losses(dataset: str, bench: Bench, rounds: int) -> Iterator[Row]:
    """A step on one batch with each distance loss, against the same step with cross-entropy."""
    recipes = {name: named_recipe(name, dataset, "paper") for name in ("softmax", *LOSSES)}
    runs = compare(
        {name: Training(bench, recipe, BATCH) for name, recipe in recipes.items()},
        SHORT_ROUNDS * rounds,
    )
    for name, bound in LOSSES.items():
        rates = runs.rates(name, "softmax", BATCH)
        work = f"epoch with {name}, {TITLES[dataset]}"
        yield Row(work, "cross-entropy", runs.ratio(name, "softmax"), at_most(bound), rates)


@dataclass(frozen=True)
class AgainstPlain:
    """An epoch of ours against the plain loop's.

    Attributes:
        recipe: ResNet-110's on CIFAR-10.
        title: what is done.
        other: what the plain loop is, in words.
        goal: how many times as fast.
        craft: (recipe, model) -> the plain loop's attack; None for clean training.
    """

    recipe: Recipe
    title: str
    other: str
    goal: Goal
    craft: Callable[[Recipe, SupervisedModel], Craft] | None = None

    def __call__(self, bench: Bench, rounds: int) -> Iterator[Row]:
        """One row, against the faster number of the loader's workers."""
        ways: dict[str, Work] = {"ours": Training(bench, self.recipe, IMAGES)}
        others = {f"{count} workers": self._plain(bench, count) for count in WORKERS}
        runs = compare(ways | others, rounds)
        faster = min(others, key=runs.median)
        rates = f"{runs.rates('ours', faster, IMAGES)} ({faster})"
        yield Row(self.title, self.other, runs.ratio(faster, "ours"), self.goal, rates)

    def _plain(self, bench: Bench, workers: int) -> PlainTraining:
        dataset = bench.dataset(self.recipe.dataset)
        model = plain(build_model(self.recipe, dataset.mean, dataset.std).to(bench.device))
        craft = self.craft(self.recipe, model) if self.craft else None
        return PlainTraining(model, Pictures(dataset.train, IMAGES), BATCH, workers, craft)


def peers_attack(recipe: Recipe, model: SupervisedModel) -> Craft:
    """The attack that the recipe trains against, by torchattacks."""
    walk = recipe.defense.parameters
    eps, steps = float(walk["eps"]), int(walk["steps"])
    attack: Craft = torchattacks_pgd(model, eps, steps, eps * float(walk["relative_step_size"]))
    return attack


CLEAN = AgainstPlain(
    named_recipe("ours", "cifar10", "paper"),
    "training ResNet-110 with PCL on CIFAR-10",
    "DataLoader, PIL, float32",
    at_least(2.5),
)
ADVERSARIAL = AgainstPlain(
    named_recipe("madry", "cifar10", "paper"),
    "PGD-7 adversarial training, ResNet-110 on CIFAR-10",
    "the same with torchattacks",
    at_least(2),
    peers_attack,
)
