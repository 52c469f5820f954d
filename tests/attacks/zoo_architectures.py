"""Architectures that people bring, each so small that a pass takes milliseconds on one core."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from attack_toys import generator
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.shufflenetv2 import InvertedResidual as Shuffled

CLASSES, SHAPE = 5, (3, 16, 16)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)

spectral = parametrizations.spectral_norm
conv3 = partial(nn.Conv2d, kernel_size=3, padding=1)


def pictures(count: int = 24, seed: int = 5) -> Tensor:
    """Smooth images, float32 (count, 3, 16, 16); some of their pixels are quite black or white."""
    source = generator(seed)
    coarse = torch.rand((count, 3, 4, 4), generator=source)
    contrast = 1 + torch.rand((count, 1, 1, 1), generator=source)
    noise = 0.2 * torch.rand((count, *SHAPE), generator=source) - 0.1
    smooth = F.interpolate(coarse, size=SHAPE[1:], mode="bilinear", align_corners=False)
    return ((smooth - 0.5) * 2 * contrast + 0.5 + noise).clamp(0, 1)


def settled(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A model that might have been trained: the same each time, undecided on the whole.

    Batch normalisation has nearly the statistics of pictures, and no affine map is the identity.
    The last layer of five outputs is scaled so that logits spread by several units.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model, images, source = build(), pictures(64, seed=9), generator(seed + 1)
        norms = [module for module in model.modules() if isinstance(module, NORMS)]
        for norm in norms:
            if norm.weight is not None:
                norm.weight.copy_(0.7 + 0.6 * torch.rand(norm.weight.shape, generator=source))
                norm.bias.copy_(0.6 * torch.rand(norm.bias.shape, generator=source) - 0.3)
        kept = [norm for norm in norms if getattr(norm, "running_mean", None) is not None]
        before = [norm.momentum for norm in kept]
        for norm in kept:
            norm.momentum = None
        model.train()(images)
        for norm, momentum in zip(kept, before, strict=True):
            norm.momentum = momentum
            shift = torch.rand(norm.running_mean.shape, generator=source) - 0.5
            norm.running_mean += 0.4 * shift * norm.running_var.sqrt()
            norm.running_var *= 0.7 + 0.6 * torch.rand(norm.running_var.shape, generator=source)
        logits = model.eval()(images)
        last = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        last = [layer for layer in last if len(layer.weight) == logits.shape[1]][-1]
        size = 3 / logits.std(dim=0)
        last.weight.mul_(size.view(-1, *[1] * (last.weight.ndim - 1)))
        last.bias.copy_((last.bias - logits.mean(dim=0)) * size)
    return model


class Sum(nn.Module):
    """Branches, added."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, images: Tensor) -> Tensor:
        return sum(branch(images) for branch in self.branches)


class Joined(Sum):
    """Branches, one behind the other as channels."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([branch(images) for branch in self.branches], dim=1)


class InPlace(Sum):
    """Two branches, the second added to the first in place."""

    def forward(self, images: Tensor) -> Tensor:
        first, second = self.branches
        found = first(images)
        found += second(images)
        return found


class Applied(nn.Module):
    """Parts by name, and a function that says what is done with them and the images."""

    def __init__(self, rule: Callable[["Applied", Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.rule = rule
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images: Tensor) -> Tensor:
        return self.rule(self, images)


def normed(
    given: int, made: int, act: Callable[[], nn.Module] = nn.ReLU, **changes: Any
) -> nn.Module:
    """A convolution, its batch normalisation and an activation."""
    layer = conv3(given, made, **{"bias": False, **changes})
    return nn.Sequential(layer, nn.BatchNorm2d(made), act())


def head(width: int, side: int = 2) -> nn.Sequential:
    pool = nn.AdaptiveAvgPool2d(side)
    return nn.Sequential(pool, nn.Flatten(), nn.Linear(width * side**2, CLASSES))


def plain(*layers: nn.Module, width: int = 12) -> nn.Sequential:
    """Layers of 12 channels between a stem and a head."""
    return nn.Sequential(normed(3, 12, stride=2), *layers, head(width))


def before(given: int, made: int, stride: int = 1, dropout: float = 0.0) -> nn.Module:
    """A block with pre-activation; its shortcut takes what its batch normalisation takes."""
    short = nn.Identity() if given == made else nn.Conv2d(given, made, 1, stride, bias=False)
    first = (nn.BatchNorm2d(given), nn.ReLU(), conv3(given, made, stride=stride, bias=False))
    second = (nn.BatchNorm2d(made), nn.ReLU(), nn.Dropout(dropout), conv3(made, made))
    return Sum(short, nn.Sequential(*first, *second))


def pre_activation(width: int = 8, dropout: float = 0.0) -> nn.Module:
    wide = 2 * width
    blocks = (before(width, width, dropout=dropout), before(width, wide, 2, dropout=dropout))
    return nn.Sequential(conv3(3, width), *blocks, nn.BatchNorm2d(wide), nn.ReLU(), head(wide))


def post_activation() -> nn.Module:
    def body() -> nn.Module:
        return nn.Sequential(normed(12, 12), normed(12, 12, nn.Identity))

    return plain(*(nn.Sequential(Sum(nn.Identity(), body()), nn.ReLU()) for _ in range(2)))


def torchvision_resnet(block: Callable[..., nn.Module], out: int) -> nn.Module:
    short = nn.Sequential(nn.Conv2d(12, out, 1, 2, bias=False), nn.BatchNorm2d(out))
    width = 16 if block is BasicBlock else out // 4
    return plain(block(12, width, 2, short), block(out, width), width=out)


def dense() -> nn.Module:
    def layer(given: int) -> nn.Module:
        own = (nn.BatchNorm2d(given), nn.ReLU(), conv3(given, 6, bias=False))
        return Joined(nn.Identity(), nn.Sequential(*own))

    return nn.Sequential(conv3(3, 8, stride=2), layer(8), layer(14), nn.ReLU(), head(20))


def vgg() -> nn.Module:
    act = partial(nn.ReLU, inplace=True)
    body = (normed(3, 12, act, bias=True), nn.MaxPool2d(2), normed(12, 16, act), nn.MaxPool2d(2))
    ends = (nn.Flatten(), nn.Linear(256, 32), nn.ReLU(inplace=True), nn.Dropout())
    return nn.Sequential(*body, *ends, nn.Linear(32, CLASSES))


def with_norm(norm: Callable[[int], nn.Module]) -> nn.Module:
    """Normalisation of another kind, which keeps no statistics of its own."""
    layers = (conv3(3, 12, stride=2), norm(12), nn.ReLU(), conv3(12, 12), norm(12), nn.ReLU())
    return nn.Sequential(*layers, head(12))


class Last(nn.LayerNorm):
    """Of the channels, wherever they are."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    deep = nn.Conv2d(12, 12, 7, padding=3, groups=12)
    body = (deep, Last(12), nn.Conv2d(12, 48, 1), nn.GELU(), nn.Conv2d(48, 12, 1))
    block = Sum(nn.Identity(), nn.Sequential(*body))
    return nn.Sequential(nn.Conv2d(3, 12, 2, 2), Last(12), block, Last(12), head(12))


