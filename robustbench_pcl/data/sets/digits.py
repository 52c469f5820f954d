"""Scikit-learn's handwritten digits: tiny, always there, for trying things out."""

from robustbench_pcl.data.spec import DatasetSpec

SPEC = DatasetSpec(
    name="digits",
    title="Digits",
    shape=(1, 8, 8),
    classes=tuple("0123456789"),
    train_images=1_297,
    test_images=500,
    augmentation=(),
    eps=0.1,
    training_eps=(1 / 30, 1 / 6),  # the same proportion to eps as on MNIST
    carlini_wagner_c=10,
    model="conv6",
    license="CC BY 4.0",
    citation="Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
)
