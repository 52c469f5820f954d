"""Models of digits whose accuracy under PGD is too high, each for a reason that is known."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbench_pcl.data.loader import load


def digits(count: int, split: str = "test") -> tuple[Tensor, Tensor]:
    """The first images, float in [0, 1], and their labels."""
    part = getattr(load("digits"), split)
    images = torch.from_numpy(part.images[:count].copy()).float() / 255
    return images, torch.from_numpy(part.labels[:count].copy()).long()


class Scaled(nn.Module):
    """Another model's logits, times a factor."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.model(images)


class Quantised(nn.Module):
    """Another model of pixels that are rounded to some levels first."""

    def __init__(self, model: nn.Module, levels: int = 8) -> None:
        super().__init__()
        self.model, self.levels = model, levels

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * self.levels).round() / self.levels)


class Cut(nn.Module):
    """Another model of pixels that no gradient reaches."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.detach())


class Noisy(nn.Module):
    """Another model of pixels with noise on them."""

    def __init__(self, model: nn.Module, size: float = 0.1) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + self.size * torch.randn_like(images))


class Company(nn.Module):
    """Another model, of pixels less the mean of their batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images - images.mean(dim=0) + 0.3)


class WinnersTakeAll(nn.Module):
    """The largest activations of each image; the others are 0 (Xiao et al. 2020)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, features: Tensor) -> Tensor:
        least = features.topk(max(1, round(self.share * features.shape[1])), dim=1).values[:, -1:]
        return torch.where(features >= least, features, 0)


def trained(activation: Callable[[], nn.Module] = nn.ReLU, seed: int = 0) -> nn.Sequential:
    """Two hidden layers, trained on digits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(64, 128), activation(), nn.Linear(128, 128), activation()),
            nn.Linear(128, 10),
        )
        images, labels = digits(1_200, "train")
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(20):
            for rows in torch.randperm(len(images)).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
                optimiser.step()
    return model.eval()