def squeeze_excite() -> nn.Module:
    gate = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1), nn.Sigmoid()
    )
    body = normed(12, 12, nn.Identity)

    def rule(self: Applied, images: Tensor) -> Tensor:
        found = self.body(images)
        return torch.relu(images + found * self.gate(found))

    return plain(Applied(rule, body=body, gate=gate))


def mobile() -> nn.Module:
    blocks = (InvertedResidual(12, 12, 1, 2), InvertedResidual(12, 16, 2, 3))
    return plain(*blocks, width=16)


def inception() -> nn.Module:
    pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), normed(12, 4, kernel_size=1, padding=0))
    narrow = nn.Sequential(normed(12, 6, kernel_size=1, padding=0), normed(6, 6))
    return plain(Joined(normed(12, 6, kernel_size=1, padding=0), narrow, pooled), width=16)


class Vit(nn.Module):
    """Patches, a class token, positions, and two of torch's own encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 24))
        self.position = nn.Parameter(0.3 * torch.randn(1, 17, 24))
        self.encoder = nn.Sequential(
            *(nn.TransformerEncoderLayer(24, 4, 48, batch_first=True) for _ in range(2))
        )
        self.norm, self.out = nn.LayerNorm(24), nn.Linear(24, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), tokens], dim=1)
        return self.out(self.norm(self.encoder(tokens + self.position)[:, 0]))


def mlp(norm: bool = False) -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(768, 24), *[nn.BatchNorm1d(24)] * norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, CLASSES))


class Crossed(nn.Sequential):
    """Layers over the other axis."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens.transpose(1, 2)).transpose(1, 2)


def mixer() -> nn.Module:
    def both(size: int) -> tuple[nn.Module, ...]:
        return nn.LayerNorm(size), nn.Linear(size, 32), nn.GELU(), nn.Linear(32, size)

    mixed = (Sum(nn.Identity(), nn.Sequential(*both(16))), Sum(nn.Identity(), Crossed(*both(24))))
    ends = (nn.Flatten(), nn.Linear(16 * 24, CLASSES))
    return nn.Sequential(nn.Conv2d(3, 24, 4, 4), nn.Flatten(2), *mixed, *ends)


