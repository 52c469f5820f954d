"""SVHN: house numbers in street photographs, cropped to single digits."""

from robustbench_pcl.data.spec import DatasetSpec

SPEC = DatasetSpec(
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
    citation="Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, "
    "NIPS workshop, 2011",
    torchvision="SVHN",
)
