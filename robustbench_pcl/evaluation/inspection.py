"""Whether a model that somebody brings can be judged: a few questions before it is attacked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from robustbench_pcl.attacks import checks
from robustbench_pcl.attacks.passes import decided
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.data.datasets import DatasetSpec
from robustbench_pcl.errors import InvalidInputError
from robustbench_pcl.models.classifier import Normalise
from robustbench_pcl.progress import counted
from robustbench_pcl.store.rules import wilson

IMAGES = 256
"""So many clean images show whether an accuracy is plausible: to 6 points at most."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ITS_OWN = (
    "If the training normalised its images, give its own --mean and --std; these are only the best "
    "of a few that were tried."
)
HALF = 0.5
"""Share of images that another order of the classes has to make right to be the likely one."""


class Finding(NamedTuple):
    """What one question found.

    Attributes:
        subject: what was asked about, in a word or two.
        said: "ok" and what was found, or what is wrong.
        cure: what to do about it; "" where nothing is wrong.
        useless: what is measured all the same would be of another model than the one that is meant.
    """

    subject: str
    said: str
    cure: str = ""
    useless: bool = False

    def __str__(self) -> str:
        """The finding in a line."""
        said = f"{self.said.rstrip('.')}. {self.cure}" if self.cure else self.said
        return f"{self.subject}: {said}"


def inspect_model(
    model: nn.Module, images: Tensor, labels: Tensor, data: DatasetSpec
) -> list[Finding]:
    """Ask a model everything that makes a robust accuracy meaningless if the answer is wrong.

    Args:
        model: from images to logits (N, K), as it will be attacked.
        images: float (N, C, H, W) in [0, 1], clean ones; :data:`IMAGES` are enough.
        labels: int64 (N,).
        data: the data set that they are of.

    Returns:
        One finding for each question: pixels, eval mode, logits, classes, repeatability, gradient
        and clean accuracy. What needs logits is not asked of a model that gives none.
    """
    return list(_findings(model, images, labels, data))


def _findings(
    model: nn.Module, images: Tensor, labels: Tensor, data: DatasetSpec
) -> Iterator[Finding]:
    try:
        checks.check_images(images, labels)
    except InvalidInputError as error:
        yield Finding("pixels", error.cause, error.cure)
        return
    inside = any(isinstance(module, Normalise) for module in model.children())
    yield Finding("pixels", f"ok, in [0, 1]{', normalised inside the model' * inside}")
    with TargetModel(model) as target:
        yield _eval_mode(model)
        few = images[: checks.PROBE]
        try:
            logits = checks.check_logits(target, few)
        except InvalidInputError as error:
            yield Finding("logits", error.cause, error.cure)
            return
        yield _logits(logits)
        yield _classes(logits.shape[1], data)
        for subject, check in (
            ("repeatable", partial(checks.check_constancy, target, few, logits)),
            ("gradient", partial(checks.check_gradient, target, few)),
        ):
            try:
                check()
                yield Finding(subject, "ok")
            except InvalidInputError as error:
                yield Finding(subject, error.cause, error.cure)
        predictions = decided(target.logits(images))
        yield _accuracy(model, images, labels, predictions, data)


def _eval_mode(model: nn.Module) -> Finding:
    """The model has just been put into it."""
    left = [name or "the model" for name, module in model.named_modules() if module.training]
    if not left:
        return Finding("eval mode", "ok")
    return Finding(
        "eval mode",
        f"{left[0]} stays in train mode after model.eval().",
        "Let its train() set self.training and call its parts' train().",
    )


def _logits(logits: Tensor) -> Finding:
    kind = checks.normalised_as(logits)
    if kind == "probabilities":
        return Finding(
            "logits",
            "these are probabilities: each row lies in [0, 1] and sums to 1, so gradients vanish "
            "and robustness looks higher than it is.",
            "Leave the last softmax out, or name what comes before it: --output logits.",
        )
    return Finding("logits", "ok, as log-probabilities" if kind else "ok")


