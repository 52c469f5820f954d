"""Batch normalisation is folded where a copy stays the same function, and follows its model."""

import copy

import pytest
import torch
from attack_models import (
    IMAGES,
    MODELS,
    Aliased,
    case_of,
    difference,
    fast_of,
    filled,
    follows,
    normed_net,
)
from attack_toys import state_of
from torch import nn

from robustbench_pcl.attacks.fast_model import NotFollowedError, conv_norm_pairs

# Which batch normalisation is part of which convolution


class Named(nn.Module):
    """Parts whose names tell nothing, made in another order than they are used in."""

    def __init__(self) -> None:
        super().__init__()
        self.zebra = nn.BatchNorm2d(4)
        self.out = nn.Linear(4 * 36, 3)
        self.apple = nn.BatchNorm2d(4)
        self.table = nn.ModuleDict({"two": nn.Conv2d(4, 4, 3, padding=1)})
        self.first = nn.Conv2d(2, 4, 3, padding=1, bias=False)

    def forward(self, images):
        hidden = torch.tanh(self.apple(self.first(images)))
        return self.out(torch.tanh(self.zebra(self.table["two"](hidden))).flatten(1))


class Twice(nn.Module):
    """A convolution that is used twice, once with batch normalisation after it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.out = nn.Linear(72, 3)

    def forward(self, images):
        return self.out(self.norm(self.conv(torch.tanh(self.conv(images)))).flatten(1))


class TwoNorms(nn.Module):
    """One batch normalisation for two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm2d(2), nn.Linear(72, 3)
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))

    def forward(self, images):
        for conv in self.convs:
            images = torch.tanh(self.norm(conv(images)))
        return self.out(images.flatten(1))


class Elsewhere(nn.Module):
    """A convolution whose output also goes past the batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.out = nn.Linear(4 * 36, 3)

    def forward(self, images):
        hidden = self.conv(images)
        return self.out((torch.tanh(self.norm(hidden)) - 2 * torch.tanh(hidden)).flatten(1))


class ReadsPart(nn.Module):
    """A network that looks at the weight of a layer which might be folded away."""

    def __init__(self, part) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)
        self.part = part

    def forward(self, images):
        features = torch.tanh(self.norm(self.conv(images))).flatten(1)
        return self.out(features) * getattr(self, self.part).weight.mean()


class Sharing(nn.Module):
    """Two convolutions, each with batch normalisation, that have one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))
        self.two.weight = self.one.weight
        self.first, self.second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.out = nn.Linear(72, 3)

    def forward(self, images):
        hidden = torch.tanh(self.first(self.one(images)))
        return self.out(torch.tanh(self.second(self.two(hidden))).flatten(1))


def marked(part, hook):
    """A network with a hook on one of its layers, which changes what it gives."""
    model = after(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh())
    if hook == "forward":
        own, model[part].forward = model[part].forward, lambda images: own(2 * images)
    elif hook == "before":
        model[part].register_forward_pre_hook(lambda module, given: (2 * given[0],))
    else:
        model[part].register_forward_hook(lambda module, given, output: 2 * output)
    return model


def after(*layers, size=36):
    """Some layers, then the logits."""
    return filled(copy.deepcopy(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * size, 3))))


CONV, NORM = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
BOTTLENECK = {
    "0": "1",
    "3.conv1": "3.bn1",
    "3.conv2": "3.bn2",
    "3.conv3": "3.bn3",
    "3.downsample.0": "3.downsample.1",
}
PAIRS = {
    "in a sequence": (lambda: after(CONV, NORM, nn.Tanh()), {"0": "1"}),
    "without a bias": (lambda: after(nn.Conv2d(2, 4, 1, bias=False), NORM), {"0": "1"}),
    "without weights": (lambda: after(CONV, nn.BatchNorm2d(4, affine=False)), {"0": "1"}),
    "in groups, with a stride": (
        lambda: after(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), NORM, size=9),
        {"0": "1"},
    ),
    "under any name": (lambda: filled(Named()), {"first": "apple", "table.two": "zebra"}),
    "under two names": (lambda: filled(Aliased()), {"body.0": "norm"}),
    "with a nothing between": (lambda: after(CONV, nn.Identity(), nn.Dropout(), NORM), {"0": "3"}),
    "in a bottleneck": (normed_net, BOTTLENECK),
    "not a convolution that is used twice": (lambda: filled(Twice()), {}),
    "not a batch normalisation that is used twice": (lambda: filled(TwoNorms()), {}),
    "not one that keeps no statistics": (
        lambda: after(CONV, nn.BatchNorm2d(4, track_running_stats=False)),
        {},
    ),
    "not one that comes first": (lambda: after(nn.BatchNorm2d(2), CONV), {}),
    "not a transposed convolution": (
        lambda: after(nn.ConvTranspose2d(2, 4, 3, padding=1), NORM),
        {},
    ),
    "not with an activation between": (lambda: after(CONV, nn.Tanh(), NORM), {}),
    "not with one in place between": (lambda: after(CONV, nn.ReLU(inplace=True), NORM), {}),
    "not one whose convolution's output goes elsewhere": (lambda: filled(Elsewhere()), {}),
    "not one whose weight is read": (lambda: filled(ReadsPart("norm")), {}),
    "not into a convolution whose weight is read": (lambda: filled(ReadsPart("conv")), {}),
    "into each of two convolutions with one weight": (
        lambda: filled(Sharing()),
        {"one": "first", "two": "second"},
    ),
    **{
        f"not with {hook} on layer {part}": (lambda part=part, hook=hook: marked(part, hook), {})
        for part in (0, 1)
        for hook in ("a hook", "before", "forward")
    },
}


