"""The model as an attack sees it: frozen, in eval mode, every pass counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from robustbench_pcl.engine.compiling import Compiler
from robustbench_pcl.engine.shortcuts import EXACT, Precision, Shortcuts
from robustbench_pcl.engine.twin import Twin, twin_of

Objective = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
"""(model, images (N, C, H, W)) -> values (N,) to maximise, logits (N, K), of one pass."""

BATCH = {"cpu": 128, "cuda": 1000}
"""Images a pass: on a processor what its caches like, elsewhere what keeps it busy."""
PROBE = 16
"""Images on which a shortcut's gradients are compared with the plain model's."""
ALIKE = {"float32": 0.999, "bfloat16": 0.95}
"""Median cosine between them, at least. Trained networks have 0.98 to 1.00 in bfloat16 (ResNet-110
and conv6, with and without adversarial training); where a defence has flattened its loss, rounding
makes noise of the gradient, and the shortcut is dropped."""


class Evaluation(NamedTuple):
    """What a pass gives.

    Attributes:
        gradient: of each image's own value in its pixels, (N, C, H, W).
        values: (N,).
        logits: (N, K).
        plain: they are the plain model's, so that a verdict may rest on them.
    """

    gradient: Tensor
    values: Tensor
    logits: Tensor
    plain: bool = False


class Victim:
    """A context in which ``model`` is in eval mode and its parameters need no gradient.

    Both are put back on leaving, also after an exception: attacking a model in train mode would
    move its batch-norm statistics and make one image's gradient depend on the others.

    Attributes:
        model: as it was given; every verdict is its own.
        shortcuts: those that are taken; fewer than asked for once one has failed its check.
        plain: attacks run on the same operations as the verdicts, so that these need no repeating.
        batch_size: images to be passed at once; no result depends on it.
        forward_passes: images passed forward so far.
        backward_passes: images whose input gradient was taken so far.

    Args:
        model: maps images to logits.
        shortcuts: those that may be taken.
    """

    def __init__(self, model: nn.Module, shortcuts: Shortcuts = EXACT) -> None:
        self.model = model
        self.shortcuts = shortcuts
        value = next(model.parameters(), None)
        self.batch_size = BATCH.get(value.device.type if value is not None else "cpu", BATCH["cpu"])
        self.forward_passes = 0
        self.backward_passes = 0
        self.plain = True
        self._fast = model
        self._settled = not shortcuts.prepared
        self._compiler = Compiler()

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
        """The plain model's logits (N, K), without a gradient."""
        self.forward_passes += len(images)
        with torch.no_grad():
            logits: Tensor = self.model(images)
        return logits

    def gradient(
        self, loss: Callable[[nn.Module, Tensor, Tensor], Tensor], images: Tensor, labels: Tensor
    ) -> Tensor:
        """The plain model's gradient of each image's own loss in its pixels, (N, C, H, W).

        Args:
            loss: (model, images, labels) -> losses (N,).
            images: (N, C, H, W).
            labels: int64 (N,).
        """

        def objective(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
            values = loss(model, images, labels)
            return values, values

        return self._evaluate(self.model, objective, images).gradient

    def evaluate(self, objective: Objective, images: Tensor) -> Evaluation:
        """The prepared model's values, logits and gradients; what it differs in is rounding."""
        return self._evaluate(self._compiler.or_plain(self._fast, len(images)), objective, images)

    def evaluate_plainly(self, objective: Objective, images: Tensor) -> Evaluation:
        """The same of the plain model."""
        return self._evaluate(self.model, objective, images)

    def attack_on(self, twin: Twin) -> None:
        """Attack a twin that was made before, unchecked: of a model in training, say."""
        self._fast, self.plain, self._settled = twin.model, twin.plain, True

    def settle(self, objective: Objective, images: Tensor) -> None:
        """Prepare the model, and keep of its shortcuts those that agree with it on some images.

        Args:
            objective: for ``images``.
            images: at most ``PROBE`` are of use.
        """
        if self._settled:
            return
        expected = self._evaluate(self.model, objective, images)
        precisions: tuple[Precision, ...] = ("bfloat16", "float32")
        for precision in precisions[precisions.index(self.shortcuts.precision) :]:
            try:
                twin = twin_of(self.model, images[:1], precision)
                found = self._evaluate(twin.model, objective, images)
            except torch.OutOfMemoryError:
                raise  # no fault of the shortcut's
            except Exception:  # a model that cannot be copied, a layer that is not as it was
                continue
            if agree(expected, found, ALIKE[precision]):
                self.shortcuts = replace(self.shortcuts, folded=True, precision=precision)
                self.attack_on(twin)
                return
        self.shortcuts = Shortcuts(retiring=self.shortcuts.retiring)
        self._settled = True

    def consider_compiling(self, seconds: float, objective: Objective, batch: Tensor) -> None:
        """Compile the prepared model if what is left is long enough for that to pay.

        Args:
            seconds: that are left as it is.
            objective: for ``batch``.
            batch: of the size that most passes have, (N, C, H, W).
        """
        if self.shortcuts.compiled and self._fast is not self.model:

            def run(model: nn.Module) -> None:
                self._evaluate(model, objective, batch)

            self._compiler.consider(self._fast, run, seconds, len(batch))
            self.plain &= self._compiler.or_plain(self._fast, len(batch)) is self._fast

    def _evaluate(self, model: nn.Module, objective: Objective, images: Tensor) -> Evaluation:
        self.forward_passes += len(images)
        self.backward_passes += len(images)
        images = images.detach().requires_grad_(True)
        with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            values, logits = objective(model, images)
            (gradient,) = torch.autograd.grad(values.sum(), images)
        plain = self.plain or model is self.model
        return Evaluation(gradient, values.detach(), logits.detach(), plain)


def agree(expected: Evaluation, found: Evaluation, cosine: float) -> bool:
    """Whether two models' gradients point the same way for most images.

    Images for which the expected gradient is zero say nothing; if it is so for all, nothing is
    known, and the answer is no.
    """
    wanted, given = expected.gradient.flatten(1).double(), found.gradient.flatten(1).double()
    told = wanted.norm(dim=1) > 0
    if not bool(told.any()) or not bool(given.isfinite().all()):
        return False
    # Scaled first: a flattened loss has gradients whose squares are too small for any float.
    wanted, given = (rows / rows.abs().amax(dim=1, keepdim=True) for rows in (wanted, given))
    cosines = torch.cosine_similarity(wanted[told], given[told], dim=1).nan_to_num(nan=-1)
    return bool(cosines.median() >= cosine)
