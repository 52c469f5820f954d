"""CIFAR-10: tiny photographs of ten classes."""

from robustbench_pcl.data.spec import DatasetSpec

SPEC = DatasetSpec(
    name="cifar10",
    title="CIFAR-10",
    shape=(3, 32, 32),
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
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
)
