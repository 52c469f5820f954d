"""What the attacks of these tests attack, and how many images are passed at once."""

import pytest
from attack_toys import conv_net, predictions, random_images, some_wrong

from robustbench_pcl.attacks import target


class Case:
    """A model in train mode, images of which some are black and white, labels of which some err."""

    def __init__(self) -> None:
        self.model = conv_net()
        self.images = random_images(64, 2, 6, 6)
        self.images[:8] = self.images[:8].round()
        self.labels = some_wrong(predictions(self.model, self.images), 5)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture
def batches_of(monkeypatch):
    """Set the number of images per pass."""
    return lambda size: monkeypatch.setitem(target.BATCH, "cpu", size)
