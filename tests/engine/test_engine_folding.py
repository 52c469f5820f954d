"""Which batch normalisations are part of a convolution, and that the numbers are the same then."""

import copy

import pytest
import torch
from attack_toys import careless, predictions, random_images, state_of
from engine_toys import MODELS, anywhere, case_of, filled, normed_net
from torch import nn

from robustbench_pcl.attacks import PGD
from robustbench_pcl.engine.folding import conv_norm_pairs, folded
from robustbench_pcl.engine.shortcuts import Shortcuts
from robustbench_pcl.engine.twin import Twin
from robustbench_pcl.evaluation.robustness import robustness

IMAGES = random_images(5, 2, 6, 6, seed=8)
FOLDED = Shortcuts(folded=True, retiring=True)


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


class Aliased(nn.Module):
    """Parts that have a second name, under which they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), self.norm, nn.Flatten(), nn.Linear(64, 3))

    def forward(self, images):
        return self.body(images)


def after(*layers, size=36):
    """Some layers, then the logits."""
    return filled(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * size, 3)))


CONV, NORM = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
FOUND = {
    "in a sequence": (lambda: after(CONV, NORM, nn.Tanh()), {"0": "1"}),
    "without a bias": (lambda: after(nn.Conv2d(2, 4, 1, bias=False), NORM), {"0": "1"}),
    "without weights": (lambda: after(CONV, nn.BatchNorm2d(4, affine=False)), {"0": "1"}),
    "in groups, with a stride": (
        lambda: after(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), NORM, size=9),
        {"0": "1"},
    ),
    "under any name": (lambda: filled(Named()), {"first": "apple", "table.two": "zebra"}),
    "with a nothing between": (lambda: after(CONV, nn.Identity(), nn.Dropout(), NORM), {"0": "3"}),
    "in a bottleneck": (
        normed_net,
        {
            "0": "1",
            "3.conv1": "3.bn1",
            "3.conv2": "3.bn2",
            "3.conv3": "3.bn3",
            "3.downsample.0": "3.downsample.1",
        },
    ),
}
LEFT = {
    "a convolution that is used twice": lambda: filled(Twice()),
    "a batch normalisation that is used twice": lambda: filled(TwoNorms()),
    "one that keeps no statistics": lambda: after(
        CONV, nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "one that comes first": lambda: after(nn.BatchNorm2d(2), CONV),
    "a transposed convolution": lambda: after(nn.ConvTranspose2d(2, 4, 3, padding=1), NORM),
    "an activation between": lambda: after(CONV, nn.Tanh(), NORM),
    "an activation between, in place": lambda: after(CONV, nn.ReLU(inplace=True), NORM),
}


def difference(model, twin, images=IMAGES):
    with torch.no_grad():
        return (model(images) - twin.model(images)).abs().max().item()


@pytest.mark.parametrize("case", FOUND)
def test_pairs_are_found_where_one_takes_the_other_s_output(case):
    make, expected = FOUND[case]
    model = make().eval()
    before = state_of(model)
    assert conv_norm_pairs(model, IMAGES[:1]) == expected
    twin = Twin(model, IMAGES[:1])
    kinds = [type(module) for module in twin.model.modules()]
    assert nn.BatchNorm2d not in kinds
    assert sum(issubclass(kind, nn.Conv2d) for kind in kinds) == len(expected)
    assert difference(model, twin) < 1e-12
    assert state_of(model) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("case", LEFT)
def test_what_is_no_pair_is_left_as_it_is(case):
    model = LEFT[case]().eval()
    assert conv_norm_pairs(model, IMAGES[:1]) == {}
    twin = Twin(model, IMAGES[:1])
    assert any(isinstance(module, nn.BatchNorm2d) for module in twin.model.modules())
    assert difference(model, twin) < 1e-12


def test_the_folded_convolution_does_what_both_do():
    conv, norm = nn.Conv2d(2, 4, 3).double(), anywhere(nn.BatchNorm2d(4).double()).eval()
    weight, bias = folded(conv, norm)
    with torch.no_grad():
        expected = norm(conv(IMAGES))
        found = nn.functional.conv2d(IMAGES, weight, bias)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="no statistics"):
        folded(conv, nn.BatchNorm2d(4, track_running_stats=False))


def test_a_part_is_folded_under_each_of_its_names():
    model = filled(Aliased()).eval()
    twin = Twin(model, IMAGES[:1])
    assert isinstance(twin.model.norm, nn.Identity)
    assert twin.model.norm is twin.model.body[1]
    assert difference(model, twin) < 1e-12


def test_where_folding_would_change_the_numbers_the_model_itself_is_attacked():
    """Passing images through does not show where else an output goes; gradients do."""
    model = filled(Elsewhere()).eval()
    assert difference(model, Twin(model, IMAGES[:1])) > 0.01
    images = random_images(20, 2, 6, 6)
    labels = predictions(model, images)
    found, expected = (
        robustness(model, PGD(eps=0.1), images, labels, shortcuts=shortcuts)
        for shortcuts in (FOLDED, Shortcuts(retiring=True))
    )
    assert found.shortcuts == Shortcuts(retiring=True)
    assert torch.equal(found.adversarial, expected.adversarial)
    assert 0 < found.robust.sum() < 20


@pytest.mark.parametrize("name", MODELS)
def test_the_package_s_models_are_folded_to_the_same_numbers(name):
    case = case_of(name)
    model = copy.deepcopy(case.model).eval()
    twin = Twin(model, case.images[:1])
    norms = [module for module in twin.model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms == []
    assert difference(model, twin, case.images) < 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_a_twin_takes_the_present_weights_and_statistics_when_it_is_told(name):
    case = case_of(name)
    model = copy.deepcopy(case.model).eval()
    twin = Twin(model, case.images[:1])
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():
                value.mul_(1 + 0.2 * torch.rand(value.shape, generator=source, dtype=value.dtype))
    assert difference(model, twin, case.images) > 1e-3
    twin.refresh()
    assert difference(model, twin, case.images) < 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_left_as_it_was(name):
    """Modes, weights, statistics, gradients and who needs one, however careless they were set."""
    case = case_of(name)
    model = careless(case.model) if name == "conv_net" else copy.deepcopy(case.model)
    model(case.images).sum().backward()
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    kept = [value.clone() for value in gradients]
    for value in model.parameters():
        value.grad = None
    before = state_of(model)
    learning = [value for value in model.parameters() if value.requires_grad]
    for value, gradient in zip(learning, gradients, strict=True):
        value.grad = gradient
    found = robustness(model, PGD(eps=0.05), case.images, case.labels, shortcuts=FOLDED)
    assert found.shortcuts == FOLDED
    for value, gradient, was in zip(learning, gradients, kept, strict=True):
        assert value.grad is gradient
        assert torch.equal(gradient, was)
        value.grad = None
    assert state_of(model) == before
