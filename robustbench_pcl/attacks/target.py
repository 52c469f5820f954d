"""The model under attack: in eval mode, its parameters without gradients, every pass counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from robustbench_pcl.attacks.checks import PROBE, apart, spread, weighted_logits
from robustbench_pcl.attacks.fast_model import (
    EXACT,
    FastModel,
    Kind,
    NotFollowedError,
    Precision,
    Shortcuts,
    faster_compiled,
)
from robustbench_pcl.attacks.passes import Pass, agree, bounded, decided, mean_of
from robustbench_pcl.attacks.rows import Rows
from robustbench_pcl.errors import InvalidInputError
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    Loss = Callable[[nn.Module, Tensor, Any], tuple[Tensor, Tensor]]
    """(model, images (N, C, H, W), labels (N,)) -> values to maximise (N,), logits (N, K)."""

BATCH = {"cpu": 128, "cuda": 1000}
"""Images per pass: on a processor what its caches like, elsewhere what keeps it busy."""
COSINE = {"float32": 0.999, "bfloat16": 0.95}
"""Median cosine between a fast model's gradients and the model's, at least. Trained networks have
0.98 to 1.00 in bfloat16 (ResNet-110 and conv6, with and without adversarial training); where a
defence has flattened its loss, rounding makes noise of it, and the fast model is dropped."""
LOGITS = {"float32": 0.01, "bfloat16": 0.2}
"""How far apart their logits may be for any image, as a share of the logits' range."""
LONG = 600.0
"""Seconds of work left from which on compiling is tried: it takes 10 to 120."""


