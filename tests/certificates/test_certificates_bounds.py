"""Bounds contain what models answer, in float32 too, and what cannot be bounded is said."""

import pytest
import torch
from attack_toys import generator, predictions
from certificate_nets import FAMILIES, make, some_images
from torch import nn

from robustbench_pcl.certificates.crown import Rounding, margins
from robustbench_pcl.certificates.radii import Certifier, certified_radii
from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.models.classifier import build_classifier
from robustbench_pcl.models.supervised import SupervisedModel

FLOAT32 = Rounding(2.0**-24, torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max)


def settled(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A model of the package whose batch normalisation has statistics of its own."""
    channels = 1 if name == "conv6" else 3
    model = build_classifier(name, (channels, 8, 8), 5, width=0.1).train()
    with torch.no_grad():
        for _ in range(30):
            model(torch.rand(32, channels, 8, 8, generator=generator(1)))
    return model.to(dtype).eval()


MODELS = [*FAMILIES, "conv6", "resnet20", "vgg19"]


def model_and_images(name: str, dtype: torch.dtype) -> tuple[nn.Module, torch.Tensor]:
    if name in FAMILIES:
        return make(name, 3, dtype), some_images(name, 3, dtype)
    channels = 1 if name == "conv6" else 3
    shape = (3, channels, 8, 8)
    return settled(name, dtype), torch.rand(shape, generator=generator(), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_bounds_contain_what_the_model_answers(name, dtype):
    """Boxes contain the logits of sampled images, margins their differences, at any budget."""
    model, images = model_and_images(name, dtype)
    labels = predictions(model, images)
    certifier = Certifier(model, dtype)
    for eps in (0.0, 1e-6, 0.01, 0.3):
        bounds = certifier.bounds(images, torch.full((3,), eps, dtype=torch.float64))
        lowest = margins(bounds, labels)
        box = bounds.values[-1]
        for seed in range(20):
            noise = torch.rand(images.shape, generator=generator(seed), dtype=torch.float64) - 0.5
            noise = noise.sign() / 2 if seed % 2 else noise
            moved = (images.double() + 2 * eps * noise).clamp(0, 1).to(dtype)
            inside = (images.double() - moved.double()).abs() <= eps  # though it was rounded
            moved = torch.where(inside, moved, images)
            with torch.no_grad():
                logits = model(moved).double()
            assert bool((logits >= box.lower).all() and (logits <= box.upper).all())
            own = logits.gather(1, labels[:, None])
            other = torch.arange(logits.shape[1]) != labels[:, None]
            assert bool((own - logits[other].view(3, -1) >= lowest).all())


@pytest.mark.parametrize("name", MODELS)
def test_linear_bounds_are_never_below_intervals(name):
    model, images = model_and_images(name, torch.float64)
    labels = predictions(model, images)
    bounds = Certifier(model, torch.float64).bounds(images, torch.full((3,), 0.02))
    box = bounds.values[-1]
    own = box.lower.gather(1, labels[:, None])
    others = box.upper.scatter(1, labels[:, None], -torch.inf).amax(dim=1, keepdim=True)
    found = margins(bounds, labels).amin(dim=1, keepdim=True)
    assert bool((found >= own - others - 1e-9 * (own - others).abs()).all())


@pytest.mark.parametrize("name", ["convolution", "maxima", "residual", "slopes"])
def test_no_radius_depends_on_the_company(name):
    model, images = make(name, 5), some_images(name, 40)
    labels = predictions(model, images)
    together = certified_radii(model, images, labels, 0.5).certified
    alone = [
        certified_radii(model, images[row : row + 1], labels[row : row + 1], 0.5).certified
        for row in range(0, 40, 3)
    ]
    assert torch.equal(torch.cat(alone), together[::3])
    turned = certified_radii(model, images.flip(0), labels.flip(0), 0.5).certified
    assert torch.equal(turned.flip(0), together)
    assert len(set(together.tolist())) > 10


def test_what_is_wrong_has_radius_0_and_the_model_is_left_as_it_was():
    model, images = make("convolution", 1).train(), some_images("convolution", 10)
    labels = predictions(model.eval(), images)
    right = certified_radii(model.train(), images, labels, 0.5)
    wrong = certified_radii(model, images, (labels + 1) % 3, 0.5)
    assert model.training
    assert bool((right.certified > 0).any())
    assert wrong.certified.tolist() == [0.0] * 10
    assert right.method == "crown"


def test_progress_is_told_of_every_image():
    model, images = make("dense", 1), some_images("dense", 70)
    told: list[float] = []
    progress = lambda count, _: told.append(count)  # noqa: E731
    certified_radii(model, images, predictions(model, images), 0.5, progress=progress)
    assert sum(told) == 70
    assert len(told) > 1


def test_a_loose_bound_says_why():
    model = settled("conv6")
    images = torch.rand(8, 1, 8, 8, generator=generator())
    found = certified_radii(model, images, predictions(model, images), 0.3)
    assert float(found.certified.max()) < 0.01
    assert found.reason.startswith("bound too loose: at eps 0.3 logits are known to within ")
    assert "% of the inputs of layers_" in found.reason
    tight = make("dense", 2)
    few = some_images("dense", 8)
    assert certified_radii(tight, few, predictions(tight, few), 1e-5).reason == ""


# Floating point


def test_a_margin_within_rounding_is_not_certified():
    """In real arithmetic the first class is ahead; float32 sums can come out either way."""
    pixels = 64
    weight = torch.zeros(2, pixels)
    weight[0], weight[1, 0] = 1000 * (-1.0) ** torch.arange(pixels), 1e-4
    model = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 2))
    with torch.no_grad():
        model[1].weight.copy_(weight)
        model[1].bias.copy_(torch.tensor([1e-3, 0.0]))
    images = torch.full((1, 1, 8, 8), 0.3)
    labels = torch.zeros(1, dtype=torch.int64)
    assert int(model(images).argmax()) == 0
    assert float(certified_radii(model, images, labels, 1e-9).certified) == 0
    exact = certified_radii(model.double(), images.double(), labels, 1e-9).certified
    assert float(exact) > 1e-10


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30, 1e-42])
def test_the_error_of_float32_sums_is_bounded(scale):
    """Also where they overflow or underflow."""
    source = generator(2)
    for shape in ((1, 7), (300, 40), (2, 4000)):
        weight = torch.randn(shape, generator=source) * scale
        values = torch.randn(shape[1], 50, generator=source) * 10
        found = (weight @ values).double()
        exact = weight.double() @ values.double()
        magnitude = weight.double().abs() @ values.double().abs()
        error = FLOAT32.error(magnitude, shape[1] + 2, shape[1] + shape[0])
        assert bool(((found - exact).abs() <= error).all())


def test_what_may_overflow_has_no_bounds():
    error = FLOAT32.error(torch.tensor([1.0, 3e38, torch.inf, torch.nan]), 5, 5)
    assert error.isinf().tolist() == [False, True, True, True]
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[3e38, -3e38, 3e38, -3e38], [0.0, 0.0, 0.0, 0.0]]))
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    images = torch.full((1, 1, 2, 2), 0.5)
    radii = certified_radii(model, images, torch.zeros(1, dtype=torch.int64), 0.1)
    assert radii.certified.tolist() == [0.0]


# What cannot be bounded


class KWinners(nn.Module):
    """The largest half of the values, others 0."""

    def forward(self, values):
        return values * (values >= values.median(dim=1, keepdim=True).values)


class Rounds(nn.Module):
    """A layer that torch.fx cannot see through."""

    def forward(self, values):
        return values * 0.5 if values.amax() > 9 else values


class InPlace(nn.Module):
    """What is added is not what it was: the ReLU has changed it."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 4, 1), nn.ReLU(inplace=True)

    def forward(self, images):
        found = self.conv(images)
        return self.relu(found) + found


class Hooked(nn.ReLU):
    """A ReLU that is something else."""

    def forward(self, values):
        return 1 - values.relu()


def with_a_hook():
    layer = nn.ReLU()
    layer.register_forward_hook(lambda _module, _given, found: found.sin())
    return layer


WITHOUT = {
    "sigmoid": (nn.Sigmoid, "layer 1 (Sigmoid) is not supported"),
    "a subclass": (Hooked, "not supported"),
    "k winners": (KWinners, "the operation mul of layer 1 (KWinners) is not supported"),
    "images decide": (Rounds, "cannot be followed layer by layer"),
    "reflected": (
        lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        "layer 1 (Conv2d) is not supported",
    ),
    "no statistics": (
        lambda: nn.BatchNorm2d(4, track_running_stats=False),
        "layer 1 (BatchNorm2d) is not supported",
    ),
    "a hook": (with_a_hook, "layer 1 has a hook"),
    "in place": (lambda: nn.Sequential(nn.Conv2d(4, 1, 1), InPlace()), "not what its layers give"),
    "half": (lambda: nn.Conv2d(4, 4, 1).bfloat16(), "not all float32"),
}


@pytest.mark.parametrize("case", WITHOUT)
def test_what_cannot_be_bounded_is_not_certified(case):
    layer, words = WITHOUT[case]
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, 1), layer(), nn.Flatten(), nn.Linear(36, 3)).eval()
    found = certified_radii(model, torch.rand(4, 1, 3, 3), torch.zeros(4, dtype=torch.int64), 0.1)
    assert found.certified.tolist() == [0.0] * 4
    assert found.reason.startswith("nothing can be certified: ")
    assert words in found.reason


