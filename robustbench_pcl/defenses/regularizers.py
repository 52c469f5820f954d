"""Defences that add a penalty to training on clean images, with no adversarial ones.

Derivatives in the pixels are penalised: of the loss (Ross), of the margin (Yu); or networks that
agree on more than the label (Pang).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.configuration import Eps, Positive, Scalar
from robustbench_pcl.defenses import Defense, forward_pass, step_of
from robustbench_pcl.lazy import F, LazyModule, torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.data.datasets import DatasetSpec
    from robustbench_pcl.models import classifier, shares
    from robustbench_pcl.models.supervised import Step, SupervisedModel
else:
    shares = LazyModule("robustbench_pcl.models.shares")
    classifier = LazyModule("robustbench_pcl.models.classifier")

MNIST_WEIGHT = 10**3.5 / (2 * 256)
"""For MNIST. [33] searches a weight for each data set; this is the middle of its range.

The authors' published code tries 13 weights from 100 to 100,000, in other units: it halves the sum
of squares and takes the gradient of the mean over a batch of 256. It settles on 56,234 for MNIST
and on 10,000 for SVHN, for 15,000 steps. A network with MNIST's own weight hardly leaves chance in
the hundreds of steps that the smaller scales train for; with the middle one it learns there too.
"""
MNIST_REACH = 0.3**2 * 28 * 28
"""eps^2 * pixels there."""
OFFSET = 1e-6
"""On the Gram matrix's diagonal, so that its determinant is above 0, as in [16]'s code."""


class InputGradient(Defense):
    r"""Penalise how strongly pixels change the loss, by double backpropagation.

    Minimised is, in the mean over images,

    .. math::

        \mathcal{L} + \lambda \left\| \nabla_x \mathcal{L}_{CE} \right\|_2^2
    """

    citation: ClassVar[str] = "Ross and Doshi-Velez 2018 [33]"

    name: Literal["ross"] = "ross"
    weight: Positive = Field(
        MNIST_WEIGHT, description="of the squared gradient, lambda; pixels in [0, 1]"
    )

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """A weight in proportion to eps^2 * pixels, so that the penalty means the same everywhere.

        A change of eps in every pixel moves the loss by at most eps * sqrt(pixels) * |gradient|.
        """
        return {"weight": MNIST_WEIGHT * data.eps**2 * math.prod(data.shape) / MNIST_REACH}

    def step(
        self,
        model: SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing random
    ) -> Step:
        """The criterion's terms on the clean images, and the penalty."""
        pixels = images.detach().requires_grad_(True)
        found = forward_pass(model, pixels, labels)
        terms = found.terms(model)
        total = terms["cross_entropy"] * len(labels)
        (gradient,) = torch.autograd.grad(total, pixels, create_graph=True)
        squares = gradient.square().flatten(1).sum(dim=1)
        return found.step({**terms, "input_gradient": self.weight * squares.mean()})


