"""The model as an attack sees it: frozen, in eval mode, every pass counted."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.losses import AttackLoss


class Victim:
    """A context in which ``model`` is in eval mode and its parameters need no gradient.

    Both are put back on leaving, also after an exception: attacking a model in train mode would
    move its batch-norm statistics and make one image's gradient depend on the others.

    Attributes:
        forward_passes: images passed forward so far.
        backward_passes: images whose input gradient was taken so far.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.forward_passes = 0
        self.backward_passes = 0

    def __enter__(self) -> Self:
        self._training = [module for module in self.model.modules() if module.training]
        self._learning = [value for value in self.model.parameters() if value.requires_grad]
        self.model.eval()
        for parameter in self._learning:
            parameter.requires_grad_(False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for module in self._training:
            module.training = True
        for parameter in self._learning:
            parameter.requires_grad_(True)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, K) without a gradient."""
        self.forward_passes += len(images)
        with torch.no_grad():
            logits: Tensor = self.model(images)
        return logits

    def gradient(self, loss: AttackLoss, images: Tensor, labels: Tensor) -> Tensor:
        """The gradient of each image's own loss with respect to its pixels, (N, C, H, W)."""
        self.forward_passes += len(images)
        self.backward_passes += len(images)
        images = images.detach().requires_grad_(True)
        with torch.enable_grad():
            total = loss(self.model, images, labels).sum()
            (gradient,) = torch.autograd.grad(total, images)
        return gradient
