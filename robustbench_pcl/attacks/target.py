"""The model under attack: in eval mode, its parameters without gradients, every pass counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

from robustbench_pcl.attacks.fast_model import (
    EXACT,
    FastModel,
    Precision,
    Shortcuts,
    fast_model,
    faster_compiled,
)
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from types import TracebackType

    from torch import Tensor, nn

    Objective = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
    """(model, images (N, C, H, W)) -> values (N,) to maximise, logits (N, K), of one pass."""

BATCH = {"cpu": 128, "cuda": 1000}
"""Images per pass: on a processor what its caches like, elsewhere what keeps it busy."""
PROBE = 16
"""Images on which a fast model's gradients are compared with the reference model's."""
PRECISIONS: tuple[Precision, ...] = ("bfloat16", "float32")
"""Those that are tried, the faster one first."""
ALIKE = {"float32": 0.999, "bfloat16": 0.95}
"""Median cosine between them, at least. Trained networks have 0.98 to 1.00 in bfloat16 (ResNet-110
and conv6, with and without adversarial training); where a defence has flattened its loss, rounding
makes noise of the gradient, and the fast model is dropped."""


class GradientPass(NamedTuple):
    """What a pass forward and backward gives.

    Attributes:
        gradient: float (N, C, H, W), of each image's own value in its pixels.
        values: float (N,).
        logits: float (N, K).
        exact: they are the reference model's, so that a verdict may rest on them.
    """

    gradient: Tensor
    values: Tensor
    logits: Tensor
    exact: bool = False


@dataclass(eq=False)
class TargetModel:
    """A context in which ``model`` is in eval mode and its parameters need no gradient.

    Both are put back on leaving, also after an exception: attacking a model in train mode would
    move its batch-norm statistics and make one image's gradient depend on the others.

    Args:
        model: maps images to logits.
        shortcuts: those that may be taken.

    Attributes:
        model: the reference model, as it was given; every verdict is its own.
        shortcuts: those that are taken; fewer than asked for once one has failed its check.
        batch_size: images per pass; no result depends on it.
        prepared: it has been decided which shortcuts are taken.
        exact: gradients are made by the very operations of the reference model, so that a verdict
            on what was passed needs no pass of its own.
        forward_passes: images passed forward so far.
        backward_passes: images whose input gradient was taken so far.
    """

    model: nn.Module
    shortcuts: Shortcuts = EXACT
    batch_size: int = field(default=BATCH["cpu"], init=False)
    prepared: bool = field(default=False, init=False)
    exact: bool = field(default=True, init=False)
    forward_passes: int = field(default=0, init=False)
    backward_passes: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        value = next(self.model.parameters(), None)
        self.batch_size = BATCH.get(value.device.type if value is not None else "cpu", BATCH["cpu"])
        self.prepared = not self.shortcuts.folded and self.shortcuts.precision == "float32"
        self._fast = self.model
        self._compiled: nn.Module | None = None
        self._compiled_size = 0
        self._may_compile = self.shortcuts.compiled
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
        """The reference model's logits (N, K), without a gradient."""
        self.forward_passes += len(images)
        with torch.no_grad():
            logits: Tensor = self.model(images)
        return logits

    def gradient(
        self, loss: Callable[[nn.Module, Tensor, Tensor], Tensor], images: Tensor, labels: Tensor
    ) -> Tensor:
        """The reference model's gradient of each image's own loss in its pixels, (N, C, H, W).

        Args:
            loss: (model, images, labels) -> losses (N,).
            images: float (N, C, H, W).
            labels: int64 (N,).
        """

        def objective(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
            values = loss(model, images, labels)
            return values, values

        return self.evaluate(objective, images, self.model).gradient

    def evaluate(
        self, objective: Objective, images: Tensor, model: nn.Module | None = None
    ) -> GradientPass:
        """Values, logits and gradients of one pass.

        Args:
            objective: what is differentiated.
            images: float (N, C, H, W).
            model: the one that is passed; the fast model if None, which differs in rounding.
        """
        if model is None:
            model = self._fast
            if self._compiled is not None and len(images) == self._compiled_size:
                model = self._compiled
        self.forward_passes += len(images)
        self.backward_passes += len(images)
        images = images.detach().requires_grad_(True)
        with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            values, logits = objective(model, images)
            (gradient,) = torch.autograd.grad(values.sum(), images)
        exact = self.exact or model is self.model
        return GradientPass(gradient, values.detach(), logits.detach(), exact)

    def attack_on(self, fast: FastModel) -> None:
        """Make gradients with a fast model, unchecked: of a model in training, say."""
        self._fast, self.exact, self.prepared = fast.model, fast.exact, True

    def prepare(self, objective: Objective, images: Tensor) -> None:
        """Make fast models, and keep the first that agrees with the reference model on some images.

        Args:
            objective: for ``images``.
            images: float (N, C, H, W), the first ``PROBE`` that are attacked.
        """
        expected = self.evaluate(objective, images, self.model)
        for precision in PRECISIONS[PRECISIONS.index(self.shortcuts.precision) :]:
            try:
                fast = fast_model(self.model, images[:1], precision)
                found = self.evaluate(objective, images, fast.model)
            except torch.OutOfMemoryError:
                raise  # no fault of the fast model's
            except Exception:  # a model that cannot be copied, a layer that is not as it was
                continue
            if agree(expected.gradient, found.gradient, ALIKE[precision]):
                self.shortcuts = replace(self.shortcuts, folded=True, precision=precision)
                self._fast, self.exact, self.prepared = fast.model, fast.exact, True
                return
        self.shortcuts, self.prepared = Shortcuts(early_stop=self.shortcuts.early_stop), True

    def compile_if_faster(self, objective: Objective, images: Tensor) -> None:
        """Compile the fast model, once; the compiled one stays if it was measured faster.

        Args:
            objective: for ``images``.
            images: float (N, C, H, W), as many as most passes have: the compiled model passes
                batches of that size alone.
        """
        if not self._may_compile or self._fast is self.model:
            return
        self._may_compile = False
        run = partial(self.evaluate, objective, images)
        self._compiled = faster_compiled(self._fast, run)
        self._compiled_size = len(images)
        self.exact &= self._compiled is None


def agree(expected: Tensor, found: Tensor, cosine: float) -> bool:
    """Whether the gradients (N, C, H, W) of two models point the same way for most images.

    Images for which the expected gradient is zero say nothing; if it is so for all, nothing is
    known, and the answer is no.

    Args:
        expected: the reference model's.
        found: the fast model's.
        cosine: the median of the images' cosines that there has to be.
    """
    wanted, given = expected.flatten(1).double(), found.flatten(1).double()
    told = wanted.norm(dim=1) > 0
    if not bool(told.any()) or not bool(given.isfinite().all()):
        return False
    # Scaled first: a flattened loss has gradients whose squares are too small for any float.
    wanted, given = (rows / rows.abs().amax(dim=1, keepdim=True) for rows in (wanted, given))
    cosines = torch.cosine_similarity(wanted[told], given[told], dim=1).nan_to_num(nan=-1)
    return bool(cosines.median() >= cosine)