def unet() -> nn.Module:
    up = (nn.ConvTranspose2d(12, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
    inner = nn.Sequential(normed(8, 12, stride=2), normed(12, 12), *up)
    return nn.Sequential(normed(3, 8), Joined(nn.Identity(), inner), normed(16, 8), head(8))


def weight_normed(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = settled(lambda: plain(normed(12, 12, bias=True), normed(12, 12)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old one is deprecated
        for block in model[1], model[2]:
            wrap(block[0])
    return model


def tied() -> nn.Module:
    """One weight in two convolutions, each with a batch normalisation of its own."""
    model = plain(normed(12, 12), normed(12, 12))
    model[2][0].weight = model[1][0].weight
    return model


def shared() -> nn.Module:
    """One convolution and its batch normalisation under two names, used under both."""
    block = normed(12, 12)
    return Applied(
        lambda self, images: self.out(self.second(self.first(self.stem(images)))),
        stem=normed(3, 12, stride=2),
        first=block,
        second=block,
        out=head(12),
    )


def viewed(view: Callable[[Tensor], Tensor]) -> nn.Module:
    body = nn.Sequential(normed(3, 12, stride=2), normed(12, 8), nn.AvgPool2d(2))
    out = nn.Linear(128, CLASSES)
    return Applied(lambda self, images: self.out(view(self.body(images))), body=body, out=out)


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        return torch.jit.script(settled(lambda: plain(normed(12, 12))))


class FunctionalNorm(nn.Module):
    """Batch normalisation by the function, with buffers under names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = conv3(3, 12), head(12)
        self.register_buffer("centre", 0.5 * torch.rand(12) - 0.2)
        self.register_buffer("spread", 0.2 + 0.3 * torch.rand(12))
        self.scale, self.shift = nn.Parameter(torch.rand(12) + 0.5), nn.Parameter(torch.rand(12))

    def forward(self, images: Tensor) -> Tensor:
        given = (self.centre, self.spread, self.scale, self.shift)
        return self.out(F.relu(F.batch_norm(self.conv(images), *given)))


class Normalised(nn.Module):
    """Pixels less their mean, by their deviation, then the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor([0.49, 0.48, 0.45]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.25, 0.24, 0.26]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std)


def in_place() -> nn.Module:
    branches = (normed(12, 12, nn.Identity), nn.MaxPool2d(3, 1, 1))
    return plain(InPlace(*branches), nn.ReLU(inplace=True))


def attended() -> nn.Module:
    """A convolution's output goes to its batch normalisation and to a map of attention."""

    def rule(self: Applied, images: Tensor) -> Tensor:
        hidden = self.conv(self.stem(images))
        return self.out(torch.relu(self.norm(hidden)) * torch.sigmoid(self.look(hidden)))

    parts = {"conv": conv3(12, 12), "norm": nn.BatchNorm2d(12), "look": nn.Conv2d(12, 1, 1)}
    return Applied(rule, stem=normed(3, 12, stride=2), **parts, out=head(12))


def reads_weight() -> nn.Module:
    """A weight that a batch normalisation would be folded into is read elsewhere."""

    def rule(self: Applied, images: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.conv(images)))
        return self.out(features * (1 + 0.1 * self.conv.weight.sum()))

    return Applied(rule, conv=conv3(3, 12), norm=nn.BatchNorm2d(12), out=head(12))


_ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "pre-activation resnet": pre_activation,
    "post-activation resnet": post_activation,
    "torchvision basic blocks": partial(torchvision_resnet, BasicBlock, 16),
    "torchvision bottlenecks": partial(torchvision_resnet, Bottleneck, 24),
    "wide resnet with dropout": partial(pre_activation, 12, 0.3),
    "densenet": dense,
    "vgg with relu in place": vgg,
    "group norm": partial(with_norm, partial(nn.GroupNorm, 3)),
    "instance norm": partial(with_norm, partial(nn.InstanceNorm2d, affine=True)),
    "convnext": convnext,
    "squeeze and excite": squeeze_excite,
    "mobilenet v2": mobile,
    "shufflenet": lambda: plain(Shuffled(12, 12, 1), Shuffled(12, 16, 2), width=16),
    "inception": inception,
    "vision transformer": Vit,
    "mlp": mlp,
    "mlp with batch norm": partial(mlp, norm=True),
    "mlp-mixer": mixer,
    "u-net": unet,
    "dilated": lambda: plain(*(normed(12, 12, dilation=by, padding=by) for by in (2, 3))),
    "prelu per channel": lambda: plain(normed(12, 12, partial(nn.PReLU, 12))),
    "prelu of one slope": lambda: plain(normed(12, 12, nn.PReLU)),
    "silu": lambda: plain(normed(12, 12, nn.SiLU), normed(12, 12, nn.GELU)),
    "spectral norm": lambda: plain(spectral(conv3(12, 12)), nn.BatchNorm2d(12), nn.ReLU()),
    "tied weights": tied,
    "shared module": shared,
    "batch norm without affine": lambda: plain(
        conv3(12, 12), nn.BatchNorm2d(12, affine=False), nn.ReLU()
    ),
    "view by size": partial(viewed, lambda values: values.view(values.size(0), -1)),
    "view by numbers": partial(viewed, lambda values: values.view(-1, 128)),
    "functional batch norm": FunctionalNorm,
    "normalised inside": lambda: Normalised(plain(normed(12, 12))),
    "added in place, max-pooled": in_place,
    "attention branch": attended,
    "reads a layer's weight": reads_weight,
}
ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(settled, build) for name, build in _ARCHITECTURES.items()},
    "weight norm": partial(weight_normed, parametrizations.weight_norm),
    "weight norm by hooks": partial(weight_normed, nn.utils.weight_norm),
    "scripted": scripted,
    "graph module": lambda: fx.symbolic_trace(settled(lambda: plain(normed(12, 12)))),
}
"""For images (3, 16, 16) in [0, 1], of five classes, in eval mode."""
