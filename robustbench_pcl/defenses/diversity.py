"""How differently an ensemble's members answer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

OFFSET = 1e-6
"""On the Gram matrix's diagonal, so that its determinant is above 0, as in [16]'s code."""


def log_diversity(member_logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of each image's ensemble diversity, (N,).

    The determinant of the Gram matrix of the members' non-maximal predictions, which are their
    probabilities of the classes other than the label, each scaled to length 1: the squared volume
    that they span (Pang et al. 2019 [16]). The scaling makes it the same to take softmax over the
    other classes only, where no probability underflows because the label's is near 1.

    Args:
        member_logits: (M, N, K).
        labels: int64 (N,).
    """
    own = labels.view(1, -1, 1).expand(len(member_logits), -1, 1)
    others = member_logits.scatter(2, own, -torch.inf).softmax(dim=2)
    directions = F.normalize(others, dim=2).transpose(0, 1)
    gram = directions @ directions.mT
    offset = OFFSET * torch.eye(len(member_logits)).to(gram)
    logarithms: Tensor = torch.linalg.slogdet(gram + offset).logabsdet
    return logarithms


def entropy(log_probabilities: Tensor) -> Tensor:
    """Shannon entropy in nats, (N,), of distributions given by logarithms (N, K)."""
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)
