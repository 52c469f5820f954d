"""A frozen copy of a model that answers alike, and faster; and which shortcuts pay on a device."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast
from weakref import WeakKeyDictionary

from robustbench_pcl.environment import computes_bfloat16
from robustbench_pcl.lazy import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["float32", "bfloat16"]
FASTER = 1.1
"""A compiled model stays if it is so many times as fast: on processors it seldom is."""


@dataclass(frozen=True)
class Shortcuts:
    """Which shortcuts may be taken; each is dropped where it fails its own check.

    Verdicts are always the reference model's, in its own precision.

    Attributes:
        folded: batch normalisation is multiplied into the convolutions, a frozen PReLU is a leaky
            ReLU, channels come last. The same numbers up to rounding.
        precision: of convolutions and what lies between them.
        early_stop: an image leaves at its first fooling, where only the verdict is asked.
        compiled: the model is compiled where so much is left to do that it pays.
    """

    folded: bool = False
    precision: Precision = "float32"
    early_stop: bool = False
    compiled: bool = False


EXACT = Shortcuts()
"""The reference model, all steps for every image."""


def shortcuts_for(device: torch.device) -> Shortcuts:
    """What pays on a device without leaving out steps; bfloat16 only where it is native."""
    precision: Precision = "bfloat16" if computes_bfloat16(device) else "float32"
    return Shortcuts(folded=True, precision=precision, compiled=True)


class FastModel:
    """A model's copy in eval mode whose parameters need no gradient.

    Batch normalisation is folded into convolutions; a PReLU of one slope is a leaky ReLU, whose
    backward pass makes no gradient of the slope; channels come last. In bfloat16, convolutions
    take and give bfloat16, and fully connected layers float32: features and logits are not
    rounded on top. Its weights are not the model's yet: see :func:`fast_model`.

    Attributes:
        model: the copy.
        exact: it does the very operations of the model, with the same numbers.
        convolutions: (the copy's, the model's, the batch normalisation folded into it).
        slopes: (the copy's leaky ReLU, the model's PReLU).
        tensors: (the copy's, the model's) of all else.

    Args:
        model: left as it is; in eval mode.
        images: a few, (N, C, H, W), to find out what follows what.
        precision: of the convolutions.
    """

    def __init__(self, model: nn.Module, images: Tensor, precision: Precision) -> None:
        pairs = conv_norm_pairs(model, images)
        own = dict(model.named_modules())
        weights = [value for value in model.parameters() if value.ndim == 4]
        self.exact = (
            not pairs
            and precision == "float32"
            # laid out as the copy is going to be: only then are sums in the same order
            and all(value.is_contiguous(memory_format=torch.channels_last) for value in weights)
        )
        self.model = copy.deepcopy(model).eval()
        copies = dict(self.model.named_modules())
        self.convolutions = [
            (
                cast("nn.Conv2d", copies[conv]),
                cast("nn.Conv2d", own[conv]),
                cast("nn.BatchNorm2d", own[norm]),
            )
            for conv, norm in pairs.items()
        ]
        for fast, conv, _ in self.convolutions:
            if conv.bias is None:
                fast.bias = nn.Parameter(torch.zeros(len(conv.weight)).to(conv.weight))
        instead: dict[nn.Module, nn.Module] = {
            copies[norm]: nn.Identity() for norm in pairs.values()
        }
        self.slopes: list[tuple[nn.LeakyReLU, nn.PReLU]] = []
        for name, module in own.items():
            if isinstance(module, nn.PReLU) and module.num_parameters == 1:
                instead[copies[name]] = leaky = nn.LeakyReLU()
                self.slopes.append((leaky, module))
        for name, module in list(self.model.named_modules(remove_duplicate=False)):
            if name and module in instead:
                self.model.set_submodule(name, instead[module])
        self.model.requires_grad_(False).to(memory_format=torch.channels_last)
        folded = {fast for fast, _, _ in self.convolutions}
        self.tensors = [
            pair
            for name, module in self.model.named_modules()
            if name in own and type(module) is type(own[name]) and module not in folded
            for tensors in ("parameters", "buffers")
            for pair in zip(
                getattr(module, tensors)(recurse=False),
                getattr(own[name], tensors)(recurse=False),
                strict=True,
            )
        ]
        if precision == "bfloat16":
            for module in self.model.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(torch.bfloat16)
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.register_forward_pre_hook(_in_own_precision)
        self.model.eval()


_FAST_MODELS: WeakKeyDictionary[nn.Module, dict[Precision, tuple[list[object], FastModel]]]
_FAST_MODELS = WeakKeyDictionary()
"""As long as their models are there, with what they were built from: a model is attacked by many
attacks, or in every step of its training, and copying it anew would take longer than some do."""


def fast_model(model: nn.Module, images: Tensor, precision: Precision) -> FastModel:
    """The model's fast copy, with its present weights.

    Args:
        model: in eval mode.
        images: a few, float (N, C, H, W), to find out what follows what.
        precision: of the convolutions.
    """
    structure: list[object] = [(name, id(module)) for name, module in model.named_modules()]
    structure += [(value.device, value.dtype) for value in model.parameters()]
    known = _FAST_MODELS.setdefault(model, {})
    if precision not in known or known[precision][0] != structure:
        known[precision] = (structure, FastModel(model, images, precision))
    fast = known[precision][1]
    with torch.no_grad():
        for value, source in fast.tensors:
            value.copy_(source)
        for folded, conv, norm in fast.convolutions:
            mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
            weight, bias = nn.utils.fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
            )
            folded.weight.copy_(weight)
            cast("Tensor", folded.bias).copy_(bias)
        for leaky, prelu in fast.slopes:
            leaky.negative_slope = float(prelu.weight)
    return fast


def conv_norm_pairs(model: nn.Module, images: Tensor) -> dict[str, str]:
    """Which batch normalisation takes which convolution's output, by their names.

    Found by passing images through, so that it holds for any model, whatever its attributes are
    called. A module that is used more than once is left out. That the output goes nowhere else
    cannot be seen here: who folds compares the results.

    Args:
        model: in eval mode.
        images: a few, float (N, C, H, W).
    """
    passed: list[tuple[nn.Module, Tensor, int]] = []  # which also keeps the tensors' ids

    def record(module: nn.Module, given: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        value = given[0] if output is None else output
        passed.append((module, value, value._version))  # which changes with each use in place

    names = {module: name for name, module in model.named_modules()}
    handles = [
        module.register_forward_hook(record) for module in names if isinstance(module, nn.Conv2d)
    ] + [
        module.register_forward_pre_hook(record)
        for module in names
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None
    ]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    convolutions: dict[tuple[int, int], nn.Module] = {}
    pairs: dict[nn.Module, nn.Module] = {}
    for module, value, version in passed:
        if isinstance(module, nn.Conv2d):
            convolutions[id(value), version] = module
        elif (id(value), version) in convolutions:
            pairs[convolutions[id(value), version]] = module
    uses = Counter(module for module, _, _ in passed)
    return {
        names[conv]: names[norm] for conv, norm in pairs.items() if uses[conv] == uses[norm] == 1
    }


def faster_compiled(model: nn.Module, run: Callable[[nn.Module], object]) -> nn.Module | None:
    """The compiled model where it is faster; None where it is not, or cannot be compiled.

    Args:
        model: to be compiled.
        run: passes a batch through a model, forward and backward.
    """
    compiled: nn.Module
    try:
        compiled = torch.compile(model, dynamic=False)  # type: ignore[assignment]
        run(compiled)
    except Exception:  # no compiler, or a model that is none for it
        return None
    seconds = []
    for each in (compiled, model):
        began = time.perf_counter()
        run(each)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return compiled if seconds[0] * FASTER < seconds[1] else None


def _in_own_precision(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A layer's input in the precision of its weight."""
    return (given[0].to(cast("Tensor", layer.weight).dtype), *given[1:])
