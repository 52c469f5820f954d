"""Models that go wrong, or might: ``zoo_odd`` says what is expected of attacking each."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_architectures import CLASSES, Applied, conv3, normed, plain, settled

Rule = Callable[[Applied, Tensor], Tensor]


def simple(change: Callable[[nn.Module], object] = id) -> nn.Module:
    """What most of these are made from, a sequence; changed in place once it is settled."""
    model = settled(lambda: plain(normed(12, 12)))
    change(model)
    return model


def around(rule: Rule, **parts: nn.Module) -> nn.Module:
    """The plain network as ``model``, and a rule that says what is done with it."""
    model = Applied(rule, model=simple(), **parts).eval()
    model.calls, model.threshold = 0, 0.5
    return model


# Control flow


def spread(images: Tensor) -> Tensor:
    """How much contrast each image has, (N,): 0.31 to 0.44, half of them more than 0.396."""
    return images.flatten(1).std(dim=1)


def hard(features: Tensor) -> Tensor:
    """Of which images the features are strong, boolean (N,): about half of them."""
    return features.flatten(1).mean(dim=1) > 0.46


def early(self: Applied, images: Tensor) -> Tensor:
    """Who is sure leaves early; if all are, nothing else is computed."""
    features = self.model[0](images)
    logits = 2 * self.model[2](features)
    unsure = logits.softmax(dim=1).amax(dim=1) < 0.97
    if not unsure.any():
        return logits
    return torch.where(unsure[:, None], self.model[2](self.model[1](features)), logits)


def early_by_mask(self: Applied, images: Tensor) -> Tensor:
    """Who is sure is left out of what comes next."""
    features = self.model[0](images)
    logits = self.model[2](features).clone()
    unsure = logits.softmax(dim=1).amax(dim=1) < 0.97
    if unsure.any():
        logits[unsure] = self.model[2](self.model[1](features[unsure]))
    return logits


def by_batch(self: Applied, images: Tensor) -> Tensor:
    """If one image is hard, none leaves early: an image's class hangs on the others."""
    logits = self.model(images)
    return logits if bool((spread(images) > 0.396).any()) else logits.flip(1)


def gated(self: Applied, images: Tensor) -> Tensor:
    features = self.model[0](images)
    gate = features.mean(dim=(2, 3), keepdim=True) > self.threshold
    return self.model[2](self.model[1](features * gate))


def routed(self: Applied, images: Tensor) -> Tensor:
    """The hard images go through the block a second time."""
    features = self.model[1](self.model[0](images))
    again = hard(features)
    found = features.clone()
    if again.any():
        found[again] = self.model[1](features[again])
    return self.model[2](found)


def thresholded(self: Applied, images: Tensor) -> Tensor:
    """A plain attribute decides which features count."""
    features = self.model[1](self.model[0](images))
    return self.model[2](features * (features > self.threshold))


# In place


def dimmed(self: Applied, images: Tensor) -> Tensor:
    return self.model(images.mul_(0.9))


def dimmed_without_grad(self: Applied, images: Tensor) -> Tensor:
    images = images * 0.9 if torch.is_grad_enabled() else images.mul_(0.9)
    return self.model(images)


def dimmed_where_no_grad_is_asked(self: Applied, images: Tensor) -> Tensor:
    images = images * 0.9 if images.requires_grad else images.mul_(0.9)
    return self.model(images)


# Hooks


