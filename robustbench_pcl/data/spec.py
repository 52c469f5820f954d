"""What is known about a data set before a single image is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Augmentation = Literal["crop", "flip"]


@dataclass(frozen=True)
class DatasetSpec:
    """A data set as published, and the paper's settings for it.

    Attributes:
        name: what users type ("fmnist").
        title: what the paper's tables print ("F-MNIST").
        shape: channels, height and width of an image.
        classes: names in label order.
        train_images: images in the published training set.
        test_images: images in the published test set.
        augmentation: what training does to every image: "crop" shifts it by up to 4 pixels,
            "flip" mirrors it left to right half of the time.
        eps: standard L-infinity budget, in pixels of [0, 1].
        training_eps: interval that adversarial training draws its budget from, in pixels of [0, 1].
        carlini_wagner_c: the constant c of the Carlini & Wagner attack.
        model: default architecture, a name in the family of models.
        license: on which terms the images are given.
        citation: whom to cite.
        torchvision: its class in ``torchvision.datasets``, or "".
        debian: the Debian package that installs it, or "".
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_images: int
    test_images: int
    augmentation: tuple[Augmentation, ...]
    eps: float
    training_eps: tuple[float, float]
    carlini_wagner_c: float
    model: str
    license: str
    citation: str
    torchvision: str = ""
    debian: str = ""
