"""Measuring a model on clean images or on a stored adversarial set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.checks import PROBE, check_finite, check_model, spread
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.attacks.passes import decided
from robustbench_pcl.attacks.stages import in_hexadecimal
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.environment import current_environment
from robustbench_pcl.errors import RandomisedModelError
from robustbench_pcl.evaluation.checked import check_set, checked_batches
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.reading import damaged
from robustbench_pcl.store.records import Measurement, ModelRecord, now
from robustbench_pcl.store.rules import MARGIN_PERCENTILES, wilson

Array = np.ndarray[Any, Any]

BATCH = 256
"""Images that are classified at once."""
FORWARDS = 20
"""Passes of a randomised model whose mean is its answer, as many as AutoAttack's "rand" makes."""
NEAR = 1e-3
"""Two largest logits so near to each other, as a share of the range of an image's logits, may
change places on another device: convolutions in TF32 have errors of that size."""

Batch = tuple[Tensor, Tensor]


def clean_answers(
    model: nn.Module, dataset: Dataset, n: int, device: torch.device
) -> tuple[Array, Array]:
    """The model's answers to the first ``n`` clean test images, in eval mode.

    Returns:
        its classes, int64 (n,).
        its logit margins, float64 (n,): the label's logit less the largest other.

    Raises:
        InvalidInputError: its answers cannot be judged, or some of its logits are not finite.
    """
    images = torch.from_numpy(np.array(dataset.test.images[:n]))
    every = torch.from_numpy(np.array(dataset.test.labels[:n])).to(device)
    classes, margins = [], []
    with judging(model, pixels(images[:PROBE].to(device)), every[:PROBE]) as target:
        # A batch of floats at a time: memory is flat in n.
        for batch, labels in zip(
            torch.split(images, BATCH), torch.split(every, BATCH), strict=True
        ):
            logits = target.logits(pixels(batch.to(device)))
            check_finite(logits, "clean images")
            classes.append(logits.argmax(dim=1).cpu())
            margins.append(-logit_margin(logits.double(), labels).cpu())
    return torch.cat(classes).numpy(), torch.cat(margins).numpy()


@contextmanager
def judging(model: nn.Module, images: Tensor, labels: Tensor) -> Iterator[TargetModel]:
    """A model whose answers can be counted; a randomised one's are the mean of ``FORWARDS``.

    Args:
        model: to be judged.
        images: float (N, C, H, W) in [0, 1], some on which it is tried.
        labels: int64 (N,).

    Raises:
        InvalidInputError: its answers cannot be judged.
    """
    forwards = 1
    try:
        with TargetModel(model) as target:
            check_model(target, images, labels, gradient=False)
    except RandomisedModelError:
        forwards = FORWARDS
    with TargetModel(model, forwards=forwards) as target:
        yield target


def measure_clean(
    identity: str,
    answers: tuple[Array, Array],
    target: ModelRecord,
    dataset: Dataset,
    device: torch.device,
) -> Measurement:
    """The accuracy on the first clean test images.

    Args:
        identity: of the measurement.
        answers: the target's classes of them, int64 (N,), and its logit margins, float64 (N,).
        target: the model.
        dataset: the images.
        device: that computed the classes.
    """
    predictions, margins = answers
    correct = predictions == dataset.test.labels[: len(predictions)]
    return _measurement(
        correct,
        device,
        id=identity,
        data=dataset.record("test"),
        target=target,
        correct_8bit=int(correct.sum()),  # clean images are 8-bit images
        margins=tuple(np.percentile(margins, MARGIN_PERCENTILES).tolist()),
        seconds=0.0,
        forward_passes=0,
        backward_passes=0,
        seed=target.recipe.seed,
    )


