"""A model as a list of operations that can be bounded, read off its own code by torch.fx."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import fx, nn

from robustbench_pcl.certificates.affine import (
    Averaging,
    BatchNormalisation,
    Convolution,
    FullyConnected,
    Normalisation,
    Reshaping,
    Sum,
)
from robustbench_pcl.certificates.operations import Box, MaxPooling, Operation, Rectifier
from robustbench_pcl.models.classifier import GlobalAveragePool, Normalise
from robustbench_pcl.models.external import Logits
from robustbench_pcl.models.plain import PReLU


class NotSupportedError(Exception):
    """A model with a layer of which no bounds are known; the message says which."""


@dataclass(frozen=True)
class Layer:
    """An operation with its place in a network.

    Attributes:
        name: of the module or function that it is.
        operation: what it does.
        inputs: which values it takes: 0 for the images, i for layer i's output, from 1.
    """

    name: str
    operation: Operation
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """Layers in an order that works, the logits' last.

    They hold the model's own modules, so that they follow its weights.
    """

    layers: tuple[Layer, ...]

    def boxes(self, images: Box) -> list[Box]:
        """Interval bounds of every value, the images' box first; they can be differentiated.

        Gowal et al. 2018, Section 3.
        """
        values = [images]
        for layer in self.layers:
            values.append(layer.operation.box(*(values[index] for index in layer.inputs)))
        return values


def _convolution(module: nn.Conv2d) -> Operation:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ValueError("padding by something else than a number of zeros")
    return Convolution(module)


def _batch_normalisation(module: nn.BatchNorm2d) -> Operation:
    if module.running_var is None:
        raise ValueError("without running statistics, an image's answer depends on its batch")
    return BatchNormalisation(module)


def _max_pool(  # noqa: PLR0917 - as the function has them
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.MaxPool2d:
    """The module that does what the function does."""
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _flattening(start: int, end: int) -> Operation:
    if (start, end) != (1, -1):
        raise ValueError("only all of an image's numbers")
    return Reshaping(-1)


def _mean(dim: Any, keepdim: bool) -> Operation:
    if sorted(dim) not in ([2, 3], [-2, -1]) or keepdim:
        raise ValueError("only over all positions")
    return Averaging(GlobalAveragePool())


MODULES: dict[type[nn.Module], Callable[[Any], Operation | None]] = {
    nn.Conv2d: _convolution,
    nn.Linear: FullyConnected,
    nn.BatchNorm1d: _batch_normalisation,
    nn.BatchNorm2d: _batch_normalisation,
    Normalise: Normalisation,
    nn.ReLU: lambda _: Rectifier(0.0),
    nn.LeakyReLU: lambda module: Rectifier(module.negative_slope),
    nn.PReLU: Rectifier,
    PReLU: Rectifier,
    nn.MaxPool2d: MaxPooling,
    nn.AvgPool2d: Averaging,
    nn.AdaptiveAvgPool2d: Averaging,
    GlobalAveragePool: Averaging,
    nn.Flatten: lambda module: _flattening(module.start_dim, module.end_dim),
    nn.Identity: lambda _: None,
    nn.Dropout: lambda _: None,  # in eval mode
    nn.Dropout2d: lambda _: None,
}
"""What a module does, by its exact type: an operation, or nothing at all."""

FUNCTIONS: dict[Any, Callable[..., Operation | None]] = {
    F.relu: lambda inplace=False: Rectifier(0.0),  # noqa: ARG005
    torch.relu: lambda: Rectifier(0.0),
    "relu": lambda: Rectifier(0.0),
    F.leaky_relu: lambda slope=0.01, negative_slope=None, inplace=False: Rectifier(  # noqa: ARG005
        slope if negative_slope is None else negative_slope
    ),
    F.max_pool2d: lambda *given, **named: MaxPooling(_max_pool(*given, **named)),
    F.avg_pool2d: lambda *given, **named: Averaging(nn.AvgPool2d(*given, **named)),
    F.adaptive_avg_pool2d: lambda size: Averaging(nn.AdaptiveAvgPool2d(size)),
    torch.flatten: lambda start_dim=0, end_dim=-1: _flattening(start_dim, end_dim),
    "flatten": lambda start_dim=0, end_dim=-1: _flattening(start_dim, end_dim),
    torch.mean: lambda dim, keepdim=False: _mean(dim, keepdim),
    "mean": lambda dim, keepdim=False: _mean(dim, keepdim),
    "contiguous": lambda memory_format=None: None,  # noqa: ARG005
}
"""The same of functions and methods, with all arguments but the values."""
SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
RESHAPES = ("view", "reshape", torch.reshape)


class _Tracer(fx.Tracer):
    """Follows a model into all modules but those that are known."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """What is known here, or PyTorch's own."""
        return type(m) in MODULES or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """As all; logits that are all of what a model returns are that."""
        if type(m) is Logits and isinstance(args[0], fx.Proxy) and not m.output:
            return args[0]
        return super().call_module(m, forward, args, kwargs)


