"""Batches: every image once, each augmented by itself, the same from the same seed."""

import numpy as np
import pytest
import torch

from robustbench_pcl import load_images
from robustbench_pcl.data.batches import CROP_PADDING, DeviceSplit, augment, pixels
from robustbench_pcl.data.dataset import Split
from robustbench_pcl.data.loader import load
from robustbench_pcl.errors import InvalidInputError, UserError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_split(count: int, shape=(3, 32, 32)) -> Split:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    images.flags.writeable = False
    return Split(images, np.arange(count) % 10, "")


def test_every_image_once_with_its_label():
    split = make_split(50)
    data = DeviceSplit(split, "cpu")
    seen = []
    for images, labels, indices in data.epoch(16, seeded()):
        assert images.dtype == torch.float32
        assert labels.dtype == indices.dtype == torch.int64
        assert torch.equal(images, pixels(torch.tensor(split.images[indices.numpy()])))
        assert np.array_equal(labels, split.labels[indices])
        seen += indices.tolist()
    assert sorted(seen) == list(range(50))
    assert seen != sorted(seen)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(50, 16, [16, 16, 16, 2]), (33, 16, [16, 16]), (32, 16, [16, 16]), (3, 1, [1, 1, 1])],
)
def test_a_last_batch_of_one_image_is_left_out(count, batch_size, sizes):
    data = DeviceSplit(make_split(count), "cpu")
    assert [len(labels) for _, labels, _ in data.epoch(batch_size, seeded())] == sizes


def test_only_the_first_images():
    data = DeviceSplit(make_split(50), "cpu", first=20)
    assert len(data) == 20
    assert data.images.dtype == torch.uint8
    (batch,) = data.epoch(20, seeded())
    assert sorted(batch[2].tolist()) == list(range(20))


def test_pixels_are_exact():
    values = pixels(torch.arange(256, dtype=torch.uint8))
    assert values.dtype == torch.float32
    assert (values[0], values[255]) == (0, 1)
    assert torch.equal((values * 255).round(), torch.arange(256.0))


@pytest.mark.parametrize(("split", "n"), [("test", 7), ("train", 3), ("test", None)])
def test_images_of_a_data_set_as_tensors(split, n):
    images, labels = load_images("digits", n, split=split)
    stored = getattr(load("digits"), split)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert np.array_equal(images.numpy(), stored.images[:n].astype(np.float32) / np.float32(255))
    assert np.array_equal(labels, stored.labels[:n])
    images.zero_()  # a copy, so that the cache stays as it is
    assert load("digits").test.images[:n].any()


@pytest.mark.parametrize("n", [0, -1, 10_000])
def test_more_images_than_there_are_and_none_are_refused(n):
    with pytest.raises(InvalidInputError, match=f"n is {n}"):
        load_images("digits", n)


def test_a_split_or_data_set_that_is_not_there_is_named():
    with pytest.raises(InvalidInputError, match="'validation'"):
        load_images("digits", split="validation")
    with pytest.raises(UserError, match="digit"):
        load_images("digit")


def naive(image: torch.Tensor, down: int, right: int, mirrored: bool) -> torch.Tensor:
    channels, height, width = image.shape
    padded = torch.zeros(
        channels, height + 2 * CROP_PADDING, width + 2 * CROP_PADDING, dtype=image.dtype
    )
    padded[:, CROP_PADDING:-CROP_PADDING, CROP_PADDING:-CROP_PADDING] = image
    cropped = padded[:, down : down + height, right : right + width]
    return cropped.flip(2) if mirrored else cropped


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (2, 5, 9)])
@pytest.mark.parametrize("augmentation", [("crop", "flip"), ("crop",), ("flip",), ()])
def test_augmentation_equals_a_loop_over_images(shape, augmentation):
    images = torch.tensor(make_split(64, shape).images)
    generator = seeded(3)
    shifts = torch.full((2, 64, 1), CROP_PADDING)
    mirrored = torch.zeros(64, 1, dtype=torch.bool)
    if "crop" in augmentation:
        shifts = torch.randint(9, (2, 64, 1), generator=generator)
    if "flip" in augmentation:
        mirrored = torch.rand((64, 1), generator=generator) < 0.5
    expected = torch.stack(
        [
            naive(image, int(down), int(right), bool(flip))
            for image, down, right, flip in zip(images, *shifts, mirrored, strict=True)
        ]
    )
    assert torch.equal(augment(images, seeded(3), augmentation), expected)


def test_images_of_a_batch_are_augmented_differently():
    image = torch.tensor(make_split(1).images)
    augmented = augment(image.expand(256, -1, -1, -1), seeded(), ("crop", "flip"))
    assert len(torch.unique(augmented.flatten(1), dim=0)) > 100  # of 2 x 9 x 9 = 162


def test_all_shifts_and_both_directions_occur():
    image = torch.tensor(make_split(1).images)
    augmented = augment(image.expand(5000, -1, -1, -1), seeded(), ("crop", "flip"))
    assert len(torch.unique(augmented.flatten(1), dim=0)) == 162


def epochs(device: str, seed: int) -> list[torch.Tensor]:
    data, generator = DeviceSplit(make_split(50), device), seeded(seed)
    return [
        part.cpu()
        for _ in range(2)
        for batch in data.epoch(16, generator, ("crop", "flip"))
        for part in batch
    ]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_the_seed_decides_everything():
    torch.manual_seed(1)
    first = epochs("cpu", 0)
    torch.manual_seed(2)  # the global generator must not matter
    assert same(first, epochs("cpu", 0))
    assert not same(first, epochs("cpu", 1))
    half = len(first) // 2
    assert not same(first[:half], first[half:])  # the second epoch has another order


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_every_device_gives_the_same_batches():
    assert same(epochs("cpu", 0), epochs("cuda", 0))