# The nearest prototype decides


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_margins_of_eq_7_bound_the_differences_of_its_logits(dtype):
    classifier = build_classifier("conv6", (1, 8, 8), 4, width=0.05, feature_layers=(3, 5))
    criterion = Criterion({"name": "pcl"}, {3: 6, 5: 4}, 4)
    images = torch.rand(6, 1, 8, 8, generator=generator(), dtype=dtype)
    model = SupervisedModel(classifier.to(dtype), criterion.to(dtype), "nearest").eval()
    labels = torch.arange(6) % 4
    with torch.no_grad():
        for _, loss in criterion.by_layer():
            loss.prototypes.normal_(generator=generator(1))
        labels = predictions(model, images)
        certifier = Certifier(model, dtype)
        lowest = margins(certifier.bounds(images, torch.full((6,), 0.01)), labels)
        for seed in range(20):
            noise = torch.rand(images.shape, generator=generator(seed), dtype=dtype)
            logits = model((images + 0.0099 * (2 * noise - 1).sign()).clamp(0, 1)).double()
            own, other = logits.gather(1, labels[:, None]), torch.arange(4) != labels[:, None]
            assert bool((own - logits[other].view(6, -1) >= lowest).all())
    radii = certified_radii(model, images, labels, 1e-4)
    assert radii.reason == "" or radii.reason.startswith("bound too loose")
    assert bool((radii.certified > 0).any())
