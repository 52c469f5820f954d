"""What the attacks of these tests attack."""

import pytest
from attack_toys import (
    conv_net,
    predictions,
    random_images,
    some_wrong,
)


class Case:
    def __init__(self) -> None:
        self.model = conv_net()
        self.images = random_images(64, 2, 6, 6)
        self.images[:8] = self.images[:8].round()
        self.labels = some_wrong(predictions(self.model, self.images), 5)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()
