"""Class centres among the logits, which follow them from batch to batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassCentres(nn.Module):
    """One centre a class in the space of logits (Song et al. 2019 [46]).

    The centres are part of the state but are not learnt by gradient; they start at 0.

    Args:
        classes: number of classes, K.
    """

    centres: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(classes, classes))

    def margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How much nearer logits (N, K) are to another class's centre than to their own.

        The mean over images and other classes of softplus(|z - c_y| - |z - c_j|), in L1 distances.
        """
        distances = (logits[:, None] - self.centres).abs().sum(dim=2)
        own = distances.gather(1, labels[:, None])
        others = ~F.one_hot(labels, len(self.centres)).bool()
        nearer = F.softplus(own - distances) * others
        return nearer.sum() / (len(labels) * (len(self.centres) - 1))

    def follow(self, logits: Tensor, labels: Tensor, rate: float) -> None:
        """Move each centre by rate * sum over its class of (z - c) / (1 + images of the class)."""
        with torch.no_grad():
            members = F.one_hot(labels, len(self.centres)).to(logits.dtype)
            counts = members.sum(dim=0)[:, None]
            towards = members.T @ logits - counts * self.centres
            self.centres += rate * towards / (1 + counts)
