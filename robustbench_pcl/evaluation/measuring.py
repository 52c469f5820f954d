"""Measuring a model on clean images or on a stored adversarial set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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


def clean_id(target: ModelRecord, dataset: Dataset, n: int) -> str:
    """The id of a clean accuracy."""
    return digest({"target": target.key, "data": dataset.test.digest, "n": n})


def adversarial_id(target: ModelRecord, adversarial_set: str) -> str:
    """The id of an accuracy on a stored set."""
    return digest({"target": target.key, "set": adversarial_set})


def measure_clean(
    predictions: np.ndarray, target: ModelRecord, dataset: Dataset, device: torch.device
) -> Measurement:
    """The accuracy on the first clean test images, from its classes of them, int64 (N,)."""
    n = len(predictions)
    correct = predictions == dataset.test.labels[:n]
    return _measurement(
        correct,
        device,
        id=clean_id(target, dataset, n),
        data=dataset.record("test"),
        target=target,
        correct_8bit=int(correct.sum()),  # clean images are 8-bit images
        seconds=0.0,
        forward_passes=0,
        backward_passes=0,
        seed=target.recipe.seed,
    )


def measure_adversarial(
    model: SupervisedModel, target: ModelRecord, images: AdversarialSet, device: torch.device
) -> Measurement:
    """The accuracy on a stored adversarial set, crafted on this model or on another.

    On the model that it was crafted on, the verdicts are those that the set keeps. Rounded to 8
    bits, images are classified anew, but not where crafting stopped at the first that fooled the
    model: those lie so close to the boundary that rounding would say little.
    """
    own = images.spec.source.key == target.key
    verdicts = images.source_verdicts() if own else judge(model, _stored(images, device))
    rounded = None
    if images.spec.crafting != "until-fooled":
        rounded = int(judge(model, _rounded(_stored(images, device))).sum())
    return _measurement(
        verdicts,
        device,
        id=adversarial_id(target, images.spec.id),
        data=images.spec.data,
        target=target,
        source=images.spec.source,
        attack=images.spec.attack,
        adversarial_set=images.spec.id,
        crafting=images.spec.crafting,
        precision=images.summary.precision,
        correct_8bit=rounded,
        largest_linf=images.summary.largest_linf,
        mean_l2=images.summary.mean_l2,
        seconds=images.summary.seconds,
        forward_passes=images.summary.forward_passes,
        backward_passes=images.summary.backward_passes,
        seed=images.spec.seed,
    )


def clean_predictions(
    model: torch.nn.Module, dataset: Dataset, n: int, device: torch.device
) -> np.ndarray:
    """The model's classes, int64 (n,), of the first ``n`` clean test images, in eval mode."""
    model.eval()
    images = torch.from_numpy(np.array(dataset.test.images[:n]))
    with torch.no_grad():
        batches = torch.split(images, BATCH)
        found = [model(pixels(batch.to(device))).argmax(dim=1).cpu() for batch in batches]
    return torch.cat(found).numpy()


def judge(model: torch.nn.Module, batches: Iterable[Batch]) -> np.ndarray:
    """Boolean (N,): which images of the batches are classified as their label, in eval mode."""
    model.eval()
    with torch.no_grad():
        verdicts = [(model(images).argmax(dim=1) == labels).cpu() for images, labels in batches]
    return torch.cat(verdicts).numpy()


def _stored(images: AdversarialSet, device: torch.device) -> Iterator[Batch]:
    for batch, labels in images.batches(BATCH):
        yield torch.from_numpy(batch).to(device), torch.from_numpy(labels).to(device)


def _rounded(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same with 8 bits a channel."""
    for images, labels in batches:
        yield (images * 255).round() / 255, labels


def _measurement(verdicts: np.ndarray, device: torch.device, **known: object) -> Measurement:
    n, correct = len(verdicts), int(verdicts.sum())
    return Measurement.model_validate(
        {
            **known,
            "n": n,
            "correct": correct,
            "interval": wilson(correct, n),
            "verdicts": np.packbits(verdicts).tobytes().hex(),
            "environment": describe_environment(device),
            "created": now(),
        }
    )
