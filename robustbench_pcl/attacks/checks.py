"""What can be attacked, and what an attack may give back: refused is what would not be a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.errors import InvalidInputError, RandomisedModelError
from robustbench_pcl.lazy import torch
from robustbench_pcl.progress import counted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustbench_pcl.attacks.base import Attack
    from robustbench_pcl.attacks.target import TargetModel

PROBE = 8
"""Images on which a model is tried before it is attacked."""
ALONE = 4
"""Images of those that are passed alone as well."""
SUMS = 1e-3
"""How far from 1 the sum of an image's probabilities may be, in half precision at least."""
INSIDE = 1e-6
"""How far outside its budget a pixel may lie: float32's rounding."""


def check_images(images: Tensor, labels: Tensor, targets: Tensor | None = None) -> None:
    """Refuse images and labels that no attack could be made on.

    Raises:
        InvalidInputError: images are not float (N, C, H, W) in [0, 1], or labels or targets are not
            int64 (N,) of at least 0.
    """
    for name, value in (("images", images), ("labels", labels), ("targets", targets)):
        if value is not None and not isinstance(value, torch.Tensor):
            raise InvalidInputError(
                f"The {name} are a {type(value).__name__}, not a torch.Tensor.",
                f"Write torch.as_tensor({name}).",
            )
    found = f"{_kind(images)} {tuple(images.shape)}"
    if not images.is_floating_point():
        raise InvalidInputError(
            f"The images are {found}; they must be float (N, C, H, W) in [0, 1].",
            "Divide 8-bit images by 255: images.float() / 255.",
        )
    if images.ndim != 4:
        raise InvalidInputError(
            f"The images must be float (N, C, H, W), not {found}.",
            "Give one image as images[None], grey images (N, H, W) as images[:, None].",
        )
    if len(images) and not bool(((images >= 0) & (images <= 1)).all()):
        if bool(images.isnan().any()):
            row = int(images.isnan().flatten(1).any(dim=1).nonzero()[0])
            raise InvalidInputError(
                f"Image {row} has pixels that are NaN; they must be pixels in [0, 1].",
                "Leave such images out.",
            )
        low, high = float(images.min()), float(images.max())
        near = low > -0.01 and high < 1.01
        raise InvalidInputError(
            f"The images have pixels from {low:.9g} to {high:.9g}; they must be in [0, 1].",
            "Cut off what rounding did: images.clamp(0, 1)."
            if near
            else "Put normalisation inside the model, divide 8-bit images by 255.",
        )
    for name, value in (("labels", labels), ("targets", targets)):
        if value is None:
            continue
        if value.shape != images.shape[:1] or value.dtype != torch.int64:
            raise InvalidInputError(
                f"The {name} must be int64 (N,) with N = {len(images)}, "
                f"not {_kind(value)} {tuple(value.shape)}.",
                f"Give one class per image: {name}.long(), or {name}.argmax(dim=1) if one-hot.",
            )
        if len(value) and int(value.min()) < 0:
            raise InvalidInputError(
                f"The {name} go down to {int(value.min())}; classes are counted from 0.",
                "Leave unlabelled images out: keep = labels >= 0.",
            )


def check_model(
    target: TargetModel,
    images: Tensor,
    labels: Tensor,
    targets: Tensor | None = None,
    *,
    gradient: bool = True,
) -> None:
    """Refuse a model whose answers cannot be judged, after trying it on a few images.

    It has to give finite logits (N, K), K at least 2 and above every label, that are the same
    when it is asked twice and in any company, and to let a gradient reach the pixels.

    Args:
        target: the model, entered.
        images: float (N, C, H, W) in [0, 1], N at least 1.
        labels: int64 (N,).
        targets: int64 (N,), or None.
        gradient: a gradient is needed.

    Raises:
        InvalidInputError: with what was found, and the cure.
    """
    few = images[:PROBE]
    logits = check_answers(target, images, labels, targets)
    if target.forwards == 1:
        check_constancy(target, few, logits)
    if gradient:
        check_gradient(target, few)


