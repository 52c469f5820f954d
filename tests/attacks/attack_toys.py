"""Models small enough that what an attack should do to them is known, and images for them."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack, Chunk, Finished, Goal, draw_seeds
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.gradient_descent import GradientDescent
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.data.dataset import Split

EVERY = [name for name in ATTACKS if "steps" in ATTACKS[name].model_fields]  # no sequences
SIGN_ATTACKS = [
    name
    for name in ATTACKS
    if issubclass(ATTACKS[name], GradientDescent) and ATTACKS[name].early_stop
]
BOUNDED = [name for name in ATTACKS if "eps" in ATTACKS[name].model_fields]
EARLY_STOP = Shortcuts(early_stop=True)
ALL = Shortcuts(folded=True, precision="bfloat16", early_stop=True, compiled=True)
FLOAT32 = replace(ALL, precision="float32")
WEAK: dict[str, dict[str, float]] = {
    "cw": {"c": 1.0},
    "deepfool": {"steps": 1},
    "jsma": {"gamma": 0.05},
    "lbfgs": {"c": 30.0, "search_steps": 0},
}
"""With which some images withstand an attack that has no budget of its own."""
MOST_SEARCH_STEPS = 2
"""Of an attack that searches for its weight: enough for a smaller one, a larger one, or between."""
PASSES = {"fab": 2, "deepfool": 9, "jsma": 2, "lbfgs": 1 + MOST_SEARCH_STEPS}
"""For each step of an image, at most, where it is not one."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int, *shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0):
    drawn = torch.rand((count, *shape), generator=generator(seed), dtype=torch.float64)
    return low + (high - low) * drawn


def linear_model(classes: int, pixels: int, seed: int = 0) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes).double())
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator(seed)))
        model[1].bias -= model[1].weight.sum(dim=1) / 2  # undecided at grey, so all classes occur
    return model


def nearest_mean(train: Split) -> nn.Sequential:
    """Linear: decides for the class whose mean of the training images is nearest."""
    pixels = torch.as_tensor(train.images.copy()).flatten(1) / 255
    labels = torch.as_tensor(train.labels.copy())
    means = torch.stack([pixels[labels == label].mean(0) for label in labels.unique()])
    model = nn.Sequential(nn.Flatten(), nn.Linear(pixels.shape[1], len(means)))
    with torch.no_grad():
        model[1].weight.copy_(2 * means)
        model[1].bias.copy_(-means.square().sum(1))
    return model


def conv_net(classes: int = 5, seed: int = 1) -> nn.Sequential:
    """For images (2, 6, 6); in train mode, as a careless caller would leave it."""
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.Tanh(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.PReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(32, classes),
    ).double()
    source = generator(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=source, dtype=value.dtype) * 0.4)
        model[1].running_mean.copy_(torch.rand(6, generator=source))
        model[1].running_var.copy_(torch.rand(6, generator=source) + 0.5)
    return model


class Constant(nn.Module):
    """The same logits for every image, which have a gradient: zero."""

    def forward(self, images: Tensor) -> Tensor:
        zero = (images * 0).sum(dim=(1, 2, 3))
        return torch.stack([zero + 2, zero + 1, zero], dim=1)


class Numb(nn.Module):
    """Class 0 without a gradient where the first pixel is above one half; else by the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("same", torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        value = pixels.mean(dim=1) - 0.5
        other = torch.stack([-2 * value, value, 0.1 * value], dim=1)
        return torch.where(pixels[:, :1] > 0.5, pixels[:, :1] * 0 + self.same, other)


class Tally(torch.autograd.Function):
    """The identity, counting the images that pass each way."""

    forward_images = 0
    backward_images = 0

    @staticmethod
    def forward(context: object, images: Tensor) -> Tensor:
        Tally.forward_images += len(images)
        return images.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        Tally.backward_images += len(gradient)
        return gradient


class Counter(nn.Module):
    """A layer that counts in ``Tally``; as a layer of its own, torch.fx need not look inside."""

    def forward(self, images: Tensor) -> Tensor:
        return Tally.apply(images)


class Counted(nn.Module):
    """A model whose passes, and those of its copies, are counted in ``Tally`` from zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.counter, self.model = Counter(), model
        Tally.forward_images = Tally.backward_images = 0

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.counter(images))


class Watcher(nn.Module):
    """The identity, which notes how many images pass with a gradient and without.

    With more than ``most`` there is no memory for them.
    """

    def __init__(self, most: float = float("inf")) -> None:
        super().__init__()
        self.most = most
        self.attacked: list[int] = []
        self.verdicts: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        (self.attacked if torch.is_grad_enabled() else self.verdicts).append(len(images))
        return images


class Watched(nn.Module):
    """A model whose own passes are noted, and those of its copies are not."""

    def __init__(self, model: nn.Module, most: float = float("inf")) -> None:
        super().__init__()
        self.watcher, self.model = Watcher(most), model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.watcher(images))

    @property
    def attacked(self) -> list[int]:
        return self.watcher.attacked

    @property
    def verdicts(self) -> list[int]:
        return self.watcher.verdicts


class Threshold(nn.Module):
    """Class 1 where the mean pixel is above one half."""

    def forward(self, images: Tensor) -> Tensor:
        value = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack([-value, value], dim=1)


