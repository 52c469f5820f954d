"""A classifier as numbered layers whose features can be taken, and an ensemble of several."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.models import MODELS


@dataclass(frozen=True)
class Architecture:
    """The parts of a classifier, as a member of the family of models returns them.

    Attributes:
        layers: the numbered layers of Table 1, in order; layer 1 takes the images.
        head: from the last layer's output to logits.
        branches: auxiliary branches G (Eq. 10) by layer number; the features of a layer without
            one are its global averages, which the trunk may already have taken.
    """

    layers: Sequence[nn.Module]
    head: nn.Module
    branches: Mapping[int, nn.Module] = field(default_factory=dict)


class GlobalAveragePool(nn.Module):
    """(N, C, H, W) to (N, C); features that are (N, C) already pass unchanged."""

    def forward(self, features: Tensor) -> Tensor:
        """Average over the positions."""
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features


class Normalise(nn.Module):
    """(pixels - mean) / std, inside the model so that eps means pixels.

    Args:
        mean: of each channel, or one for all.
        std: of each channel, or one for all.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images (N, C, H, W) in [0, 1]."""
        return (images - self.mean) / self.std


class Classifier(nn.Module):
    """Pixels (N, C, H, W) in [0, 1] to logits (N, K).

    Args:
        architecture: the parts.
        feature_layers: layers whose features :meth:`features` returns; only their branches are
            kept.
        mean: of the pixels of each channel.
        std: of the pixels of each channel.

    Raises:
        UserError: there is no such layer.
    """

    def __init__(
        self,
        architecture: Architecture,
        feature_layers: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        count = len(architecture.layers)
        for number in feature_layers:
            if not 1 <= number <= count:
                raise UserError(
                    f"This model has no layer {number}.",
                    f"Its layers are 1 to {count}: write --layers {min(3, count)},{count}.",
                )
        self.normalise = Normalise(mean, std)
        self.layers = nn.ModuleList(architecture.layers)
        self.head = architecture.head
        self.branches = nn.ModuleDict(
            {
                str(number): architecture.branches.get(number, GlobalAveragePool())
                for number in sorted(feature_layers)
            }
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.features(images)[0]

    def features(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Logits (N, K), and {feature layer: features (N, D)} of the same pass.

        In float32 at least, also where autocast computes the layers with fewer bits.
        """
        precision = torch.promote_types(images.dtype, torch.float32)
        # Channels last, as the layers are laid out.
        output = self.normalise(images).contiguous(memory_format=torch.channels_last)
        found: dict[int, Tensor] = {}
        for number, layer in enumerate(self.layers, start=1):
            output = layer(output)
            if str(number) in self.branches:
                found[number] = self.branches[str(number)](output).to(precision)
        return self.head(output).to(precision), found


def build_classifier(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    feature_layers: Sequence[int] = (),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    embedding: int | None = None,
    seed: int = 0,
) -> Classifier:
    """A classifier of the family with fresh weights, as He et al. (2015) draw them.

    They keep the signal's size from layer to layer. PyTorch's own are too small for conv6, which
    has no batch normalisation: it does not learn.

    Args:
        name: in the family of models.
        shape: of an image, (channels, height, width).
        classes: number of classes K.
        width: factor on all channel counts, 1 as published.
        feature_layers: layers whose features a loss takes.
        mean: of the pixels of each channel; 0.5 if None.
        std: of the pixels of each channel; 0.25 if None.
        embedding: neurons of the penultimate layer; the architecture's own number if None.
        seed: of the weights; the process's random state is left as it was.

    Raises:
        UserError: there is no such model, or it has no such layer.
    """
    channels = shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not the accelerators' as well
        architecture = _architecture(name, channels, classes, width)
        if embedding is not None:
            architecture = _narrowed(architecture, embedding, classes)
        mean, std = mean or [0.5] * channels, std or [0.25] * channels
        classifier = Classifier(architecture, feature_layers, mean, std)
        for module in classifier.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                relu = isinstance(module, nn.Conv2d)
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if relu else "linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return classifier


def _architecture(name: str, channels: int, classes: int, width: float) -> Architecture:
    """The parts of a model of the family, to be given fresh weights.

    Raises:
        UserError: a plugin's model is not made of numbered layers, or brings weights that would be
            lost.
    """
    make = MODELS[name]
    own = f"attack it as it is: pclbench attack FILE.py:{make.__name__}"
    try:
        inspect.signature(make).bind(channels, classes, width)
        made = make(channels, classes, width)
        assert isinstance(made, Architecture)
    except (TypeError, AssertionError) as error:
        raise UserError(
            f"The model {name} is no function (channels, classes, width) that returns an "
            "Architecture of numbered layers, which is what a recipe trains.",
            f"Write one (docs/extending.md), or {own}",
        ) from error
    if not make.__module__.startswith(__package__.partition(".")[0]):
        other = make(channels, classes, width)  # drawn after the first, so it has other numbers
        if _brings_weights(made, other):
            raise UserError(
                f"The model {name} brings its own weights, and a recipe draws new weights "
                "and trains them.",
                f"Leave them out to train it, or {own}",
            )
    return made


def _brings_weights(made: Architecture, other: Architecture) -> bool:
    """Whether a layer has the same weights in two models that were made one after the other.

    Weights that are all one number are a way to start, not knowledge.
    """
    return any(
        torch.equal(weight, another) and bool((weight != weight.flatten()[0]).any())
        for weight, another in zip(_weights(made), _weights(other), strict=True)
    )


def _weights(architecture: Architecture) -> list[Tensor]:
    """Those of the layers that are given fresh ones."""
    parts = [*architecture.layers, architecture.head, *architecture.branches.values()]
    return [
        module.weight
        for part in parts
        for module in part.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]


def scaled(channels: int, width: float) -> int:
    """A channel count times the width factor, at least 4."""
    return max(4, round(channels * width))


def _narrowed(architecture: Architecture, neurons: int, classes: int) -> Architecture:
    """The architecture with another number of neurons in its penultimate layer (Fig. 1 and 6)."""
    *others, last = architecture.layers
    if not isinstance(last, nn.Linear):
        raise UserError(
            "This model has no fully connected layer before its logits to make narrower.",
            "Take one that has: pclbench models list.",
        )
    layers = (*others, nn.Linear(last.in_features, neurons))
    return replace(architecture, layers=layers, head=nn.Linear(neurons, classes))


class Ensemble(nn.Module):
    """Classifiers whose mean probabilities are the prediction.

    Their mean is given as its logarithm, so that softmax returns it and cross-entropy is its
    negative log-likelihood.

    Args:
        members: M classifiers of the same images and classes; different seeds make them differ.
    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of the mean probabilities, (N, K), of images (N, C, H, W)."""
        return log_mean_probabilities(self.member_logits(images), len(self.members))

    def features(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """What :meth:`forward` gives, and no features: each layer is there once for each member."""
        return self(images), {}

    def member_logits(self, images: Tensor) -> Tensor:
        """Each member's logits, (M, N, K)."""
        return torch.stack([member(images) for member in self.members])


def log_mean_probabilities(member_logits: Tensor, count: int) -> Tensor:
    """The logarithm of the mean softmax, (N, K), of ``count`` members' logits (count, N, K).

    Summed as logarithms: a probability too small for its type is still a finite logarithm.
    """
    return F.log_softmax(member_logits, dim=2).logsumexp(dim=0) - math.log(count)