def check_answers(
    target: TargetModel, images: Tensor, labels: Tensor, targets: Tensor | None = None
) -> Tensor:
    """The model's logits of a few images, if they are finite ones, (N, K), and K is above labels.

    Raises:
        InvalidInputError: they are not.
    """
    logits = check_logits(target, images[:PROBE])
    target.classes = classes = logits.shape[1]
    for name, value in (("labels", labels), ("targets", targets)):
        if value is not None and int(value.max()) >= classes:
            raise InvalidInputError(
                f"The {name} go up to {int(value.max())}, but the model gives {classes} logits: "
                f"classes 0 to {classes - 1}.",
                "Count classes from 0, or attack the model of that data set.",
            )
    return logits


def check_logits(target: TargetModel, images: Tensor) -> Tensor:
    """The model's logits (N, K) of images, K at least 2, if they are finite ones.

    Raises:
        InvalidInputError: they are not, or it gives something else.
    """
    logits = _logits(_answer(target, images), len(images))
    check_finite(logits, "clean images")
    return logits


def normalised_as(logits: Tensor) -> str:
    """What rows (N, K) that should be logits are: "probabilities", "log-probabilities", or "".

    Logarithms of probabilities are logits, too: a softmax gives the probabilities back.
    """
    for kind, values in (("probabilities", logits), ("log-probabilities", logits.exp())):
        inside = (values >= 0) & (values <= 1 + SUMS)
        if bool(inside.all()) and bool(((values.sum(dim=1) - 1).abs() <= SUMS).all()):
            return kind
    return ""


