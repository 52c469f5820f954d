"""A frozen copy of a model that answers alike, and faster."""

from __future__ import annotations

import copy
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robustbench_pcl.engine.folding import conv_norm_pairs, folded
from robustbench_pcl.engine.shortcuts import Precision


class Twin:
    """A model's copy in eval mode whose parameters need no gradient.

    Batch normalisation is folded into convolutions; a PReLU of one slope is a leaky ReLU, whose
    backward pass makes no gradient of the slope; channels come last. In bfloat16, convolutions
    take and give bfloat16, and fully connected layers float32: features and logits are not
    rounded on top.

    Attributes:
        model: the copy.
        precision: of its convolutions.
        parts: of the model when the copy was made.
        plain: it does the very operations of the model, with the same numbers.

    Args:
        model: left as it is; in eval mode.
        images: a few, (N, C, H, W), to find out what follows what.
        precision: of the convolutions.
    """

    def __init__(self, model: nn.Module, images: Tensor, precision: Precision = "float32") -> None:
        own = dict(model.named_modules())
        pairs = conv_norm_pairs(model, images)
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        twins = dict(self.model.named_modules())
        self._convolutions = [(twins[conv], own[conv], own[norm]) for conv, norm in pairs.items()]
        self.precision = precision
        self.parts = parts_of(model)
        self.plain = not pairs and precision == "float32" and _channels_last(model)
        self._slopes: list[tuple[nn.LeakyReLU, nn.PReLU]] = []
        for name, module in own.items():
            if name in pairs.values():
                _replace(self.model, twins[name], nn.Identity())
            elif name in pairs and module.bias is None:
                twins[name].bias = nn.Parameter(torch.zeros(len(module.weight)).to(module.weight))
            elif isinstance(module, nn.PReLU) and module.num_parameters == 1:
                leaky = nn.LeakyReLU()
                self._slopes.append((leaky, module))
                _replace(self.model, twins[name], leaky)
        self.model.requires_grad_(False).to(memory_format=torch.channels_last)
        taken = {id(conv) for conv, _, _ in self._convolutions}
        left = dict(self.model.named_modules())
        self._copied = [
            (value, source)
            for name, module in left.items()
            if type(module) is type(own.get(name, self)) and id(module) not in taken
            for value, source in zip(_tensors(module), _tensors(own[name]), strict=True)
        ]
        if precision == "bfloat16":
            _reduce(self.model)
        self.model.eval()
        self.refresh()

    def refresh(self) -> None:
        """Take the model's present weights."""
        with torch.no_grad():
            for value, source in self._copied:
                value.copy_(source)
            for twin, conv, norm in self._convolutions:
                weight, bias = folded(conv, norm)
                twin.weight.copy_(weight)
                twin.bias.copy_(bias)
            for leaky, prelu in self._slopes:
                leaky.negative_slope = float(prelu.weight)


_TWINS: WeakKeyDictionary[nn.Module, dict[Precision, Twin]] = WeakKeyDictionary()
"""As long as their models are there: a model is attacked by several attacks, or in every step of
its training, and copying it anew would take longer than some of them."""


def twin_of(model: nn.Module, images: Tensor, precision: Precision) -> Twin:
    """The model's twin with its present weights.

    Args:
        model: in eval mode.
        images: a few, (N, C, H, W).
        precision: of the convolutions.
    """
    known = _TWINS.setdefault(model, {})
    if precision in known and known[precision].parts == parts_of(model):
        known[precision].refresh()
    else:
        known[precision] = Twin(model, images, precision)
    return known[precision]


def parts_of(model: nn.Module) -> list[object]:
    """What a twin is built from: the same as long as only weights change."""
    tensors = [(value.device, value.dtype) for value in model.parameters()]
    return [*((name, id(module)) for name, module in model.named_modules()), *tensors]


class OwnPrecision(nn.Module):
    """A layer that takes its input in the precision of its weight."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """The layer's output, in its weight's precision."""
        output: Tensor = self.layer(features.to(self.layer.weight.dtype))
        return output


def _reduce(model: nn.Module) -> None:
    """Put convolutions in bfloat16, and let each layer see to the precision of its input."""
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            if isinstance(module, nn.Conv2d):
                module.to(torch.bfloat16)
            _replace(model, module, OwnPrecision(module))


def _channels_last(model: nn.Module) -> bool:
    """Whether convolutions are laid out already as the twin's are: then they sum in one order."""
    weights = [value for value in model.parameters() if value.ndim == 4]
    return all(value.is_contiguous(memory_format=torch.channels_last) for value in weights)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in another's place, under each of the names that it has."""
    for parent in list(model.modules()):
        for name in [name for name, child in parent._modules.items() if child is old]:
            setattr(parent, name, new)


def _tensors(module: nn.Module) -> list[Tensor]:
    """A module's own parameters and buffers, without those of its parts."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]
