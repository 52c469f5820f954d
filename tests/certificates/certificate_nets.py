"""Small random networks of every operation, for images of two to four pixels."""

import itertools
from collections.abc import Callable
from functools import cache

import torch
from attack_toys import generator
from torch import Tensor, nn

from robustbench_pcl.models.classifier import GlobalAveragePool, Normalise
from robustbench_pcl.models.plain import PReLU

CLASSES = 3
Shape = tuple[int, int, int]


class Residual(nn.Module):
    """Its input added to what layers make of it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.layers(values)


def sloped(module: nn.PReLU, *slopes: float) -> nn.PReLU:
    """The module with these slopes."""
    with torch.no_grad():
        module.weight.copy_(torch.tensor(slopes))
    return module


class ByHand(nn.Module):
    """Functions and methods in the place of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 2, padding=1), nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        found = nn.functional.max_pool2d(torch.relu(self.conv(images)), 2, 1)
        found = nn.functional.leaky_relu(found + found.relu(), 0.3)
        return self.head(nn.functional.adaptive_avg_pool2d(found, 1).view(images.size(0), -1))


FAMILIES: dict[str, tuple[Shape, Callable[[], list[nn.Module]]]] = {
    "dense": ((1, 1, 2), lambda: [nn.Flatten(), nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3)]),
    "deep": (
        (1, 1, 3),
        lambda: [
            *(nn.Flatten(), nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU()),
            *(nn.Linear(5, 5), nn.LeakyReLU(0.1), nn.Linear(5, 4), nn.Linear(4, 3)),
        ],
    ),
    "slopes": (
        (1, 1, 2),
        lambda: [
            *(nn.Flatten(), nn.Linear(2, 5), sloped(nn.PReLU(5), -1.5, -0.3, 0.2, 1.0, 2.5)),
            *(nn.Linear(5, 4), sloped(PReLU(), 1.7), nn.Linear(4, 3)),
        ],
    ),
    "convolution": (
        (1, 2, 2),
        lambda: [
            *(Normalise([0.5], [0.25]), nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4)),
            *(sloped(PReLU(), 0.25), nn.Conv2d(4, 4, 3, stride=2, groups=2, bias=False)),
            *(nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(4, 3)),
        ],
    ),
    "dilation": (
        (2, 1, 2),
        lambda: [
            *(nn.Conv2d(2, 4, (1, 2), padding=(0, 2), dilation=(1, 2)), nn.ReLU()),
            *(GlobalAveragePool(), nn.Linear(4, 3)),
        ],
    ),
    "maxima": (
        (1, 2, 2),
        lambda: [
            *(nn.Conv2d(1, 4, 2, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
            *(nn.Conv2d(4, 3, 1), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(3, 3)),
        ],
    ),
    "averages": (
        (1, 2, 2),
        lambda: [
            *(nn.Conv2d(1, 4, 2, padding=1), nn.ReLU(), nn.AvgPool2d(2, 1)),
            *(nn.Conv2d(4, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        ],
    ),
    "residual": (
        (1, 1, 3),
        lambda: [
            nn.Conv2d(1, 3, 1),
            Residual(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, (1, 3), padding=(0, 1))),
            Residual(nn.Identity()),
            *(nn.ReLU(), GlobalAveragePool(), nn.Linear(3, 3)),
        ],
    ),
    "by hand": ((1, 2, 2), lambda: [ByHand()]),
}
"""The shape of the images, and the layers."""
SEEDS = 18


def make(family: str, seed: int, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A network of the family with random weights, in eval mode, that knows all classes."""
    shape, layers = FAMILIES[family]
    source = generator(seed)
    model = nn.Sequential(*layers()).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and value.numel() > 1 and "std" not in name:
                value.copy_(torch.randn(value.shape, generator=source))
            if name.endswith("running_var"):
                value.abs_().add_(0.1)
        model.double()
        last = [module for module in model.modules() if hasattr(module, "bias")][-1]
        drawn = torch.rand((500, *shape), generator=source, dtype=torch.float64)
        last.bias -= model(drawn).mean(dim=0)
    return model.to(dtype).requires_grad_(False)


def some_images(family: str, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Some of them at the ends of the range."""
    drawn = torch.rand((count, *FAMILIES[family][0]), generator=generator(7), dtype=dtype)
    drawn[0] = drawn[0].round()
    return drawn


@cache
def grid(shape: Shape) -> Tensor:
    """Points (M, C, H, W) all over [0, 1]."""
    pixels = shape[0] * shape[1] * shape[2]
    steps = {2: 101, 3: 21, 4: 9}[pixels]
    ticks = torch.linspace(0, 1, steps, dtype=torch.float64)
    return torch.cartesian_prod(*[ticks] * pixels).view(-1, *shape)


def nearest_on_grids(model: nn.Module, image: Tensor, label: int) -> float:
    """The L-infinity distance of the nearest point of some grids that is not the label's.

    The true radius is at most that: one grid is all over [0, 1], the others are on the way to the
    nearest point that was found before, and around it, finer each time.
    """
    everywhere = grid((image.shape[0], image.shape[1], image.shape[2]))
    way = torch.linspace(0, 1, 200, dtype=torch.float64).view(-1, 1, 1, 1)
    points, best = everywhere, float("inf")
    for finer in range(1, 8):
        wrong = points[model(points).argmax(dim=1) != label]
        distances = (wrong - image).abs().flatten(1).amax(dim=1)
        if not len(wrong) or float(distances.min()) >= best:
            break
        best, nearest = float(distances.min()), wrong[distances.argmin()]
        around = nearest + 4.0**-finer * (everywhere[:: 3 + finer] - 0.5)
        points = torch.cat([image + way * (nearest - image), around]).clamp(0, 1)
    return best


def corners(image: Tensor, eps: float) -> Tensor:
    """The corners of the ball around an image, and of [0, 1]."""
    signs = torch.tensor(list(itertools.product((-1, 1), repeat=image.numel())), dtype=image.dtype)
    return (image + eps * signs.view(-1, *image.shape)).clamp(0, 1)
