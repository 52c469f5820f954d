"""A frozen copy of a model that answers alike, and faster; and which shortcuts pay on a device."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, cast
from weakref import ref

from robustbench_pcl.environment import computes_bfloat16
from robustbench_pcl.lazy import LazyModule, nn, torch

if TYPE_CHECKING:
    from torch import Tensor, fx

    from robustbench_pcl.models import plain
else:
    plain = LazyModule("robustbench_pcl.models.plain")

Precision = Literal["float32", "bfloat16"]
FASTER = 1.1
"""A compiled model stays if it is so many times as fast: on processors it seldom is."""


class Kind(NamedTuple):
    """Of a fast model: the precision of its convolutions, and the layout of images in between."""

    precision: Precision
    channels_last: bool


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
        compared: of every image, the fast model's last answer is compared with the reference
            model's; if not, of a few images alone, before the first step.
    """

    folded: bool = False
    precision: Precision = "float32"
    early_stop: bool = False
    compiled: bool = False
    compared: bool = True

    def tried(self) -> Iterator[Kind]:
        """Kinds of a fast model, the quickest first."""
        precisions: tuple[Precision, ...] = ("bfloat16", "float32")
        for precision in precisions[precisions.index(self.precision) :]:
            yield Kind(precision, channels_last=True)
            yield Kind(precision, channels_last=False)  # for a head that says x.view(len(x), -1)


EXACT = Shortcuts()
"""The reference model, all steps for every image."""


def shortcuts_for(device: torch.device) -> Shortcuts:
    """What pays on a device without leaving out steps; bfloat16 only where it is native."""
    precision: Precision = "bfloat16" if computes_bfloat16(device) else "float32"
    return Shortcuts(folded=True, precision=precision, compiled=True)


class NotFollowedError(Exception):
    """A forward pass whose structure torch.fx cannot tell: it may be another for each image."""


class FastModel:
    """A model's copy in eval mode whose parameters need no gradient.

    Batch normalisation is folded into convolutions; a PReLU of one slope is a leaky ReLU, whose
    backward pass makes no gradient of the slope; channels come last. In bfloat16, convolutions
    take and give bfloat16, and fully connected layers float32: features and logits are not
    rounded on top. The copy runs the model's own code; only its parts are others.

    Attributes:
        model: the copy.
        exact: it does the very operations of the model, with the same numbers.

    Args:
        model: left as it is; in eval mode.
        kind: of copy.

    Raises:
        NotFollowedError: what follows what cannot be told.
    """

    def __init__(self, model: nn.Module, kind: Kind) -> None:
        layout = torch.channels_last if kind.channels_last else torch.contiguous_format
        weights = [value for value in model.parameters() if value.ndim == 4]
        laid_out = all(value.is_contiguous(memory_format=layout) for value in weights)
        self.model = copy.deepcopy(model).eval()
        self._structure = structure(model)
        self._parts = [ref(each) for each in _parts(model)]
        self._pairs = conv_norm_pairs(self.model)
        # Only in the same layout are sums in the same order.
        self.exact = not self._pairs and kind.precision == "float32" and laid_out
        copies = dict(self.model.named_modules())
        self._slopes = [name for name, module in copies.items() if _has_one_slope(module)]
        # The copy's layers change their class, so that they do under each name that they have.
        for norm in self._pairs.values():
            copies[norm].__class__ = nn.Identity
        for name in self._slopes:
            copies[name].__class__, copies[name].inplace = nn.LeakyReLU, False
        for conv in self._pairs:
            # New ones, not written into: the old ones may be another layer's as well.
            weight = cast("Tensor", copies[conv].weight).detach().clone()
            copies[conv].weight = nn.Parameter(weight)
            copies[conv].bias = nn.Parameter(weight.new_zeros(len(weight)))
        self._fold(model)
        self.model.requires_grad_(False).to(memory_format=layout)
        if kind.precision == "bfloat16":
            for module in self.model.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(torch.bfloat16)
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.register_forward_pre_hook(_in_own_precision)

    def follow(self, model: nn.Module) -> bool:
        """Take the model's present weights; False if its parts are not those that were copied."""
        alive = all(part() is not None for part in self._parts)  # else an id may be another's now
        if not alive or structure(model) != self._structure:
            return False
        copies, folded = dict(self.model.named_modules()), {*self._pairs, *self._pairs.values()}
        with torch.no_grad():
            for name, own in model.named_modules():
                for kind in ("_parameters", "_buffers") if name not in folded else ():
                    for key, value in getattr(own, kind).items():
                        if value is not None:
                            getattr(copies[name], kind)[key].copy_(value)
        self._fold(model)
        return True

    def _fold(self, model: nn.Module) -> None:
        """Write the weights and slopes that the copy has instead of the model's."""
        own, copies = dict(model.named_modules()), dict(self.model.named_modules())
        for conv, norm in self._pairs.items():
            source, after = cast("nn.Conv2d", own[conv]), cast("nn.BatchNorm2d", own[norm])
            mean, variance = cast("Tensor", after.running_mean), cast("Tensor", after.running_var)
            weight, bias = nn.utils.fuse_conv_bn_weights(
                source.weight, source.bias, mean, variance, after.eps, after.weight, after.bias
            )
            cast("Tensor", copies[conv].weight).data.copy_(weight.data)
            cast("Tensor", copies[conv].bias).data.copy_(bias.data)
        for name in self._slopes:
            copies[name].negative_slope = float(cast("Tensor", own[name].weight).detach())


