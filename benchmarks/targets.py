"""The models that are attacked: of the paper's size, trained for minutes and then kept."""

from __future__ import annotations

from robustbench_pcl.recipe import Recipe, Schedule
from robustbench_pcl.recipes.load import load_recipe

TITLES = {"cifar10": "ResNet-110 on CIFAR-10", "fmnist": "conv6 on F-MNIST"}
TRAIN_IMAGES = {"cifar10": 8_000, "fmnist": 10_000}
STANDARD = {
    "cifar10": Schedule(epochs=30, batch_size=128, learning_rate=0.1, milestones=(20, 26)),
    "fmnist": Schedule(epochs=6, batch_size=128, learning_rate=0.05, milestones=(4, 5)),
}
ADVERSARIAL = {
    "cifar10": Schedule(epochs=10, batch_size=128, learning_rate=0.05, milestones=(7, 9)),
    "fmnist": Schedule(epochs=8, batch_size=128, learning_rate=0.02, milestones=(6, 7)),
}
PGD_STEPS = 3
"""Of adversarial training; their sizes sum to 2.5 eps, as the paper's seven do."""


def standard(dataset: str) -> Recipe:
    """Cross-entropy on clean images."""
    return load_recipe("softmax", dataset, "paper").changed(
        train_images=TRAIN_IMAGES[dataset], schedule=STANDARD[dataset]
    )


def adversarial(dataset: str) -> Recipe:
    """PGD adversarial training, from the standard model's weights on."""
    steps = {"defense.steps": PGD_STEPS, "defense.relative_step_size": 2.5 / PGD_STEPS}
    return load_recipe("madry", dataset, "paper", set=steps).changed(
        name="madry",
        train_images=TRAIN_IMAGES[dataset],
        schedule=ADVERSARIAL[dataset],
        start=standard(dataset),
    )