def greys(count: int) -> Tensor:
    """Images of class 0 that need between one and all of ten steps of 0.01, or more than those."""
    return 0.5 - 0.13 * random_images(count, 1, 1, 1, seed=2)


def predictions(model: nn.Module, images: Tensor) -> Tensor:
    """In eval mode; flags are put back one by one, without the code under test."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        answer = model(images).argmax(dim=1)
    for module, training in flags:
        module.training = training
    return answer


def some_wrong(labels: Tensor, classes: int, every: int = 7) -> Tensor:
    """Labels of which each ``every``-th is not the model's own answer."""
    labels = labels.clone()
    labels[::every] = (labels[::every] + 1) % classes
    return labels


def short(name: str, steps: int = 30, **parameters: object) -> Attack:
    """A member of the family with few steps, the first of its stages.

    Of the parameters, it takes those that it has.
    """
    fields = ATTACKS[name].model_fields
    attack = ATTACKS[name](**{key: parameters[key] for key in parameters if key in fields})
    limits = {"steps": steps, "search_steps": MOST_SEARCH_STEPS}
    fewer = {key: min(getattr(attack, key), limits[key]) for key in limits if key in fields}
    return attack.changed(**fewer).stages(5)[0].attack


def chunks_of(
    images: Tensor, labels: Tensor, sizes: list[int], seed: int = 0, drawn: list[int] | None = None
) -> Iterator[Chunk]:
    """The images in chunks of given sizes; whoever takes one leaves a note in ``drawn``."""
    start, seeds = 0, draw_seeds(len(images), generator(seed))
    for size in sizes:
        rows = torch.arange(start, start + size)
        start += size
        if drawn is not None:
            drawn.append(size)
        yield Chunk(rows, images[rows], Goal(labels[rows]), seeds[rows])


def collected(stream: Iterator[Finished], images: Tensor) -> tuple[Tensor, Tensor]:
    """The images of a stream in their order, and their classes; -1 where they are not known."""
    rows, adversarial = [], torch.full_like(images, torch.nan)
    classes = torch.full((len(images),), -1)
    for done in stream:
        rows += done.chunk.rows.tolist()
        adversarial[done.chunk.rows] = done.images
        if done.predictions is not None:
            classes[done.chunk.rows] = done.predictions
    assert sorted(rows) == list(range(len(images)))  # nobody is lost, nobody comes twice
    return adversarial, classes


@dataclass
class Attacked:
    """What an attack came to.

    Images, which of them keep their label, the classes that the attack knows (-1 where it does
    not), passes, shortcuts left.
    """

    adversarial: Tensor
    robust: Tensor
    classes: Tensor
    forward_passes: int
    backward_passes: int
    shortcuts: Shortcuts


def attacked(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    shortcuts: Shortcuts = EXACT,
    *,
    sizes: list[int] | None = None,
) -> Attacked:
    """Attack all images in one stream; who is known to be fooled is so for the model itself."""
    with TargetModel(model, shortcuts) as target:
        chunks = chunks_of(images, labels, [len(images)] if sizes is None else sizes)
        adversarial, classes = collected(attack.stream(target, chunks, len(images)), images)
        counts = target.forward_passes, target.backward_passes
    answers = predictions(model, adversarial)
    known = classes >= 0
    assert torch.equal(classes[known], answers[known])
    return Attacked(adversarial, answers == labels, classes, *counts, target.shortcuts)


def streamed(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    sizes: list[int],
    shortcuts: Shortcuts = EARLY_STOP,
) -> tuple[Tensor, Tensor]:
    """The images of class 0 in chunks of those sizes; what became of them."""
    with TargetModel(model, shortcuts) as target:
        chunks = chunks_of(images, torch.zeros(len(images)).long(), sizes)
        return collected(attack.stream(target, chunks, len(images)), images)


def in_slices(
    attack: Attack, model: nn.Module, images: Tensor, labels: Tensor, size: int
) -> Tensor:
    """One generator for all slices of ``size`` images, one after the other; exact."""
    source = generator()
    slices = zip(images.split(size), labels.split(size), strict=True)
    return torch.cat([attack(model, *both, generator=source, exact=True) for both in slices])


def started(
    attack: IterativeAttack[State], images: Tensor, labels: Tensor, seed: int = 0, **goal: object
) -> State:
    """What an attack knows of images before its first step."""
    seeds = draw_seeds(len(images), generator(seed))
    chunk = Chunk(torch.arange(len(images)), images, Goal(labels, **goal), seeds)
    with TargetModel(nn.Flatten()) as target:  # its pixels are its logits
        return attack.initialise(target, chunk)


def state_of(model: nn.Module) -> list[object]:
    """Everything an attack might disturb, as plain values."""
    return [
        *((name, module.training) for name, module in model.named_modules()),
        *((name, value.requires_grad) for name, value in model.named_parameters()),
        *((name, value.grad) for name, value in model.named_parameters()),
        *((name, value.tolist()) for name, value in model.state_dict().items()),
    ]


def careless(model: nn.Module) -> nn.Module:
    """In train mode but for one module, frozen in one parameter."""
    model = copy.deepcopy(model).train()
    model[2].eval()
    next(model.parameters()).requires_grad_(False)
    return model
