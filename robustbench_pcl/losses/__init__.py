"""Losses on the features of a network's layers, which are minimised beside cross-entropy.

Their configurations stand here, so that recipes are made without torch; what computes them is in
the modules beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from pydantic import Field

from robustbench_pcl.configuration import Configuration, Positive, later
from robustbench_pcl.registry import ConfigurationFamily, resolve

if TYPE_CHECKING:
    from robustbench_pcl.losses.criterion import FeatureLoss

CROSS_ENTROPY = "cross-entropy"
"""The name of having no further loss."""
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class LossConfiguration(Configuration):
    """The base class of all losses' configurations.

    A member of the family names its parameters, each with a default and a description. All of them
    are part of a recipe and so of its id; the module that computes the loss has no defaults.

    Attributes:
        implementation: the module that computes it, ``"package.module:Class"``. It is called with
            the dimension of the features, the number of classes, and the parameters by name.
        with_cross_entropy: whether the network has a final FC(K) layer that learns by
            cross-entropy beside this loss.
        has_anchors: whether it gives each class a point among the features, which an image may be
            near to (Eq. 7).
    """

    implementation: ClassVar[str]
    with_cross_entropy: ClassVar[bool] = True
    has_anchors: ClassVar[bool] = False

    def build(self, dimension: int, classes: int) -> FeatureLoss:
        """The loss on one layer.

        Args:
            dimension: of the layer's features, D.
            classes: number of classes, K.

        Raises:
            UserError: the implementation cannot be imported.
        """
        parameters = {name: getattr(self, name) for name in self.parameters()}
        implementation = resolve(f"loss {self.name}", self.implementation)
        return cast("FeatureLoss", implementation(dimension, classes, **parameters))


class CrossEntropy(LossConfiguration):
    r"""Cross-entropy on the logits and nothing else (Eq. 1).

    .. math::

        \mathcal{L}_{CE} = -\log \frac{\exp z_y}{\sum_j \exp z_j}
    """

    name: Literal["cross-entropy"] = "cross-entropy"


class PCL(LossConfiguration):
    r"""The Prototype Conformity Loss of Eq. 5, made to train.

    Minimised is, on all feature layers l together (Eq. 8 to 10),

    .. math::

        \mathcal{L} = \mathcal{L}_{CE} + \tau \sum_l \mathcal{L}_{PC}(f^l, y)
    """

    implementation: ClassVar[str] = "robustbench_pcl.losses.prototype:PrototypeConformity"
    has_anchors: ClassVar[bool] = True

    name: Literal["pcl"] = "pcl"
    separation: Positive = Field(
        4.0, description="how far apart classes are pushed, in units of their distance at the start"
    )
    weight: Weight = Field(1.0, description="tau in Algorithm 1")


class PCLAuthors(LossConfiguration):
    """The loss that the authors' published code minimises, which differs from Eq. 5."""

    implementation: ClassVar[str] = "robustbench_pcl.losses.prototype:AuthorsConformity"
    has_anchors: ClassVar[bool] = True

    name: Literal["pcl-authors"] = "pcl-authors"
    repulsion: Positive = Field(1e-4, description="weight of the repelling term")
    weight: Weight = Field(1.0, description="weight of the attracting term")
    repelling_rate: Positive = later(1.0, "factor on the rate at which repelling centres learn")


class Center(LossConfiguration):
    """The center loss of Wen et al. (2016), Eq. 11-13, with their parameters."""

    implementation: ClassVar[str] = "robustbench_pcl.losses.metric:CenterLoss"
    has_anchors: ClassVar[bool] = True

    name: Literal["center"] = "center"
    alpha: Share = Field(0.5, description="rate of the class centres, Eq. 12")
    weight: Weight = Field(0.003, description="lambda, beside cross-entropy")


class MetricConfiguration(LossConfiguration):
    """What losses on pairs and triplets of images have in common (Section 6.3)."""

    with_cross_entropy: ClassVar[bool] = False
    has_anchors: ClassVar[bool] = True

    margin: Positive = Field(3.0, description="m, in units of the distance between classes")
    alpha: Share = Field(0.5, description="rate of the class centres, Eq. 12")
    weight: Weight = Field(1.0, description="factor on the loss")


class Contrastive(MetricConfiguration):
    """The contrastive loss of Hadsell et al. (2006), Eq. 14."""

    implementation: ClassVar[str] = "robustbench_pcl.losses.metric:ContrastiveLoss"

    name: Literal["contrastive"] = "contrastive"


class Triplet(MetricConfiguration):
    """The triplet loss of Schroff et al. (2015), Eq. 15."""

    implementation: ClassVar[str] = "robustbench_pcl.losses.metric:TripletLoss"

    name: Literal["triplet"] = "triplet"


class DeepSoftmax(LossConfiguration):
    """Deep supervision by cross-entropy: a classifier at every feature layer (Table 10, left)."""

    implementation: ClassVar[str] = "robustbench_pcl.losses.criterion:DeepSoftmax"

    name: Literal["deep-softmax"] = "deep-softmax"
    weight: Weight = Field(1.0, description="factor on the cross-entropy")


LOSSES: ConfigurationFamily[LossConfiguration] = ConfigurationFamily(
    "loss",
    {
        CROSS_ENTROPY: "robustbench_pcl.losses:CrossEntropy",
        "pcl": "robustbench_pcl.losses:PCL",
        "pcl-authors": "robustbench_pcl.losses:PCLAuthors",
        "center": "robustbench_pcl.losses:Center",
        "contrastive": "robustbench_pcl.losses:Contrastive",
        "triplet": "robustbench_pcl.losses:Triplet",
        "deep-softmax": "robustbench_pcl.losses:DeepSoftmax",
    },
)
