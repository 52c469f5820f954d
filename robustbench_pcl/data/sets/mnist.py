"""MNIST: handwritten digits."""

from robustbench_pcl.data.spec import DatasetSpec

SPEC = DatasetSpec(
    name="mnist",
    title="MNIST",
    shape=(1, 28, 28),
    classes=tuple("0123456789"),
    train_images=60_000,
    test_images=10_000,
    augmentation=(),
    eps=0.3,
    training_eps=(0.1, 0.5),
    carlini_wagner_c=10,
    model="conv6",
    license="CC BY-SA 3.0, as commonly stated",
    citation="LeCun, Bottou, Bengio & Haffner, Gradient-based learning applied to document "
    "recognition, Proc. IEEE, 1998",
    torchvision="MNIST",
)
