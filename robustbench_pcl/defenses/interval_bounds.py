"""Training on what interval bounds allow at worst (Gowal et al. 2018)."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from weakref import WeakKeyDictionary

from pydantic import Field

from robustbench_pcl.configuration import Count, Eps, Scalar
from robustbench_pcl.defenses import Defense, forward_pass
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import F, LazyModule, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustbench_pcl.certificates import affine, crown, network, operations
    from robustbench_pcl.data.datasets import DatasetSpec
    from robustbench_pcl.models import shares
    from robustbench_pcl.models.supervised import Step, SupervisedModel
else:
    shares = LazyModule("robustbench_pcl.models.shares")
    affine, crown, network, operations = (
        LazyModule(f"robustbench_pcl.certificates.{name}")
        for name in ("affine", "crown", "network", "operations")
    )

Share = Annotated[float, Field(ge=0, le=1)]

LARGEST_EPS = 0.1
"""Of a recipe that says none: for MNIST's 0.3, minutes of training are not enough."""

_NETWORKS: WeakKeyDictionary[nn.Module, network.Network] = WeakKeyDictionary()
"""Of classifiers in training, whose weights their layers hold."""


class IntervalBounds(Defense):
    r"""Minimise the cross-entropy of the worst logits that interval bounds allow.

    Minimised is

    .. math::

        \kappa \mathcal{L}(z) + (1 - \kappa) \mathcal{L}_{CE}(z_{\text{worst}})

    z are the logits of the clean images, and L is the criterion. Of z_worst, the label's logit is
    as far below each other one as bounds allow for any image within eps: intervals up to the last
    layer with a bend, and exactly what follows, which is linear ([1], Section 3, elides the last
    layer). For the first steps eps is 0 and kappa 1; then both move along a line to what is given
    here ([1], Section 4). Batch normalisation takes the statistics of the clean batch.

    Unlike in [1], each neuron before the last bend starts with few weights other than 0. Weights as
    He et al. (2015) draw them keep the signal's size, but a box's radius grows with the sum of
    their absolute values, by the square root of their number in each layer. In conv6 for MNIST, at
    quick scale, boxes are 14 million times as wide at the last bend as at the pixels, and trainings
    for eps 0.1 and 0.3 fell to chance when eps began to grow. With two weights of the same norm
    boxes are 8 times as wide. (Shi et al. 2021 draw smaller weights instead, and add batch
    normalisation, which keeps the signal.)
    """

    citation: ClassVar[str] = "Gowal et al. 2018"

    name: Literal["ibp"] = "ibp"
    eps: Eps = Field(8 / 255, description="budget in the end, pixels in [0, 1]")
    kappa: Share = Field(0.5, description="weight of the clean images' loss in the end")
    warm_up: Share = Field(0.05, description="share of the training with eps 0 and kappa 1")
    ramp: Share = Field(0.5, description="share of it that eps and kappa take to move")
    weights: Count = Field(2, description="of each neuron before the last bend, not 0 at the start")

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """The data set's budget, or :data:`LARGEST_EPS` where it is larger."""
        return {"eps": min(data.eps, LARGEST_EPS)}

    def initialise(self, network: nn.Module) -> None:
        """Keep each neuron's largest weights before the last bend, at the norm of all."""
        followed = _followed(network)
        for layer in followed.layers[: _last_bend(followed)]:
            if isinstance(layer.operation, affine.Convolution | affine.FullyConnected):
                with torch.no_grad():
                    weight = layer.operation.module.weight
                    weight.copy_(_sparse(weight.flatten(1), self.weights).view_as(weight))

    def step(
        self,
        model: SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing random
    ) -> Step:
        """The criterion's terms on the clean images, and the worst case's."""
        followed = _followed(model.classifier)
        with ExitStack() as hooks:
            for layer in followed.layers:
                if isinstance(layer.operation, affine.BatchNormalisation):
                    hooks.enter_context(layer.operation.statistics_of_next_batch())
            found = forward_pass(model, images, labels)
            share = (model.trained - self.warm_up) / max(self.ramp, 1e-9)
            moved = share.clamp(0, 1)
            with torch.autocast(images.device.type, enabled=False):
                bounded = partial(worst_logits, followed, eps=moved * self.eps)
                worst = shares.in_shares(bounded, images, labels)
        kappa = 1 - moved * (1 - self.kappa)
        terms = found.terms(model)
        return found.step(
            {
                **{name: kappa * value for name, value in terms.items()},
                "worst_case_cross_entropy": (1 - kappa) * F.cross_entropy(worst, 0 * labels),
            }
        )


def worst_logits(followed: network.Network, images: Tensor, labels: Tensor, eps: Tensor) -> Tensor:
    """Logits (N, K) less the label's at their worst within eps; the label's, 0, comes first.

    Args:
        followed: the network.
        images: float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        eps: a scalar, pixels in [0, 1].
    """
    ball = operations.Box.between((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
    boxes = followed.boxes(ball)
    bounds = crown.Bounds(followed, boxes, [torch.zeros_like(eps)] * len(boxes))
    margins = crown.margins(bounds, labels, back_to=_last_bend(followed))
    return F.pad(-margins, (1, 0))


def _last_bend(followed: network.Network) -> int:
    """The place of its last layer that is not affine, from 1; 0 if there is none."""
    bends = [
        place
        for place, layer in enumerate(followed.layers, start=1)
        if not isinstance(layer.operation, affine.Affine)
    ]
    return max(bends, default=0)


def _sparse(rows: Tensor, count: int) -> Tensor:
    """Each row's largest absolute values, so many, at the row's norm; 0 for the others."""
    places = rows.abs().topk(min(count, rows.shape[1]), dim=1).indices
    kept = torch.zeros_like(rows).scatter(1, places, rows.gather(1, places))
    scaled: Tensor = F.normalize(kept) * torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return scaled


def _followed(classifier: nn.Module) -> network.Network:
    """Its layers.

    Raises:
        UserError: one has no bounds.
    """
    if classifier not in _NETWORKS:
        try:
            _NETWORKS[classifier] = network.network_of(classifier)
        except network.NotSupportedError as error:
            raise UserError(
                f"ibp cannot bound this network: {error}.",
                "Take conv6, resnet20, vgg19 or another one of layers that it can.",
            ) from error
    return _NETWORKS[classifier]
