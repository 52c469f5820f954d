"""Measuring a model on clean images or on a stored adversarial set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.evaluation.intervals import wilson
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.specs.base import digest
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.home import now
from robustbench_pcl.store.records import Measurement, ModelRecord
from robustbench_pcl.training.assemble import describe_environment

BATCH = 256
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Verdicts:
    """Which images were classified as their label.

    Attributes:
        correct: boolean (N,).
        correct_8bit: boolean (N,), with the images rounded to 8 bits a channel.
    """

    correct: np.ndarray
    correct_8bit: np.ndarray


def clean_id(target: ModelRecord, dataset: Dataset, n: int) -> str:
    """The id of a clean accuracy."""
    return digest({"target": target.key, "data": dataset.test.digest, "n": n})


def adversarial_id(target: ModelRecord, adversarial_set: str) -> str:
    """The id of an accuracy on a stored set."""
    return digest({"target": target.key, "set": adversarial_set})


def measure_clean(
    model: SupervisedModel, target: ModelRecord, dataset: Dataset, n: int, device: torch.device
) -> Measurement:
    """The accuracy on the first ``n`` clean test images."""
    verdicts = judge(model, _clean_batches(dataset, n, device))
    return _measurement(
        verdicts,
        device,
        id=clean_id(target, dataset, n),
        data=dataset.record("test"),
        target=target,
        seconds=0.0,
        forward_passes=0,
        backward_passes=0,
        seed=target.recipe.seed,
    )


def measure_adversarial(
    model: SupervisedModel, target: ModelRecord, images: AdversarialSet, device: torch.device
) -> Measurement:
    """The accuracy on a stored adversarial set, crafted on this model or on another."""
    verdicts = judge(model, _stored_batches(images, device))
    return _measurement(
        verdicts,
        device,
        id=adversarial_id(target, images.spec.id),
        data=images.spec.data,
        target=target,
        source=images.spec.source,
        attack=images.spec.attack,
        adversarial_set=images.spec.id,
        largest_linf=images.summary.largest_linf,
        mean_l2=images.summary.mean_l2,
        seconds=images.summary.seconds,
        forward_passes=images.summary.forward_passes,
        backward_passes=images.summary.backward_passes,
        seed=images.spec.seed,
    )


def judge(model: torch.nn.Module, batches: Iterable[Batch]) -> Verdicts:
    """Classify images in eval mode, as they are and rounded to 8 bits a channel."""
    model.eval()
    correct: list[torch.Tensor] = []
    correct_8bit: list[torch.Tensor] = []
    with torch.no_grad():
        for images, labels in batches:
            rounded = (images * 255).round() / 255
            correct.append((model(images).argmax(dim=1) == labels).cpu())
            correct_8bit.append((model(rounded).argmax(dim=1) == labels).cpu())
    return Verdicts(torch.cat(correct).numpy(), torch.cat(correct_8bit).numpy())


def _clean_batches(dataset: Dataset, n: int, device: torch.device) -> Iterator[Batch]:
    for start in range(0, n, BATCH):
        rows = slice(start, min(start + BATCH, n))
        images = torch.from_numpy(np.array(dataset.test.images[rows]))
        labels = torch.from_numpy(np.array(dataset.test.labels[rows]))
        yield pixels(images.to(device)), labels.to(device)


def _stored_batches(images: AdversarialSet, device: torch.device) -> Iterator[Batch]:
    for batch, labels in images.batches(BATCH):
        yield torch.from_numpy(batch).to(device), torch.from_numpy(labels).to(device)


def _measurement(verdicts: Verdicts, device: torch.device, **known: object) -> Measurement:
    n, correct = len(verdicts.correct), int(verdicts.correct.sum())
    return Measurement.model_validate(
        {
            **known,
            "n": n,
            "correct": correct,
            "correct_8bit": int(verdicts.correct_8bit.sum()),
            "interval": wilson(correct, n),
            "verdicts": np.packbits(verdicts.correct).tobytes().hex(),
            "environment": describe_environment(device),
            "created": now(),
        }
    )