def check_finite(logits: Tensor, what: str) -> None:
    """Refuse logits (N, K) that are NaN or infinite, of ``what``.

    Raises:
        InvalidInputError: there are such.
    """
    wrong = ~logits.isfinite().all(dim=1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise InvalidInputError(
            f"The model's logits are not finite for {int(wrong.sum())} of {len(logits)} {what} "
            f"(image {row}: {logits[row].tolist()[:5]}).",
            "Find the layer that overflows or divides by zero; what has no logits has no class.",
        )


def check_adversarial(adversarial: Tensor, images: Tensor, attack: Attack) -> None:
    """Refuse what an attack must not give back.

    Args:
        adversarial: what it gave.
        images: float (N, C, H, W), the clean ones.
        attack: whose ``eps``, where it has one, bounds the change in its norm.

    Raises:
        InvalidInputError: it has another shape or type, or leaves [0, 1] or the budget.
    """
    title = attack.label
    cure = "It is a fault of the attack's code; nothing was stored."
    if adversarial.shape != images.shape or adversarial.dtype != images.dtype:
        raise InvalidInputError(
            f"{title} gave {_kind(adversarial)} {tuple(adversarial.shape)} for images "
            f"{_kind(images)} {tuple(images.shape)}.",
            cure,
        )
    if not len(images):
        return
    if not bool(((adversarial >= 0) & (adversarial <= 1)).all()):
        low, high = float(adversarial.min()), float(adversarial.max())
        raise InvalidInputError(f"{title} gave pixels from {low:.9g} to {high:.9g}.", cure)
    eps = getattr(attack, "eps", None)
    if attack.norm == "linf" and isinstance(eps, float):
        most = float((adversarial - images).abs().max())
        if most > eps + max(INSIDE, torch.finfo(images.dtype).eps):
            raise InvalidInputError(f"{title} changed a pixel by {most:.9g}.", cure)


def apart(logits: Tensor, others: Tensor, width: float = 0.0) -> Tensor:
    """How far apart logits (N, K) are, (N,): the largest difference, as a share of their range.

    Where a logit is NaN, it is NaN, which is not below anything.

    Args:
        logits: whose range is meant, each image's own.
        others: compared with them.
        width: least range that is reckoned with: two classes' logits are close to each other near
            the boundary, which does not make a difference larger.
    """
    reckoned = spread(logits).clamp_min(width)
    difference = (logits - others).abs().amax(dim=1)
    return torch.where(difference > 0, difference / reckoned, difference)


def spread(logits: Tensor) -> Tensor:
    """The range of each image's logits (N, K), (N,)."""
    return logits.amax(dim=1) - logits.amin(dim=1)


def _answer(target: TargetModel, images: Tensor) -> object:
    try:
        return target.logits(images)
    except (torch.OutOfMemoryError, InvalidInputError):
        raise
    except Exception as error:
        given = f"{_kind(images)} {tuple(images.shape)}"
        weight = next((value for value in target.model.parameters()), images)
        cure = "Is it made for images of this shape? Try it by itself: model(images[:1])."
        if weight.dtype != images.dtype:
            cure = f"Its weights are {_kind(weight)}: images.to(torch.{_kind(weight)})."
        elif weight.device != images.device:
            cure = f"Its weights are on {weight.device}: images.to({str(weight.device)!r})."
        words = str(error).splitlines() or [""]
        raise InvalidInputError(
            f"The model cannot be called with images {given}: {type(error).__name__}: {words[0]}",
            cure,
        ) from error


def _logits(logits: object, count: int) -> Tensor:
    if not isinstance(logits, torch.Tensor):
        inside = f" of {len(logits)}" if isinstance(logits, tuple | list | dict) else ""
        raise InvalidInputError(
            f"The model returns a {type(logits).__name__}{inside}, not logits (N, K).",
            "Wrap it in a module whose forward returns the logits alone.",
        )
    found = f"{_kind(logits)} {tuple(logits.shape)}"
    if logits.ndim != 2 or len(logits) != count or not logits.is_floating_point():
        raise InvalidInputError(
            f"The model returns {found} for {count} images, not float logits ({count}, K).",
            "Wrap it in a module that returns one row of logits per image.",
        )
    if logits.shape[1] < 2:
        raise InvalidInputError(
            f"The model returns {found}: {logits.shape[1]} logit per image, where two or more "
            "classes are needed.",
            "Give two for one logit z: torch.cat([-z, z], dim=1) / 2.",
        )
    return logits


def check_constancy(target: TargetModel, images: Tensor, logits: Tensor) -> None:
    """Refuse a model that answers otherwise when asked twice, or in other company.

    Args:
        target: the model, entered.
        images: float (N, C, H, W).
        logits: what it answered before, (N, K).

    Raises:
        InvalidInputError: it does.
    """
    share = torch.finfo(logits.dtype).eps ** 0.5
    width = float(spread(logits).median())
    differ = ~(apart(logits, target.logits(images), width) <= share)
    if bool(differ.any()):
        raise RandomisedModelError(
            f"The model is randomised: asked twice, it answers {int(differ.sum())} of "
            f"{len(images)} images differently, in eval mode.",
            "Turn dropout and noise off in eval mode; or, if they are the defence, attack the mean "
            "of 20 passes: --set forwards=20, PGD(forwards=20).",
        )
    if len(images) == 1:
        return
    for row in range(min(ALONE, len(images))):
        alone = target.logits(images[row : row + 1])
        if not bool((apart(logits[row : row + 1], alone, width) <= share).all()):
            raise InvalidInputError(
                "The model's answer to an image depends on the other images in its batch, in eval "
                "mode.",
                "Give batch normalisation running statistics (track_running_stats=True), and let "
                "each image take its own way.",
            )


def weighted_logits(model: nn.Module, images: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    """A sum of each image's logits, (N,), which saturates for none, and the logits (N, K)."""
    logits = model(images)
    weights = torch.linspace(1, 2, logits.shape[1]).to(logits)
    return (logits * weights.square()).sum(dim=1), logits


def check_gradient(target: TargetModel, images: Tensor) -> None:
    """Refuse a model of whose logits no weighted sum changes with the pixels.

    Raises:
        InvalidInputError: no gradient reaches the pixels, or only zeros, NaN or infinity.
    """
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    cure = "Attack a differentiable version of it; an attack by gradients says nothing about it."
    try:
        found = target.differentiate(weighted_logits, images, labels)
    except torch.OutOfMemoryError:
        target.halve_batches()
        check_gradient(target, images[: target.batch_size])
        return
    except RuntimeError as error:
        words = str(error).splitlines()[0]
        raise InvalidInputError(f"No gradient reaches the model's pixels: {words}", cure) from error
    if bool(found.blind.all()):
        raise InvalidInputError(
            f"The gradient of the model's logits is NaN or infinite in every pixel of "
            f"{counted(len(images), 'image')} tried.",
            "Find the operation whose derivative is not finite there (x ** 0.5, log, division).",
        )
    if not bool((found.gradient != 0).any()):
        raise InvalidInputError(
            f"The gradient of the model's logits is 0 in every pixel of "
            f"{counted(len(images), 'image')} tried: rounding, argmax or detach cuts it off.",
            cure,
        )


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