def _classes(count: int, data: DatasetSpec) -> Finding:
    if count == len(data.classes):
        return Finding("classes", f"ok, {count}")
    return Finding(
        "classes",
        f"it gives {counted(count, 'logit')}, and {data.title} has {len(data.classes)} classes.",
        "Name the data set that it was trained for with --dataset, or give it that many outputs.",
    )


def _accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, predictions: Tensor, data: DatasetSpec
) -> Finding:
    """Clean accuracy: far above chance, and no better with other pixels or classes."""
    right, n = int((predictions == labels).sum()), len(labels)
    low, high = wilson(right, n)
    shown = f"{100 * right / n:.1f} % of {n} clean images"
    ways = [*_other_ways(model, images), *_other_order(predictions, labels, data)]
    tried = [(int((others == labels).sum()), said, cure) for others, said, cure in ways]
    better, said, cure = max(tried, key=lambda each: each[0])
    if wilson(better, n)[0] > high:
        said = f"{shown}, but {100 * better / n:.1f} % {said}."
        return Finding("accuracy", said, cure, useless=True)
    if low <= float(labels.bincount().max()) / n:
        return Finding(
            "accuracy",
            f"{shown}: no better than chance.",
            "Normalisation (--mean, --std), the order of colours or classes, or the weights are "
            "wrong.",
        )
    return Finding("accuracy", f"ok, {shown}")


def _other_ways(model: nn.Module, images: Tensor) -> Iterator[tuple[Tensor, str, str]]:
    """What the model makes of pixels that were prepared in other ways.

    Yields:
        The classes int64 (N,); how the pixels were prepared, in words; what to do if that is right.
    """
    colour = images.shape[1] == 3
    parts = dict(model.named_children())
    normalised = isinstance(parts.get("normalise"), Normalise)
    plain = nn.Sequential(*(part for name, part in parts.items() if name != "normalise"))
    inner = plain if normalised else model
    mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))
    ways = {
        "--mean 0.5 --std 0.5": ((0.5,), (0.5,)),
        "--mean 0 --std 0.00392157": ((0.0,), (1 / 255,)),  # pixels up to 255
        f"--mean {_text(mean)} --std {_text(std)}": (mean.tolist(), std.tolist()),
    }
    if colour:
        ways[f"--mean {_text(IMAGENET[0])} --std {_text(IMAGENET[1])}"] = IMAGENET
    with torch.no_grad():
        if colour:
            turned = "Reverse the order of the colours in the model: images.flip(1)."
            yield decided(model(images.flip(1))), "with blue before red", turned
        if normalised:
            yield decided(plain(images)), "without normalisation", "Leave --mean and --std out."
        for options, numbers in ways.items():
            other = Normalise(*numbers).to(images.device)
            yield decided(inner(other(images))), f"with {options}", ITS_OWN


def _other_order(
    predictions: Tensor, labels: Tensor, data: DatasetSpec
) -> Iterator[tuple[Tensor, str, str]]:
    """As above, with the model's classes in another order, where that makes most images right.

    It is the order that makes the most of them right (the assignment problem).
    """
    classes = len(data.classes)
    known = (predictions >= 0) & (predictions < classes)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=labels.device)
    pairs = (predictions[known], labels[known])
    counts.index_put_(pairs, torch.ones_like(pairs[0]), accumulate=True)
    _, order = linear_sum_assignment(counts.cpu().numpy(), maximize=True)
    stands_for = torch.as_tensor(order, device=labels.device)
    others = torch.where(known, stands_for[predictions.clamp(0, classes - 1)], -1)
    if float((others == labels).double().mean()) >= HALF:
        yield (
            others,
            "with its classes in another order",
            f"Its outputs look like classes {', '.join(map(str, order))}; let output 0 be "
            f"{data.classes[0]}, 1 {data.classes[1]} and so on.",
        )


def _text(values: Tensor | tuple[float, ...]) -> str:
    return ",".join(f"{float(value):.3g}" for value in values)
