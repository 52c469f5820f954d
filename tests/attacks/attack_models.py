"""Models with batch normalisation, their copies, and the sign attacks written out for one image."""

from functools import cache

import torch
import torch.nn.functional as F
from attack_toys import conv_net, generator, predictions, random_images, some_wrong
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from robustbench_pcl.attacks.fast_model import FastModel, Kind, Precision
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.models.classifier import build_classifier

CLASSES = 5
FAMILY = ("conv6", "resnet20")


def anywhere(model: nn.Module, seed: int = 3) -> nn.Module:
    """The model with batch normalisation that has seen other images than it was made for."""
    source = generator(seed)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for value, low in (
                    (norm.weight, 0.5),
                    (norm.bias, -0.5),
                    (norm.running_mean, -0.5),
                    (norm.running_var, 0.5),
                ):
                    if value is not None:
                        value.copy_(low + torch.rand(value.shape, generator=source))
            elif isinstance(norm, nn.PReLU):
                norm.weight.copy_(0.1 + 0.3 * torch.rand(norm.weight.shape, generator=source))
    return model


def filled(model: nn.Module, seed: int = 2, size: float = 0.4) -> nn.Module:
    """The model in float64 with weights drawn from a seed."""
    source = generator(seed)
    model = model.double()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=source, dtype=value.dtype) * size)
    return anywhere(model)


def normed_net() -> nn.Sequential:
    """Batch normalisation after every convolution, also in a residual bottleneck; (2, 6, 6)."""
    shortcut = nn.Sequential(nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8))
    stem = (nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.PReLU())
    head = (nn.AvgPool2d(3), nn.Flatten(), nn.Linear(32, CLASSES))
    return filled(nn.Sequential(*stem, Bottleneck(6, 2, 1, shortcut), *head))


class Aliased(nn.Module):
    """Parts that have a second name, under which they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(4), nn.PReLU()
        head = (nn.Flatten(), nn.Linear(64, 3))
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), self.norm, self.act, *head)

    def forward(self, images):
        return self.body(images)


def family_member(name: str) -> nn.Module:
    """Of the package's models, for images (2, 8, 8)."""
    return anywhere(build_classifier(name, (2, 8, 8), CLASSES, width=0.1)).double()


MODELS = {
    "conv_net": conv_net,
    "normed_net": normed_net,
    "conv6": lambda: family_member("conv6"),
    "resnet20": lambda: family_member("resnet20"),
}
EPS = {"conv_net": 0.04, "normed_net": 0.04, "conv6": 0.15, "resnet20": 0.01}
"""With which some images are fooled at once, some later and some never."""


class ModelCase:
    """A model in train mode, images, their labels, and the model's own classes."""

    def __init__(self, name: str, count: int = 16) -> None:
        self.name, self.eps = name, EPS[name]
        self.model = MODELS[name]().train()
        size = 8 if name in FAMILY else 6
        self.images = random_images(count, 2, size, size, seed=4)
        self.images[:2] = self.images[:2].round()
        self.predictions = predictions(self.model, self.images)
        self.labels = some_wrong(self.predictions, CLASSES)


@cache
def case_of(name: str) -> ModelCase:
    return ModelCase(name)


IMAGES = random_images(5, 2, 6, 6, seed=8)


def fast_of(model: nn.Module, precision: Precision = "float32", last: bool = True) -> FastModel:
    """As an attack makes it: the weights are frozen meanwhile."""
    with TargetModel(model):
        return FastModel(model, Kind(precision, channels_last=last))


def follows(fast: FastModel, model: nn.Module) -> bool:
    with TargetModel(model):
        return fast.follow(model)


def difference(model: nn.Module, fast: FastModel, images: Tensor = IMAGES) -> float:
    """The largest, of any logit."""
    with torch.no_grad():
        return (model(images) - fast.model(images)).abs().max().item()


def gradient(model: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    image = image.clone().requires_grad_(True)
    F.cross_entropy(model(image[None]), label[None]).backward(inputs=[image])
    return image.grad


def clip(moved: Tensor, image: Tensor, eps: float) -> Tensor:
    return torch.minimum(torch.maximum(moved, image - eps), image + eps).clamp(0, 1)


def iterates(
    name: str, model: nn.Module, row: tuple[Tensor, Tensor, Tensor], *, eps: float, steps: int
) -> list[Tensor]:
    """Where the attack takes an image, from its start to its last step, with Table 2's steps.

    ``row`` is the image, its label and the noise of its start.
    """
    image, label, noise = row
    share = {"fgsm": 1.0, "bim": 0.1, "mim": 0.1, "pgd": 0.25}[name]
    path = [clip(image + eps * noise, image, eps) if name == "pgd" else image]
    momentum = torch.zeros_like(image)
    for _ in range(1 if name == "fgsm" else steps):
        slope = gradient(model, path[-1], label)
        if name == "mim":
            slope = momentum = momentum + slope / slope.abs().sum()
        path.append(clip(path[-1] + share * eps * slope.sign(), image, eps))
    return path
