"""Images that leave make room: full batches, nobody lost, nobody twice, memory flat."""

import pytest
import torch
from attack_toys import SIGN_ATTACKS, Constant, generator, predictions, random_images, short
from engine_toys import case_of
from torch import nn

from robustbench_pcl.attacks import BIM, CW, PGD
from robustbench_pcl.attacks.base import Chunk, Goal, draw_seeds
from robustbench_pcl.engine.shortcuts import EXACT, Shortcuts
from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.evaluation.judging import judged

RETIRING = Shortcuts(retiring=True)


class Sizes(nn.Module):
    """A model that remembers how many images its passes had, with a gradient and without."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model
        self.attacked: list[int] = []
        self.judged: list[int] = []

    def forward(self, images):
        (self.attacked if torch.is_grad_enabled() else self.judged).append(len(images))
        return self.model(images)


class Threshold(nn.Module):
    """Class 1 above one half."""

    def forward(self, images):
        value = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack([-value, value], dim=1)


def greys(count):
    """Images of class 0 that need between one and all of ten steps of 0.01, or more than those."""
    return (0.5 - 0.13 * random_images(count, 1, 1, 1, seed=2)).clone()


def chunks_of(images, labels, sizes, drawn=None):
    """The images in chunks of given sizes; whoever takes one leaves a note."""
    start, seeds = 0, draw_seeds(len(images), generator())
    for size in sizes:
        rows = torch.arange(start, start + size)
        start += size
        if drawn is not None:
            drawn.append(size)
        yield Chunk(rows, images[rows], Goal(labels[rows]), seeds[rows])


def streamed(attack, model, images, labels, sizes, *, shortcuts=RETIRING):
    with Victim(model, shortcuts) as victim:
        chunks = chunks_of(images, labels, sizes)
        return list(judged(victim, attack.stream(victim, chunks, len(images))))


def test_every_pass_is_full_until_no_image_is_left(batches_of):
    batches_of(8)
    images, model = greys(100), Sizes(Threshold())
    labels = predictions(model, images)
    model.judged.clear()
    streamed(BIM(eps=0.1), model, images, labels, [10] * 10)
    assert labels.sum() == 0
    full = next(index for index, size in enumerate(model.attacked) if size < 8)
    assert set(model.attacked[:full]) == {8}
    rest = model.attacked[full:]
    assert rest == sorted(rest, reverse=True)  # at the end they only leave
    assert sum(rest) < 0.1 * sum(model.attacked)
    assert sum(model.attacked) < 100 * 10


def test_without_retirement_passes_are_full_too(batches_of):
    batches_of(8)
    images, model = greys(20), Sizes(Threshold())
    streamed(BIM(eps=0.1), model, images, torch.zeros(20).long(), [20], shortcuts=EXACT)
    assert model.attacked == [8] * 25
    assert sum(model.judged) == 20
    assert max(model.judged) == 8


def test_suspects_are_judged_in_full_batches(batches_of):
    """What the prepared model finds is asked of the plain one, 8 at a time but for the last."""
    batches_of(8)
    case = case_of("normed_net")
    model, labels = Sizes(case.model), case.predictions
    shortcuts = Shortcuts(folded=True, retiring=True)
    found = streamed(short("pgd", eps=0.3), model, case.images, labels, [16], shortcuts=shortcuts)
    fooled = sum(int((some.predictions != labels[some.rows]).sum()) for some in found)
    assert fooled >= 12
    assert model.attacked == [8]  # the comparison; all else is passed through the prepared model
    shown, *judged_at_once = model.judged
    assert shown == 1  # what follows what
    assert sum(judged_at_once) == 16
    assert judged_at_once[0] == 8
    assert sum(size < 8 for size in judged_at_once) <= 2  # the last suspects, the last to finish


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [0, 7, 0, 30, 3, 0]], ids=str)
@pytest.mark.parametrize("attack", [*SIGN_ATTACKS, "cw"])
def test_nobody_is_lost_and_nobody_comes_twice(attack, sizes, batches_of):
    images = greys(40)
    labels = torch.zeros(40).long()
    chosen = short(attack, 10, **({"eps": 0.1} if attack in SIGN_ATTACKS else {"c": 1.0}))
    model = Threshold()
    expected = chosen(model, images, labels, generator=generator(), shortcuts=RETIRING)
    for size in (1, 3, 16):
        batches_of(size)
        found = streamed(chosen, model, images, labels, sizes)
        rows = torch.cat([some.rows for some in found])
        assert sorted(rows.tolist()) == list(range(40))
        pixels = torch.cat([some.images for some in found])
        assert torch.equal(pixels, expected[rows])
        classes = torch.cat([some.predictions for some in found])
        assert torch.equal(classes, predictions(model, pixels))


@pytest.mark.parametrize(("shortcuts", "most"), [(RETIRING, 4), (EXACT, 3)])
def test_images_are_begun_only_when_there_is_room(shortcuts, most, batches_of):
    """Ten thousand wait, and no more than a batch and a chunk of them are under way."""
    batches_of(8)
    total, drawn, ended = 10_000, [], 0
    images, labels = torch.full((total, 1, 1, 1), 0.2), torch.zeros(total).long()
    with Victim(Threshold(), shortcuts) as victim:
        chunks = chunks_of(images, labels, [5] * (total // 5), drawn)
        stream = PGD(eps=0.1).stream(victim, chunks, total)
        assert drawn == []
        for found in stream:
            ended += len(found.rows)
            assert sum(drawn) - ended <= 5 * most
            if ended >= 400:
                break
    assert 400 <= sum(drawn) <= 400 + 5 * most + 8


def test_unconfirmed_suspects_do_not_pile_up(batches_of):
    """Whom only the prepared model finds adversarial, at every step, takes all its steps."""
    batches_of(4)

    class Differs(nn.Module):
        """In evaluations with a gradient it says 1, without one 0."""

        def forward(self, images):
            value = images.flatten(1).mean(dim=1)
            sign = 1 if torch.is_grad_enabled() else -1
            return torch.stack([-value, value], dim=1) * sign

    with Victim(Differs(), RETIRING) as victim:
        victim.plain = False
        images, labels = greys(10), torch.zeros(10).long()
        chunks = chunks_of(images, labels, [10])
        found = list(BIM(eps=0.1).stream(victim, chunks, 10))
        assert victim.backward_passes == 10 * 10
        assert victim.forward_passes == 2 * victim.backward_passes  # each step was looked at
    rows = torch.cat([some.rows for some in found])
    assert sorted(rows.tolist()) == list(range(10))
    ended = torch.cat([some.images for some in found])
    assert torch.allclose(ended, images[rows] + 0.1)
    assert all(some.predictions is None for some in found if len(some.rows))


@pytest.mark.parametrize("attack", [BIM(), CW(steps=3)], ids=str)
@pytest.mark.parametrize("sizes", [[], [0], [0, 0]], ids=str)
def test_no_images_are_no_trouble(attack, sizes):
    images, labels = random_images(0, 1, 4, 4), torch.zeros(0).long()
    assert streamed(attack, Constant(), images, labels, sizes) == []


class Crowded(Sizes):
    """A model that has memory for so many images and no more."""

    def __init__(self, model, most) -> None:
        super().__init__(model)
        self.most = most

    def forward(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError("too many")
        return super().forward(images)


@pytest.mark.parametrize("shortcuts", [EXACT, RETIRING], ids=str)
def test_where_memory_does_not_last_batches_are_halved_and_nobody_is_lost(shortcuts, batches_of):
    batches_of(16)
    images, labels = greys(40), torch.zeros(40).long()
    expected = BIM(eps=0.1)(Threshold(), images, labels, generator=generator(), shortcuts=shortcuts)
    model = Crowded(Threshold(), 5)
    found = streamed(BIM(eps=0.1), model, images, labels, [40], shortcuts=shortcuts)
    rows = torch.cat([some.rows for some in found])
    assert sorted(rows.tolist()) == list(range(40))
    assert torch.equal(torch.cat([some.images for some in found]), expected[rows])
    assert max(model.attacked) == 4
