"""Training: distance losses against cross-entropy, and our loop against the plain one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmarks.images import first
from benchmarks.interleaved import Work, compare
from benchmarks.peers import torchattacks_pgd
from benchmarks.plain import BatchAttack, Pictures, PlainTraining, plain
from benchmarks.table import Goal, Row, at_least, at_most
from benchmarks.targets import TITLES
from robustbench_pcl.data.batches import DeviceSplit
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.training.build import build_model
from robustbench_pcl.training.step import RunState, Totals, Update, optimisers

BATCH = 256
IMAGES = 1_024
"""Images per epoch: more of them would only take longer."""
LOSSES = {"ours": 1.05, "center": 1.05, "contrastive": 1.10, "triplet": 1.10}
"""The recipes of Table 12, and how much longer than cross-entropy they may take."""
SHORT_ROUNDS = 5
"""Steps are short and their ratios near 1: so many times the rounds."""
WORKERS = (0, 2)


class Training:
    """One epoch per call, of the project's own batches and steps.

    Args:
        workspace: with the data set.
        recipe: what is trained.
        images: the epoch's length.
    """

    def __init__(self, workspace: Workspace, recipe: Recipe, images: int) -> None:
        dataset = workspace.dataset(recipe.dataset)
        model = build_model(recipe, dataset.mean, dataset.std, workspace.device)
        self.state = RunState(model, *optimisers(model, recipe.schedule))
        self.update = Update(recipe)
        self.split = DeviceSplit(first(dataset.train, images), workspace.device)
        self.augmentation = dataset.spec.augmentation
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self) -> float:
        self.state.model.train()
        total = Totals()
        for images, labels, _ in self.split.epoch(BATCH, self.generator, self.augmentation):
            total.add(self.update(self.state, images, labels, self.generator))
        return total.last_loss()


def losses(dataset: str, workspace: Workspace, rounds: int) -> Iterator[Row]:
    """A step on one batch with each distance loss, against the same step with cross-entropy."""
    recipes = {name: load_recipe(name, dataset, "paper") for name in ("softmax", *LOSSES)}
    runs = compare(
        {name: Training(workspace, recipe, BATCH) for name, recipe in recipes.items()},
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
        attack: (recipe, model) -> the plain loop's attack; None for clean training.
    """

    recipe: Recipe
    title: str
    other: str
    goal: Goal
    attack: Callable[[Recipe, SupervisedModel], BatchAttack] | None = None

    def __call__(self, workspace: Workspace, rounds: int) -> Iterator[Row]:
        """One row, against the faster number of the loader's workers."""
        ways: dict[str, Work] = {"ours": Training(workspace, self.recipe, IMAGES)}
        others = {f"{count} workers": self._plain(workspace, count) for count in WORKERS}
        runs = compare(ways | others, rounds)
        faster = min(others, key=runs.median)
        rates = f"{runs.rates('ours', faster, IMAGES)} ({faster})"
        yield Row(self.title, self.other, runs.ratio(faster, "ours"), self.goal, rates)

    def _plain(self, workspace: Workspace, workers: int) -> PlainTraining:
        dataset = workspace.dataset(self.recipe.dataset)
        model = plain(build_model(self.recipe, dataset.mean, dataset.std, workspace.device))
        attack = self.attack(self.recipe, model) if self.attack else None
        return PlainTraining(model, Pictures(dataset.train, IMAGES), BATCH, workers, attack)


def peers_attack(recipe: Recipe, model: SupervisedModel) -> BatchAttack:
    """The attack that the recipe trains against, by torchattacks."""
    own = recipe.defense
    eps, steps = float(own["eps"]), int(own["steps"])
    attack: BatchAttack = torchattacks_pgd(
        model, eps, steps, eps * float(own["relative_step_size"])
    )
    return attack


CLEAN = AgainstPlain(
    load_recipe("ours", "cifar10", "paper"),
    "training ResNet-110 with PCL on CIFAR-10",
    "DataLoader, PIL, float32",
    at_least(2.5),
)
ADVERSARIAL = AgainstPlain(
    load_recipe("madry", "cifar10", "paper"),
    "PGD-7 adversarial training, ResNet-110 on CIFAR-10",
    "the same with torchattacks",
    at_least(4),
    peers_attack,
)
