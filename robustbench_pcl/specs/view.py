"""One picture of a model's features, as a question: which layer, on which images, how drawn."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from robustbench_pcl.specs.base import Part, Spec

Method = Literal["features", "tsne"]
"""How features become points in the plane: two neurons as they are, or t-SNE of any number."""


class View(Spec):
    """How to look at a model's features of test images.

    Attributes:
        layer: the layer's number in Table 1.
        method: from features to points.
        attack: white-box on the model itself; None for clean images.
        epoch: how many epochs of its own training the model has had; None for the trained model.
            Nothing is attacked before the end of a training.
    """

    layer: Annotated[int, Field(ge=1)]
    method: Method = "features"
    attack: Part | None = None
    epoch: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _attacks_a_trained_model(self) -> Self:
        if self.attack is not None and self.epoch is not None:
            raise ValueError("a model is attacked when it is trained, not in between")
        return self