@pytest.mark.parametrize("case", PAIRS)
def test_batch_normalisation_is_folded_where_it_takes_a_convolution_s_output(case):
    make, expected = PAIRS[case]
    model = make().eval()
    before = state_of(model)
    assert conv_norm_pairs(model) == expected
    fast = fast_of(model)
    kinds = [type(module) for module in fast.model.modules()]
    assert (nn.BatchNorm2d in kinds) == (not expected)
    assert difference(model, fast) < 1e-12
    assert state_of(model) == before


class Branching(nn.Module):
    """A network that goes another way for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.body = after(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4))

    def forward(self, images):
        return self.body(images) if images.mean() > 0.5 else -self.body(images)


def test_what_may_differ_from_image_to_image_is_not_followed():
    model = Branching().eval()
    for call in (conv_norm_pairs, fast_of):
        with pytest.raises(NotFollowedError, match=r"may differ from image to image \(TraceError"):
            call(model)


@pytest.mark.parametrize("name", MODELS)
def test_a_fast_model_follows_the_weights_and_statistics_of_its_model(name):
    case = case_of(name)
    model = copy.deepcopy(case.model).eval()
    fast = fast_of(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.model.modules())
    assert difference(model, fast, case.images) < 1e-12
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.mul_(1 + 0.2 * torch.rand(value.shape, generator=source, dtype=value.dtype))
    assert difference(model, fast, case.images) > 1e-3
    assert follows(fast, model)
    assert difference(model, fast, case.images) < 1e-12


def new_weights(model):
    model[0].weight = nn.Parameter(model[0].weight.detach().flip(0))
    model[1].register_buffer("running_mean", model[1].running_mean + 0.3)
    model[3].bias = nn.Parameter(model[3].bias.detach() + 1)


def loaded(model):
    state = {name: value.flip(0) for name, value in model.state_dict().items() if value.ndim}
    model.load_state_dict(state, strict=False, assign=True)


def other_epsilon(model):
    model[1].eps = 0.3


def unlearnt(model):
    model.requires_grad_(False)
    model[0].weight.mul_(2)


def test_a_fast_model_follows_weights_that_learn_no_more():
    model = after(CONV, NORM).eval()
    fast = fast_of(model)
    unlearnt(model)
    assert difference(model, fast) > 1e-3
    assert follows(fast, model)
    assert difference(model, fast) < 1e-12


def hooked(model):
    model[1].register_forward_hook(lambda module, given, output: 2 * output)


def other_norm(model):
    model[1] = nn.BatchNorm2d(4).double()


def no_bias(model):
    model[0].bias = None


def other_head(model):
    model[3].weight = nn.Parameter(torch.cat([model[3].weight.detach()] * 2))


CHANGES = {
    "another layer in its place": other_norm,
    "a layer more": lambda model: model.append(nn.Tanh()),
    "a layer less": lambda model: model.pop(1),
    "a hook": hooked,
    "a forward pass of its own": lambda model: setattr(model[1], "forward", torch.tanh),
    "a bias less": no_bias,
    "a buffer more": lambda model: model.register_buffer("more", torch.zeros(2)),
    "another shape": other_head,
    "another precision": lambda model: model.float(),
    "other tensors": new_weights,
    "other tensors, loaded": loaded,
    "another epsilon": other_epsilon,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fast_model_does_not_follow_a_model_of_other_parts(change):
    model = after(CONV, NORM).eval()
    fast = fast_of(model)
    logits = fast.model(IMAGES)
    assert follows(fast, model)
    CHANGES[change](model)
    assert not follows(fast, model)
    assert torch.equal(fast.model(IMAGES), logits)
    model.eval()


def test_a_fast_model_does_not_follow_another_model():
    model = after(CONV, NORM).eval()
    assert not follows(fast_of(model), copy.deepcopy(model))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Linear(72, 72).double() for _ in range(2))
        self.two.weight = self.one.weight

    def forward(self, images):
        return self.two(torch.tanh(self.one(images.flatten(1))))


def untied(model):
    model.two.weight = nn.Parameter(model.one.weight.detach().flip(0))


def wider(model):
    model[0].dilation = model[0].padding = (2, 2)


def held(model):
    """Other tensors, while somebody, an optimiser for one, goes on holding the old ones."""
    model.held = list(model.parameters())
    loaded(model)


@pytest.mark.parametrize(
    ("make", "change"),
    [
        pytest.param(Tied, untied, id="a weight that is no longer shared"),
        pytest.param(lambda: after(CONV, NORM), held, id="tensors that live on"),
        pytest.param(lambda: after(CONV, NORM), wider, id="a convolution's dilation"),
    ],
)
def test_a_fast_model_that_follows_answers_as_its_model_does(make, change):
    model = make().eval()
    fast = fast_of(model)
    change(model)
    assert not follows(fast, model) or difference(model, fast) < 1e-12