@dataclass(eq=False)
class TargetModel:
    """A context in which ``model`` is in eval mode and its parameters need no gradient.

    Both are put back on leaving, also after an exception: attacking a model in train mode would
    move its batch-norm statistics and make one image's gradient depend on the others. Every pass
    is of a copy of the images: a model may change its input in place.

    Args:
        model: maps images to logits.
        shortcuts: those that may be taken.
        say: is told, once, why a shortcut is not taken.
        copies: fast models that were made before; more are put there.
        forwards: passes whose mean is an answer, and a gradient, of a randomised model; its random
            numbers start from the same seed then, and it has no fast copy.

    Attributes:
        model: the reference model, as it was given; every verdict is its own.
        shortcuts: those that are taken; fewer than asked for once one has failed its check.
        fast: the copy that makes gradients; None as long as, or where, the model itself does.
        batch_size: images per pass; no result depends on it.
        classes: how many the model has; 0 before it is checked.
        coarsest: precision of the fast model's gradients that the present attack can bear.
        logit_width: the range of an image's logits, the median of a few.
        logit_error: how far a logit margin of the fast model may be from the reference model's, as
            a share of their range: four times the largest error of a logit that was seen.
        seconds_left: about how long the work that is left takes; 0 where that is not known.
        blind: rows whose gradient was not finite in any pixel, in some pass.
        rankings: of wrong classes, int64 (count,), by what was asked and of which image.
        forward_passes: images passed forward so far.
        backward_passes: images whose input gradient was taken so far.
    """

    model: nn.Module
    shortcuts: Shortcuts = EXACT
    say: Callable[[str], None] = warnings.warn
    copies: dict[Kind, FastModel] = field(default_factory=dict)
    forwards: int = 1
    fast: FastModel | None = field(default=None, init=False)
    batch_size: int = field(default=BATCH["cpu"], init=False)
    classes: int = field(default=0, init=False)
    coarsest: Precision = field(default="bfloat16", init=False)
    logit_width: float = field(default=0.0, init=False)
    logit_error: float = field(default=0.0, init=False)
    seconds_left: float = field(default=0.0, init=False)
    blind: set[int] = field(default_factory=set, init=False)
    rankings: dict[tuple[object, ...], Tensor] = field(default_factory=dict, init=False)
    forward_passes: int = field(default=0, init=False)
    backward_passes: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        if any(
            isinstance(value, torch.nn.UninitializedParameter) for value in self.model.parameters()
        ):
            raise InvalidInputError(
                "The model has lazy layers whose weights are not there yet.",
                "Call it once, before its weights are loaded: model(images[:1]).",
            )
        value = next(self.model.parameters(), None)
        device = value.device.type if value is not None else "cpu"
        self.batch_size = BATCH.get(device, BATCH["cpu"])
        self._asked = self.shortcuts if self.forwards == 1 else EXACT
        self._prepared = ("", "")
        self._compiled: nn.Module | None = None
        self._compiled_size = 0
        self._back = ExitStack()
        for mode in (torch.inference_mode(False), torch.no_grad()):
            self._back.enter_context(mode)
        if self.forwards > 1:
            self._back.enter_context(torch.random.fork_rng())
            torch.manual_seed(0)
        self._back.enter_context(torch.autocast(device, enabled=False))
        for module in self.model.modules():
            if module.training:
                self._back.callback(setattr, module, "training", True)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                self._back.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        self.model.eval()
        return self

    def __exit__(self, *_: object) -> None:
        self._back.close()

    @property
    def exact(self) -> bool:
        """Gradients are the reference model's, or made by its very operations."""
        return self._compiled is None and (self.fast is None or self.fast.exact)

    def logits(self, images: Tensor, model: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Logits (N, K), without a gradient: the reference model's, if no other is given.

        Of any number of images, at least one; on out-of-memory, batches are halved.
        """
        found: list[Tensor] = []
        done = 0
        while done < len(images):
            batch = images[done : done + self.batch_size]
            try:
                answers = [(model or self.model)(batch.clone()) for _ in range(self.forwards)]
            except torch.OutOfMemoryError:
                self.halve_batches()
                continue
            found.append(answers[0] if self.forwards == 1 else torch.stack(answers).mean(dim=0))
            done += len(batch)
            self.forward_passes += len(batch) * self.forwards
        return torch.cat(found) if len(found) > 1 else found[0]

    def query(self, images: Tensor, *, exact: bool = True) -> Pass:
        """Logits alone, for an attack without gradients.

        Args:
            images: float (N, C, H, W).
            exact: pass the reference model, not the fast one, which is in float32 here: a random
                search compares logits that are closer to each other than bfloat16 tells.
        """
        if not exact:
            self.prepare(None, images, images)
        return self._answers(self.model if exact or self.fast is None else self.fast.model, images)

    def _answers(self, model: nn.Module, images: Tensor) -> Pass:
        logits = self.logits(images, model)
        nothing = torch.zeros_like(logits[:, 0])
        return Pass(logits, images[:, :0], nothing, model is self.model, nothing.bool())

    def differentiate(
        self, loss: Loss, images: Tensor, labels: Tensor | Rows, *, exact: bool = True
    ) -> Pass:
        """Values, logits and gradients of one pass.

        Args:
            loss: what is differentiated, each image by itself.
            images: float (N, C, H, W).
            labels: int64 (N,), or whatever else the loss takes one row of per image.
            exact: pass the reference model, not the fast one, which differs in rounding.
        """
        if not exact:
            self.prepare(loss, images, labels)
            if self.seconds_left >= LONG:
                self.compile_if_faster(loss, images, labels)
        model = self.model
        if not exact and self.fast is not None:
            model = self.fast.model
            if self._compiled is not None and len(images) == self._compiled_size:
                model = self._compiled
        passes = [self._pass(model, loss, images, labels) for _ in range(self.forwards)]
        return passes[0] if self.forwards == 1 else mean_of(passes)

    def _pass(self, model: nn.Module, loss: Loss, images: Tensor, labels: Tensor | Rows) -> Pass:
        self.forward_passes += len(images)
        self.backward_passes += len(images)
        leaf = images.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            values, logits = loss(model, leaf.clone(), labels)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        gradient, blind = bounded(gradient)
        exact = model is self.model or self.exact
        return Pass(logits.detach(), gradient, values.detach(), exact, blind)

    def prepare(self, loss: Loss | None, images: Tensor, labels: Tensor | Rows) -> None:
        """Take the quickest fast model that agrees with the reference model on a few images.

        Once, and again when gradients are asked for after logits alone, or the other way round, or
        by an attack that bears another precision.

        Args:
            loss: the attack's; None where it asks for logits alone.
            images: float (N, C, H, W), some of those that are attacked.
            labels: int64 (N,).
        """
        fine = loss is None or self.coarsest == "float32"
        precision: Precision = "float32" if fine else self._asked.precision
        use = ("logits" if loss is None else "gradients", precision)
        if use != self._prepared and (self._asked.folded or self._asked.precision != "float32"):
            self.fast = None
            asked = replace(self._asked, precision=precision, compiled=self.shortcuts.compiled)
            self._take_fast(asked, loss, images, labels)
            self._prepared = use

    def _take_fast(
        self, wanted: Shortcuts, loss: Loss | None, images: Tensor, labels: Tensor | Rows
    ) -> None:
        doubt = ""
        few = min(PROBE, self.batch_size)
        images, labels = images[:few], labels[:few]
        # In training logits alone: with bfloat16, the model's own gradients are as noisy.
        look: Callable[[nn.Module], Pass] = partial(self._answers, images=images)
        if compared := loss is not None and wanted.compared:
            look = partial(self._pass, loss=loss, images=images, labels=labels)
        expected = look(self.model)
        if compared and not bool(expected.gradient.any()):  # saturated: nothing to compare
            look = partial(self._pass, loss=weighted_logits, images=images, labels=labels)
            expected = look(self.model)
        for kind in wanted.tried():
            try:
                fast = self._copy(kind)
                found = look(fast.model)
            except torch.OutOfMemoryError:
                raise  # no fault of the fast model's
            except NotFollowedError as error:
                doubt = str(error)
                break
            except Exception as error:  # a layer that a copy, a layout or bfloat16 does not suit
                words = str(error).splitlines() or [""]
                doubt = f"{type(error).__name__} in {kind.precision}: {words[0]}"
                continue
            width = float(spread(expected.logits).median())
            error_share = float(apart(expected.logits, found.logits, width).max())
            if not error_share <= LOGITS[kind.precision]:
                doubt = f"in {kind.precision}, its copy's logits are others"
            elif compared and not agree(expected.gradient, found.gradient, COSINE[kind.precision]):
                doubt = f"in {kind.precision}, its copy's gradients are others"
            else:
                self.fast, self.logit_width, self.logit_error = fast, width, 4 * error_share
                self.shortcuts = replace(wanted, folded=True, precision=kind.precision)
                break
        if self.fast is None:
            self.shortcuts = replace(wanted, folded=False, precision="float32", compiled=False)
            self.say(f"Attacked without a fast copy, more slowly: {doubt}.")
        elif self.shortcuts.precision != wanted.precision:
            self.say(f"Attacked in float32, more slowly: {doubt}.")

    def _copy(self, kind: Kind) -> FastModel:
        """A copy of that kind with the model's present weights; the one there is, if it can."""
        made = self.copies.get(kind)
        if made is None or not made.follow(self.model):
            made = self.copies[kind] = FastModel(self.model, kind)
        return made

    def forget_fast(self) -> None:
        """Choose the fast model anew, by the images that come next, as if none had been before."""
        self.fast, self._prepared = None, ("", "")
        self.shortcuts = replace(self._asked, compiled=self.shortcuts.compiled)

    def halve_batches(self) -> None:
        """After a pass for which memory was too small.

        Raises:
            OutOfMemoryError: the one that is being handled, where not even one image fits.
        """
        if self.batch_size == 1:
            raise  # noqa: PLE0704
        self.batch_size //= 2

    @contextmanager
    def reference_only(self) -> Iterator[None]:
        """For the time being, the reference model makes the gradients."""
        fast, self.fast = self.fast, None
        try:
            yield
        finally:
            self.fast = fast

    def agrees(self, images: Tensor, logits: Tensor) -> Tensor:
        """Boolean (N,): for which images the fast model answers as the reference model does.

        Args:
            images: float (N, C, H, W).
            logits: float (N, K), the reference model's.
        """
        if self.exact or self.fast is None:
            return torch.ones(len(images), dtype=torch.bool, device=images.device)
        found = self.logits(images, self.fast.model)
        return apart(logits, found, self.logit_width) <= LOGITS[self.shortcuts.precision]

    def compile_if_faster(self, loss: Loss, images: Tensor, labels: Tensor | Rows) -> None:
        """Compile the fast model, once; the compiled one stays if it was measured faster.

        Args:
            loss: the attack's.
            images: float (N, C, H, W), as many as most passes have: the compiled model passes
                batches of that size alone.
            labels: int64 (N,).
        """
        if not self.shortcuts.compiled or self.fast is None:
            return
        self.shortcuts = replace(self.shortcuts, compiled=False)
        run = partial(self._pass, loss=loss, images=images, labels=labels)
        compiled = faster_compiled(self.fast.model, run)
        if compiled is None:
            return
        expected, found = run(self.fast.model), run(compiled)
        same = apart(expected.logits, found.logits, self.logit_width) <= LOGITS["float32"]
        if bool(same.all()) and agree(expected.gradient, found.gradient, COSINE["bfloat16"]):
            self._compiled, self._compiled_size = compiled, len(images)
        else:
            self.say("Attacked without compiling: the compiled model's answers are others.")

    def warn_of_blind_images(self, adversarial: Tensor, labels: Tensor) -> Tensor:
        """Say which images withstood only because no attack by gradients could see anything.

        Args:
            adversarial: float (N, C, H, W), of rows 0 to N - 1.
            labels: int64 (N,).

        Returns:
            boolean (N,): whose gradient was not finite anywhere in some pass, and whose class is
            still the label.
        """
        rows = torch.tensor(sorted(self.blind), dtype=torch.int64, device=adversarial.device)
        blind = torch.zeros(len(adversarial), dtype=torch.bool, device=adversarial.device)
        if len(rows):
            blind[rows] = decided(self.logits(adversarial[rows])) == labels[rows]
        self.say_blind(int(blind.sum()), len(blind))
        self.blind.clear()  # the next attack has its own
        return blind

    def say_blind(self, count: int, total: int) -> None:
        """Say that ``count`` of ``total`` images withstood for want of a gradient, if any did."""
        if count:
            self.say(
                f"{count} of {total} images withstood only because their gradient "
                "was NaN or infinite in every pixel: nothing is known of their robustness."
            )