def measure_set(
    identity: str,
    model: nn.Module,
    target: ModelRecord,
    images: AdversarialSet,
    *,
    dataset: Dataset,
    device: torch.device,
) -> Measurement:
    """The accuracy on a stored adversarial set, made on this model or on another.

    The set is checked while it is read. On the model that it was made on, the verdicts are those
    that it keeps: its digest covers them, or else they are computed again. Rounded to 8 bits,
    images are classified anew, but not where each stopped at the first step that fooled the model:
    those lie so close to the boundary that rounding would say little.

    Args:
        identity: of the measurement.
        model: the target, on the device.
        target: what is known of it.
        images: the set.
        dataset: of the clean images.
        device: where the model is.

    Raises:
        UserError: the set is not what it should be, or its predictions are not the source's.
    """
    source = images.spec.source
    own = source is not None and source.key == target.key

    if not own:
        verdicts = judge(model, _on(device, checked_batches(images, dataset, BATCH)))
    else:
        verdicts = images.source_verdicts()
        if images.summary.content_digest is None:
            check_predictions(model, images, _on(device, images.batches(BATCH)))
        check_set(images, dataset)
    rounded = None
    if images.spec.mode != "early-stop":
        rounded = int(judge(model, in_8_bits(_on(device, images.batches(BATCH)))).sum())
    return _measurement(
        verdicts,
        device,
        id=identity,
        data=images.spec.data,
        target=target,
        source=source,
        attack=images.spec.attack,
        adversarial_set=images.spec.id,
        mode=images.spec.mode,
        precision=images.summary.precision,
        correct_8bit=rounded,
        largest_linf=images.summary.largest_linf,
        largest_l2=images.summary.largest_l2,
        stages=images.stages if own else (),
        felled_by=in_hexadecimal(images.felled_by()) if own and images.stages else "",
        mean_l2=images.summary.mean_l2,
        seconds=images.summary.seconds,
        forward_passes=images.summary.forward_passes,
        backward_passes=images.summary.backward_passes,
        seed=images.spec.seed,
    )


def judge(model: nn.Module, batches: Iterable[Batch]) -> Array:
    """Boolean (N,): which images of the batches are classified as their label, in eval mode.

    Raises:
        InvalidInputError: the model's answers to the first of them cannot be judged.
    """
    verdicts: list[Tensor] = []
    source = iter(batches)
    first = next(source)
    with judging(model, *first) as target:
        for images, labels in chain([first], source):
            verdicts.append((decided(target.logits(images)) == labels).cpu())
    return torch.cat(verdicts).numpy()


def check_predictions(model: nn.Module, images: AdversarialSet, batches: Iterable[Batch]) -> None:
    """Compare the classes that a set keeps with those of its source, computed again.

    Args:
        model: the source.
        images: the set.
        batches: of it.

    Raises:
        UserError: some differ where another device would not decide otherwise.
    """
    start, source = 0, iter(batches)
    first = next(source)
    with judging(model, *first) as target:
        for pixels, _ in chain([first], source):
            logits = target.logits(pixels)
            kept = torch.from_numpy(images.columns["predictions"][start : start + len(pixels)])
            differ = (decided(logits).cpu() != kept) & ~too_near(logits).cpu()
            start += len(pixels)
            if target.forwards == 1 and differ.any():  # a randomised model answers anew
                raise damaged(images.path, "its predictions are not those of its source")


def too_near(logits: Tensor) -> Tensor:
    """Boolean (N,): whose class another device may decide otherwise, by logits (N, K)."""
    best = logits.topk(2, dim=1).values
    return best[:, 0] - best[:, 1] <= NEAR * spread(logits)


def in_8_bits(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same images rounded to 8 bits per channel."""
    for images, labels in batches:
        yield pixels((images * 255).round()), labels


def _on(device: torch.device, batches: Iterable[tuple[Array, Array]]) -> Iterator[Batch]:
    for images, labels in batches:
        yield torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)


def _measurement(verdicts: Array, device: torch.device, **known: object) -> Measurement:
    n, correct = len(verdicts), int(verdicts.sum())
    return Measurement.model_validate(
        {
            **known,
            "n": n,
            "correct": correct,
            "interval": wilson(correct, n),
            "verdicts": np.packbits(verdicts).tobytes().hex(),
            "environment": current_environment(device),
            "created": now(),
        }
    )
