"""The data sets there are, and what is known of each before a single image is read.

A new one is a ``DatasetSpec`` in ``SPECS``; one from outside the package is added with
:func:`add_dataset`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from robustbench_pcl.errors import unknown_name
from robustbench_pcl.registry import check_target, new_name

Augmentation = Literal["crop", "flip"]

PART = "a part of the published set"
"""Stands beside images whose number is not known."""


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

    def counts(self, training: int, test: int) -> str:
        """How many of the published images there are, in words."""
        return (
            f"{training:,} of {self.train_images:,} training and "
            f"{test:,} of {self.test_images:,} test images"
        )

    def training_count(self, words: str) -> int | None:
        """How many training images there are, by words that hold those of :meth:`counts`.

        All of them where the words hold no count; None if they only say that it is a part.
        """
        found = re.search(rf"([\d,]+) of {self.train_images:,} training ", words)
        if found:
            return int(found[1].replace(",", ""))
        return None if PART in words else self.train_images


CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle
bowl boy bridge bus butterfly camel can castle caterpillar cattle
chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

SPECS = (
    DatasetSpec(
        name="digits",
        title="Digits",
        shape=(1, 8, 8),
        classes=tuple("0123456789"),
        train_images=1_297,
        test_images=500,
        augmentation=(),
        eps=0.1,
        training_eps=(1 / 30, 1 / 6),  # the same proportion to eps as on MNIST
        carlini_wagner_c=10.0,
        model="conv6",
        license="CC BY 4.0",
        citation="Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
    ),
    DatasetSpec(
        name="mnist",
        title="MNIST",
        shape=(1, 28, 28),
        classes=tuple("0123456789"),
        train_images=60_000,
        test_images=10_000,
        augmentation=(),
        eps=0.3,
        training_eps=(0.1, 0.5),
        carlini_wagner_c=10.0,
        model="conv6",
        license="CC BY-SA 3.0, as commonly stated",
        citation="LeCun, Bottou, Bengio & Haffner, Gradient-based learning applied to document "
        "recognition, Proc. IEEE, 1998",
        torchvision="MNIST",
    ),
    DatasetSpec(
        name="fmnist",
        title="F-MNIST",
        shape=(1, 28, 28),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        train_images=60_000,
        test_images=10_000,
        augmentation=(),
        eps=0.3,
        training_eps=(0.1, 0.5),
        carlini_wagner_c=10.0,
        model="conv6",
        license="MIT",
        citation="Xiao, Rasul & Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
        torchvision="FashionMNIST",
        debian="dataset-fashion-mnist",
    ),
    DatasetSpec(
        name="cifar10",
        title="CIFAR-10",
        shape=(3, 32, 32),
        classes=tuple(CIFAR10_CLASSES.split()),
        train_images=50_000,
        test_images=10_000,
        augmentation=("crop", "flip"),
        eps=0.03,
        training_eps=(0.01, 0.05),
        carlini_wagner_c=0.1,
        model="resnet110",
        license="no formal licence; the authors ask to be cited",
        citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        torchvision="CIFAR10",
    ),
    DatasetSpec(
        name="cifar100",
        title="CIFAR-100",
        shape=(3, 32, 32),
        classes=tuple(CIFAR100_CLASSES.split()),
        train_images=50_000,
        test_images=10_000,
        augmentation=("crop", "flip"),
        eps=0.03,
        training_eps=(0.01, 0.05),
        carlini_wagner_c=0.1,
        model="resnet110",
        license="no formal licence; the authors ask to be cited",
        citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        torchvision="CIFAR100",
    ),
    DatasetSpec(
        name="svhn",
        title="SVHN",
        shape=(3, 32, 32),
        classes=tuple("0123456789"),
        train_images=73_257,
        test_images=26_032,
        augmentation=("crop",),  # a mirrored digit is another digit
        eps=0.03,
        training_eps=(0.01, 0.05),
        carlini_wagner_c=0.1,
        model="resnet110",
        license="for non-commercial use",
        citation="Netzer et al., Reading Digits in Natural Images with Unsupervised Feature "
        "Learning, NIPS workshop, 2011",
        torchvision="SVHN",
    ),
)

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in SPECS}

OWN_SOURCES: dict[str, str] = {}
"""Data sets that brought a source of their own: name -> "module:attribute"."""


def add_dataset(spec: DatasetSpec, find: str | None = None) -> None:
    """Add a data set from outside the package; the same once more changes nothing.

    Args:
        spec: what is known about it.
        find: "module:attribute" of the function that reads its images, a ``Find`` of
            :mod:`robustbench_pcl.data.loader`; None if the images are where the other data
            sets' are, or will be given to ``pclbench data add``.

    Raises:
        UserError: its name is taken or cannot be one, or ``find`` is not of that form.
    """
    if find is not None:
        check_target(f"source of data set {spec.name}", find)
    if (DATASETS.get(spec.name), OWN_SOURCES.get(spec.name)) == (spec, find):
        return
    DATASETS[new_name("data set", spec.name, DATASETS)] = spec
    if find is not None:
        OWN_SOURCES[spec.name] = find


def dataset_spec(name: str) -> DatasetSpec:
    """Look a data set up by its name.

    Raises:
        UserError: there is none of that name; the message suggests the nearest.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]
