"""Several classifiers that answer together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.models.classifier import Classifier


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
        return log_mean_probabilities(self.member_logits(images))

    def features(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """What :meth:`forward` gives, and no features: each layer is there once for each member."""
        return self(images), {}

    def member_logits(self, images: Tensor) -> Tensor:
        """Each member's logits, (M, N, K)."""
        return torch.stack([member(images) for member in self.members])


def log_mean_probabilities(member_logits: Tensor) -> Tensor:
    """The logarithm of the members' mean softmax, (N, K), of their logits (M, N, K).

    Summed as logarithms: a probability too small for its type is still a finite logarithm.
    """
    return F.log_softmax(member_logits, dim=2).logsumexp(dim=0) - math.log(len(member_logits))
