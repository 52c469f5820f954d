"""Fashion-MNIST: articles of clothing."""

from robustbench_pcl.data.spec import DatasetSpec

SPEC = DatasetSpec(
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
    carlini_wagner_c=10,
    model="conv6",
    license="MIT",
    citation="Xiao, Rasul & Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
    torchvision="FashionMNIST",
    debian="dataset-fashion-mnist",
)