def network_of(model: nn.Module) -> Network:
    """Its operations from images (N, C, H, W) to logits.

    Args:
        model: torch.fx runs its code; it is left as it was.

    Raises:
        NotSupportedError: a layer is not known, or its code may do another thing for each image.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever the model's own code makes of a proxy
        words = str(error).splitlines() or [""]
        raise NotSupportedError(
            f"the model cannot be followed layer by layer ({type(error).__name__}: "
            f"{words[0][:120]})"
        ) from error
    modules = dict(model.named_modules(remove_duplicate=False))
    output = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(output, fx.Node):
        raise NotSupportedError("the model returns more than its logits")
    layers: list[Layer] = []
    places: dict[fx.Node, int] = {}
    for node in _behind(output, graph):
        if node.op == "placeholder":
            places[node] = 0
            continue
        operation, inputs = _read(node, modules)
        if not all(each in places for each in inputs):
            raise _unknown(node)
        if operation is None:
            places[node] = places[inputs[0]]
        else:
            layers.append(Layer(node.name, operation, tuple(places[each] for each in inputs)))
            places[node] = len(layers)
    if places[output] != len(layers):
        raise NotSupportedError("the model computes more than its logits")
    return Network(tuple(layers))


def _behind(output: fx.Node, graph: fx.Graph) -> list[fx.Node]:
    """The nodes whose values lead to the output, in order; not those of shapes and types."""
    needed = {output}
    for node in reversed(list(graph.nodes)):
        if node in needed:
            needed.update(_values(node))
    return [node for node in graph.nodes if node in needed]


def _values(node: fx.Node) -> tuple[fx.Node, ...]:
    """The nodes whose values it takes, without shapes and types."""
    count = 2 if node.target in SUMS else 1
    return tuple(each for each in node.args[:count] if isinstance(each, fx.Node))


def _read(
    node: fx.Node, modules: dict[str, nn.Module]
) -> tuple[Operation | None, tuple[fx.Node, ...]]:
    """What a node does, and to which values.

    Raises:
        NotSupportedError: that is not known.
    """
    values = _values(node)
    named = dict(node.kwargs)
    try:
        if node.op == "call_module":
            return MODULES[type(modules[str(node.target)])](modules[str(node.target)]), values
        if node.target in SUMS and len(values) == 2 and len(node.args) == 2 and not named:
            return Sum(), values
        if node.target in RESHAPES:
            return _reshaping(node), values
        if node.target == "to" and _keeps_precision(node):
            return None, values
        if node.op in ("call_function", "call_method") and len(values) == 1:
            return FUNCTIONS[node.target](*node.args[1:], **named), values
    except (KeyError, TypeError, ValueError) as error:  # not known, or not with these arguments
        raise _unknown(node, modules) from error
    raise _unknown(node, modules)


def _unknown(node: fx.Node, modules: dict[str, nn.Module] | None = None) -> NotSupportedError:
    name = getattr(node.target, "__name__", str(node.target))
    if node.op == "call_module" and modules:
        return NotSupportedError(f"layer {name} ({type(modules[name]).__name__}) is not supported")
    return NotSupportedError(f"the operation {name} is not supported")


def _reshaping(node: fx.Node) -> Operation:
    """Of ``x.view(x.size(0), -1)`` and ``x.view(-1, 512)``: each image's numbers stay together."""
    count, *shape = node.args[1:] if len(node.args) > 2 else cast("tuple[Any, ...]", node.args[1])
    if not (_is_count(count) or count == -1) or not all(isinstance(each, int) for each in shape):
        raise ValueError("other than by images")
    return Reshaping(*shape)


def _is_count(node: Any) -> bool:
    """``x.size(0)``, ``x.shape[0]`` or ``len(x)``."""
    if not isinstance(node, fx.Node):
        return False
    if node.target == "size":
        return bool(node.args[1:] == (0,))
    if node.target is operator.getitem and node.args[1] == 0:
        source = cast(fx.Node, node.args[0])
        if source.target is getattr:
            return bool(source.args[1] == "shape")
        return source.target == "size" and len(source.args) == 1
    return False


def _keeps_precision(node: fx.Node) -> bool:
    """``x.to(...)`` the type of an input, or a longer one."""
    target = node.args[1] if len(node.args) == 2 and not node.kwargs else None
    return isinstance(target, fx.Node) and target.target is torch.promote_types
