"""Models that record what passes through them, and small ones whose gradients are known."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.gradient_descent import GradientDescent
from robustbench_pcl.defenses import Defense
from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.models.classifier import Architecture, Classifier, Ensemble, build_classifier
from robustbench_pcl.models.supervised import SupervisedModel

CLASSES, COUNT = 4, 40
LAST_BITS = 1e-6
"""Of float32 pixels around 1, when a step is added."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int = COUNT) -> Tensor:
    """Images (3, 8, 8); the first eight are black and white."""
    drawn = torch.rand((count, 3, 8, 8), generator=generator(1))
    drawn[:8] = drawn[:8].round()
    return drawn


def some_labels(count: int = COUNT) -> Tensor:
    return torch.arange(count) % CLASSES


class RecordingModel(SupervisedModel):
    """A model that records the images of each pass and whether it was in train mode."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)
        self.passes: list[tuple[bool, Tensor]] = []
        first = self.classifier
        if isinstance(first, Ensemble):
            first = first.members[0]
        first.normalise.register_forward_pre_hook(self._record)

    def _record(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        assert len({part.training for part in self.modules()}) == 1
        self.passes.append((module.training, inputs[0].detach().clone()))

    @property
    def trained_on(self) -> Tensor:
        """The images of the only training pass."""
        ((_, images),) = [one for one in self.passes if one[0]]
        return images


def recording_model(
    defense: Defense, loss: str = "cross-entropy", model: str = "resnet20"
) -> RecordingModel:
    """A small network for images (3, 8, 8) in train mode, or the three that the defence wants."""
    layers = () if loss == "cross-entropy" else (3, 5)
    networks = [
        build_classifier(model, (3, 8, 8), CLASSES, width=0.1, feature_layers=layers, seed=seed)
        for seed in range(defense.members)
    ]
    classifier = Ensemble(networks) if len(networks) > 1 else networks[0]
    with torch.no_grad():
        _, features = classifier.eval().features(torch.zeros(1, 3, 8, 8))
    dimensions = {layer: values.shape[1] for layer, values in features.items()}
    criterion = Criterion({"name": loss}, dimensions, CLASSES, seed=0)
    inference = "softmax" if criterion.with_cross_entropy else "nearest"
    return RecordingModel(classifier, criterion, inference, defense.memory(CLASSES)).train()


def tiny(defense: Defense, layer: nn.Module | None = None, pixels: int = 4) -> RecordingModel:
    """One linear layer in float64 on images (1, 2, pixels / 2), after ``layer`` if there is one.

    Its logits are W x + b for flattened pixels x, and its answers to :func:`tiny_batch` differ.
    """
    networks = []
    for number in range(defense.members):
        source = generator(5 + number)
        head = nn.Linear(pixels, CLASSES)
        with torch.no_grad():
            for value in head.parameters():
                value.copy_(torch.randn(value.shape, generator=source))
        layers = [nn.Sequential(layer or nn.Identity(), nn.Flatten())]
        networks.append(Classifier(Architecture(layers, head), (), [0.0], [1.0]))
    classifier = Ensemble(networks) if len(networks) > 1 else networks[0]
    criterion = Criterion({"name": "cross-entropy"}, {}, CLASSES, seed=0)
    parts = classifier, criterion, "softmax", defense.memory(CLASSES)
    return RecordingModel(*parts).double().train()


def tiny_batch(count: int = 12, pixels: int = 4) -> tuple[Tensor, Tensor]:
    """Images away from 0 and 1, so that nothing is clipped."""
    shape = (count, 1, 2, pixels // 2)
    drawn = torch.rand(shape, generator=generator(5), dtype=torch.float64)
    return 0.3 + 0.4 * drawn, some_labels(count)


def largest_change(changed: Tensor, clean: Tensor) -> Tensor:
    return (changed - clean).abs().flatten(1).amax(dim=1)


def minimised(
    defense: Defense, model: SupervisedModel, images: Tensor, labels: Tensor, *, steps: int
) -> None:
    """Gradient descent on a single batch, with the gradient clipped as in the recipes."""
    descent, source = torch.optim.SGD(model.parameters(), lr=0.05), generator()
    for _ in range(steps):
        descent.zero_grad()
        sum(defense.step(model, images, labels, source).terms.values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        descent.step()


def total(terms: Iterable[Tensor]) -> float:
    return sum(float(value.detach()) for value in terms)


def settled(model: RecordingModel, seed: int = 7) -> RecordingModel:
    """A model in train mode whose batch normalisation has statistics and factors of its own."""
    kind = next(model.parameters()).dtype
    with torch.no_grad():
        for power in (1, 2, 3):
            model(some_images().to(kind) ** power)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5, generator=generator(seed))
                norm.bias.uniform_(-0.5, 0.5, generator=generator(seed + 1))
    model.passes.clear()
    return model


def on_the_model_itself(
    attack: GradientDescent, model: SupervisedModel, images: Tensor, labels: Tensor, eps: Tensor
) -> Tensor:
    """What an attack on the joint loss comes to, written out, with the draws of ``generator()``."""
    model, source, moved = copy.deepcopy(model).eval(), torch.Generator(), images
    seeds = torch.randint(2**62, (len(images),), generator=generator()).tolist()
    if attack.random_start:
        shape, kind = images.shape[1:], images.dtype
        drawn = [torch.rand(shape, generator=source.manual_seed(s), dtype=kind) for s in seeds]
        moved = images + eps * (2 * torch.stack(drawn) - 1)
    direction = torch.zeros_like(images)
    for step in range(attack.steps + 1):
        moved = torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp(0, 1)
        if step == attack.steps:
            break
        leaf = moved.detach().requires_grad_(True)
        values, _ = model.joint_loss(leaf, labels)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        if attack.name == "mim":
            length = gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
            gradient = attack.momentum * direction + gradient / length
        direction = gradient
        moved = leaf.detach() + attack.relative_step_size * eps * direction.sign()
    return moved


def assert_alike(found: Tensor, expected: Tensor) -> None:
    """In float32, a gradient that is nearly zero may have another sign where it is rounded."""
    near = 1e-12 if found.dtype == torch.float64 else 1e-6
    differs = ((found - expected).abs() > near).double().mean()
    assert differs == 0 if found.dtype == torch.float64 else differs < 1e-3