def brighter(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    return 1.3 * output + 0.1


def rotated(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    return output.roll(1, dims=1)


def darker(module: nn.Module, args: tuple[Tensor]) -> Tensor:
    return 0.8 * args[0]


def weaker_backward(module: nn.Module, args: tuple[Tensor], made: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0] * torch.linspace(-1, 2, 8).to(args[0]),)


def tensor_hook(self: Applied, images: Tensor) -> Tensor:
    """The gradient is changed on its way back: columns on the left have the wrong sign."""
    features = self.model[0](images)
    if features.requires_grad:
        features.register_hook(lambda slope: slope * torch.linspace(-1, 2, 8).to(slope))
    return self.model[2](self.model[1](features))


class Normed(nn.Module):
    """A weight made anew before each pass, by a hook of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = plain(normed(12, 12))
        conv = self.body[1][0]
        self.long = nn.Parameter(conv.weight.detach().clone())
        del conv._parameters["weight"]
        conv.weight = self.long.detach()
        conv.register_forward_pre_hook(self.make)

    def make(self, conv: nn.Module, args: tuple[Tensor]) -> None:
        conv.weight = 2 * self.long / self.long.norm()

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def transposed() -> nn.Module:
    """Two layers of one matrix, once as it is and once on its side."""

    def rule(self: Applied, images: Tensor) -> Tensor:
        hidden = torch.relu(self.flat(images.flatten(1)))
        return self.out(torch.tanh(F.linear(hidden, self.flat.weight.t())))

    def build() -> nn.Module:
        return Applied(rule, flat=nn.Linear(768, 24), out=nn.Linear(768, CLASSES))

    return settled(build)


# Randomness, and what hangs on the batch


def noisy(self: Applied, images: Tensor) -> Tensor:
    return self.model(images + 0.05 * torch.randn_like(images))


def dropping(self: Applied, images: Tensor) -> Tensor:
    return self.model[2](F.dropout(self.model[1](self.model[0](images)), 0.3, training=True))


def counting(self: Applied, images: Tensor) -> Tensor:
    self.calls += 1
    return self.model(images).roll(self.calls, dims=1)


def of_batch() -> nn.Module:
    norm = nn.BatchNorm2d(12, track_running_stats=False)
    return settled(lambda: plain(conv3(12, 12), norm, nn.ReLU()))


class Stubborn(nn.Sequential):
    """In train mode, whatever it is told."""

    def train(self, mode: bool = True) -> "Stubborn":
        return super().train(True)


def stubborn(*layers: nn.Module) -> nn.Module:
    return Stubborn(*simple()[:2], *layers, simple()[2]).train()


# Numbers


def from_roots(self: Applied, images: Tensor) -> Tensor:
    """The slope of a root is infinite at a black pixel."""
    return self.model(images.sqrt())


def not_finite_somewhere(self: Applied, images: Tensor) -> Tensor:
    return self.model(images) + (0.43 - spread(images)).sqrt()[:, None]


MOVED = 0.002


def not_finite_when_moved(self: Applied, images: Tensor) -> Tensor:
    """The largest logit is no number once two pixels have moved up; clean, they are ``pinned``.

    The largest of some values is NaN, says torch, if one is: such images seem to keep their class.
    """
    logits = self.model(images)
    moved = images[:, 0, 0, :2].amin(dim=1) > 0.5 + MOVED
    largest = F.one_hot(logits.argmax(dim=1), CLASSES).bool()
    return logits.masked_fill(moved[:, None] & largest, torch.nan)


def no_slope_somewhere(self: Applied, images: Tensor) -> Tensor:
    """The logits are finite; the gradient is 0 times infinity for images of little contrast."""
    more = spread(images) - 0.36
    much = (more * (more > 0)).sqrt()
    return self.model(images) + much[:, None] * torch.arange(CLASSES).to(much)


def fresh(model: nn.Module) -> nn.Module:
    """Frozen in part, in train mode in part, with gradients of somebody's own."""
    for index, value in enumerate(model.parameters()):
        value.requires_grad_(index % 2 == 0)
        if index % 3 == 0:
            value.grad = torch.ones_like(value)
    return model


def in_train_mode() -> nn.Module:
    return settled(lambda: plain(normed(12, 12), nn.Dropout(0.3))).train()


def lazy() -> nn.Module:
    layers = (nn.LazyConv2d(12, 3, 2), nn.LazyBatchNorm2d(), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    return settled(lambda: nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(CLASSES)))


def for_larger() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES)).eval()


def two_classes() -> nn.Module:
    pool = (nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return settled(lambda: nn.Sequential(normed(3, 12, stride=2), *pool, nn.Linear(48, 2)))


def whole(self: Applied, images: Tensor) -> Tensor:
    return self.model(images)


def one_hot(self: Applied, images: Tensor) -> Tensor:
    return F.one_hot(self.model(images).argmax(dim=1), CLASSES).float()


def constant(self: Applied, images: Tensor) -> Tensor:
    """Has a gradient: zero."""
    return images.mean(dim=(1, 2, 3))[:, None] * 0 + torch.arange(CLASSES, 0, -1).to(images)