def structure(model: nn.Module) -> list[object]:
    """What a copy is built from, beside numbers in tensors: which parts, their settings, hooks."""
    plain_values = bool | int | float | str | None
    return [
        *(
            (id(part), *(getattr(part, key, None) for key in ("dtype", "device", "shape")))
            for part in _parts(model)
        ),
        *(
            (name, key, value)
            for name, module in model.named_modules()
            for key, value in (("hooked", _hooked(module)), *vars(module).items())
            if isinstance(value, plain_values)
            or (isinstance(value, tuple) and all(isinstance(each, plain_values) for each in value))
        ),
    ]


def _parts(model: nn.Module) -> Iterator[nn.Module | Tensor]:
    """Its modules, and what tensors each of them holds, also where they share one."""
    for module in model.modules():
        yield module
        yield from (value for value in module._parameters.values() if value is not None)
        yield from (value for value in module._buffers.values() if value is not None)


def conv_norm_pairs(model: nn.Module) -> dict[str, str]:
    """Which batch normalisation takes which convolution's output, by their names.

    Only where nothing else takes that output, neither of the two is used again, and nobody looks
    at their weights or has hung a hook on them. torch.fx follows the forward pass into the modules
    that hold a convolution or batch normalisation; what the others do inside does not matter.

    Args:
        model: in eval mode; torch.fx runs its code.

    Raises:
        NotFollowedError: torch.fx cannot tell.
    """
    foldable = (nn.Conv2d, nn.BatchNorm2d)
    opened = {
        module
        for module in model.modules()
        if not isinstance(module, foldable)
        and any(isinstance(part, foldable) for part in module.modules())
    }
    tracer = torch.fx.Tracer()
    tracer.is_leaf_module = lambda m, module_qualified_name: m not in opened  # type: ignore[method-assign] # noqa: ARG005
    try:
        graph = tracer.trace(model)
    except Exception as error:  # whatever the model's own code makes of a proxy
        words = str(error).splitlines() or [""]
        raise NotFollowedError(
            f"its structure cannot be told, it may differ from image to image "
            f"({type(error).__name__}: {words[0][:120]})"
        ) from error
    parts = dict(model.named_modules(remove_duplicate=False))
    uses = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}

    def alone(node: fx.Node, kind: type[nn.Module]) -> bool:
        """It is a plain layer of that kind, used once, of which only the output is used."""
        name = str(node.target)
        return (
            node.op == "call_module"
            and type(parts[name]) is kind
            and not _hooked(parts[name])
            and uses[name] == 1
            and name not in read
        )

    pairs, passed_on = {}, (nn.Identity, nn.Dropout)  # in eval mode
    for node in graph.nodes:
        if not alone(node, nn.BatchNorm2d) or parts[str(node.target)].running_var is None:
            continue
        source = node.all_input_nodes[0]
        while type(parts.get(source.target)) in passed_on and len(source.users) == 1:
            source = source.all_input_nodes[0]
        if alone(source, nn.Conv2d) and len(source.users) == 1:
            pairs[str(source.target)] = str(node.target)
    return pairs


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
    except Exception:  # no compiler, or a model that is none for it: nothing is lost but speed
        return None
    seconds = []
    for each in (compiled, model):
        began = time.perf_counter()
        run(each)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return compiled if seconds[0] * FASTER < seconds[1] else None


def _has_one_slope(module: nn.Module) -> bool:
    """It is a plain PReLU of one slope, PyTorch's or the package's own."""
    plain_prelu = type(module) in (nn.PReLU, plain.PReLU)
    return plain_prelu and cast("nn.PReLU", module).num_parameters == 1 and not _hooked(module)


def _hooked(module: nn.Module) -> bool:
    """Somebody has hung a hook on it, or given it a forward pass of its own."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks) or "forward" in vars(module)


def _in_own_precision(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A layer's input in the precision of its weight."""
    return (given[0].to(cast("Tensor", layer.weight).dtype), *given[1:])