class DecisionSurface(Defense):
    r"""Penalise the slope and the curvature of the decision surface around each image.

    The surface is S(x) = z_y(x) - max over j != y of z_j(x), the label's logit above the largest
    other one; it crosses 0 at the decision boundary. By Taylor's theorem its first two derivatives
    in the pixels, J and H, bound how far a perturbation moves it. [45] trains with both small
    instead of with adversarial images. Its formula and weights could not be consulted; the variant
    here, whose weight is this project's choice, minimises

    .. math::

        \mathcal{L} + \lambda \epsilon^2 P \left( \| J(x) \|_2^2
        + \| J(x + \delta) - J(x) \|_2^2 \right)

    with P the number of pixels and delta = eps * (random signs), clipped to [0, 1]. eps * sqrt(P)
    is the longest perturbation of the budget, so the two terms bound the square of how far it
    moves a plane surface, and of what bending adds. J's difference stands for H, which is 0 almost
    everywhere in a network of piecewise linear layers: over random signs its square averages to
    eps^2 times the squared Frobenius norm of H, wherever H is constant.
    """

    citation: ClassVar[str] = "Yu et al. 2018 [45]"

    name: Literal["yu"] = "yu"
    weight: Positive = Field(0.005, description="of the squared change of the surface")
    eps: Eps = Field(8 / 255, description="budget, pixels in [0, 1]")

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """The data set's budget."""
        return {"eps": data.eps}

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on the clean images, and the surface's slope and curvature."""
        signs = torch.randint(2, images.shape, generator=generator).to(images) * 2 - 1
        moved = (images + self.eps * signs).clamp(0, 1)
        pixels = torch.cat([images, moved]).requires_grad_(True)
        found = forward_pass(model, pixels, torch.cat([labels, labels]))
        surface = -logit_margin(found.logits, found.labels).sum()
        (slopes,) = torch.autograd.grad(surface, pixels, create_graph=True)
        here, there = slopes.flatten(1).chunk(2)
        scale = self.weight * self.eps**2 * math.prod(images.shape[1:])
        clean = found.take(slice(len(images)))
        return clean.step(
            {
                **clean.terms(model),
                "slope": scale * here.square().sum(dim=1).mean(),
                "curvature": scale * (there - here).square().sum(dim=1).mean(),
            }
        )


class EnsembleDiversity(Defense):
    r"""Train three networks to agree on the label and to differ on the other classes.

    Minimised is the mean over images of

    .. math::

        \sum_i \mathcal{L}_{CE}(p_i) - \alpha H \left( \frac{1}{3} \sum_i p_i \right)
        - \beta \log D(p_1, p_2, p_3)

    H is Shannon's entropy; the diversity D is the squared volume that the members' predictions of
    the other classes span.
    """

    citation: ClassVar[str] = "Pang et al. 2019 [16]"
    members: ClassVar[int] = 3

    name: Literal["adp"] = "adp"
    alpha: Positive = Field(2.0, description="weight of the entropy")
    beta: Positive = Field(0.5, description="weight of the diversity")

    def step(
        self,
        model: SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing random
    ) -> Step:
        """The members' cross-entropies, summed, and the two regularisers; ``model`` is an ensemble.

        The regularisers are computed in float32 also under autocast: a determinant of 8 bits would
        be noise.
        """
        ensemble = cast("classifier.Ensemble", model.classifier)
        # Images come first, (N, M, K), as they are divided.
        found = shares.in_shares(lambda some: ensemble.member_logits(some).transpose(0, 1), images)
        member_logits = found.transpose(0, 1)
        with torch.autocast(images.device.type, enabled=False):
            member_logits = member_logits.to(images.dtype)
            prediction = classifier.log_mean_probabilities(member_logits, len(member_logits))
            losses = [F.cross_entropy(logits, labels) for logits in member_logits]
            terms = {
                "cross_entropy": torch.stack(losses).sum(),
                "entropy": -self.alpha * entropy(prediction).mean(),
                "diversity": -self.beta * log_diversity(member_logits, labels).mean(),
            }
        return step_of(terms, prediction, labels)


def log_diversity(member_logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of each image's ensemble diversity, (N,).

    The determinant of the Gram matrix of the members' non-maximal predictions, which are their
    probabilities of the classes other than the label, each scaled to length 1: the squared volume
    that they span (Pang et al. 2019 [16]). The scaling makes it the same to take softmax over the
    other classes only, where no probability underflows because the label's is near 1.

    Args:
        member_logits: (M, N, K).
        labels: int64 (N,).
    """
    own = labels.view(1, -1, 1).expand(len(member_logits), -1, 1)
    others = member_logits.scatter(2, own, -torch.inf).softmax(dim=2)
    directions = F.normalize(others, dim=2).transpose(0, 1)
    gram = directions @ directions.mT
    offset = OFFSET * torch.eye(len(member_logits)).to(gram)
    logarithms: Tensor = torch.linalg.slogdet(gram + offset).logabsdet
    return logarithms


def entropy(log_probabilities: Tensor) -> Tensor:
    """Shannon entropy in nats, (N,), of distributions given by logarithms (N, K)."""
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)
