"""The plain way: a model as its author wrote it, and the training loop that everybody knows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Items
from torchvision import transforms

from robustbench_pcl.data.dataset import Split
from robustbench_pcl.models.classifier import Normalise
from robustbench_pcl.models.supervised import SupervisedModel

PLAIN = "NCHW"
BatchAttack = Callable[[Tensor, Tensor], Tensor]
"""(images, labels) -> adversarial images."""


class PlainNormalise(Normalise):
    """The same pixels without another memory format."""

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def plain(model: SupervisedModel) -> SupervisedModel:
    """A copy in NCHW."""
    copied = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    normalise = PlainNormalise([0.0], [1.0])
    own = cast(Normalise, copied.classifier.normalise)
    normalise.mean, normalise.std = own.mean, own.std
    copied.classifier.normalise = normalise
    return copied.train(model.training)


def layouts(model: SupervisedModel) -> dict[str, SupervisedModel]:
    """The model as its author wrote it, and as pclbench lays it out."""
    return {PLAIN: plain(model), "channels last": model}


class Pictures(Items[tuple[Tensor, int]]):
    """Images one by one, augmented by torchvision as PIL images."""

    def __init__(self, split: Split, count: int) -> None:
        self.images = np.ascontiguousarray(split.images[:count].transpose(0, 2, 3, 1))
        self.labels = split.labels[:count].tolist()
        self.augment = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.augment(Image.fromarray(self.images[index])), self.labels[index]


class PlainTraining:
    """One epoch per call, in float32.

    Args:
        model: with its criterion, in NCHW.
        pictures: to train on.
        batch_size: images per step.
        workers: of the loader.
        attack: makes the adversarial images that are trained on; None for clean ones.
    """

    def __init__(
        self,
        model: SupervisedModel,
        pictures: Pictures,
        batch_size: int,
        workers: int,
        attack: BatchAttack | None = None,
    ) -> None:
        self.model = model.train()
        self.device = next(model.parameters()).device
        self.optimiser = torch.optim.SGD(
            model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        self.loader = DataLoader(
            pictures,
            batch_size,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        self.attack = attack

    def __call__(self) -> None:
        for images, labels in self.loader:
            self._step(images.to(self.device), labels.to(self.device))

    def _step(self, images: Tensor, labels: Tensor) -> None:
        if self.attack is not None:
            images = self.attack(images, labels)
        logits, features = self.model.classifier.features(images)
        loss = torch.stack(list(self.model.criterion(logits, features, labels).values())).sum()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.classifier.parameters(), 1.0)
        self.optimiser.step()
