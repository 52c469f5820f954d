"""Which wrong classes are attacked, in which order, and what that costs."""

import pytest
import torch
from attack_models import case_of
from attack_toys import generator, linear_model, predictions, random_images
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Chunk, Goal, draw_seeds
from robustbench_pcl.attacks.fast_model import Shortcuts
from robustbench_pcl.attacks.ranking import Ranking
from robustbench_pcl.attacks.target import TargetModel


def chunk_of(images: Tensor, labels: Tensor, targeted: bool = False) -> Chunk:
    rows = torch.arange(len(images))
    return Chunk(rows, images, Goal(labels, targeted), draw_seeds(len(images), generator()))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_malt_puts_the_nearest_class_first_where_logits_are_linear(norm):
    """At the distance margin / |w_k - w_y| in the dual norm; the likeliest is another class."""
    model = linear_model(10, 9)
    images = random_images(60, 1, 3, 3)
    labels = predictions(model, images)
    weight, logits = model[1].weight.detach(), model(images).detach()
    slopes = (weight[labels][:, None] - weight).norm(p=1 if norm == "linf" else 2, dim=2)
    distance = (logits.gather(1, labels[:, None]) - logits) / slopes
    nearest = distance.scatter(1, labels[:, None], torch.inf).argsort(dim=1)[:, :-1]
    likeliest = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True)
    with TargetModel(model) as target:
        chunk = chunk_of(images, labels)
        assert torch.equal(Ranking("malt", norm, 9).classes(target, chunk), nearest)
        assert torch.equal(Ranking("logits", norm, 9).classes(target, chunk), likeliest[:, :-1])
    assert not torch.equal(nearest, likeliest[:, :-1])


@pytest.mark.parametrize(("classes", "backward"), [(2, 1), (10, 9), (100, 18)])
def test_malt_costs_a_backward_pass_for_each_of_the_likeliest_classes_once(classes, backward):
    model, images = linear_model(classes, 16), random_images(7, 1, 4, 4)
    chunk = chunk_of(images, predictions(model, images))
    with TargetModel(model) as target:
        first = Ranking("malt", "linf", 9).classes(target, chunk)
        assert first.shape == (7, min(9, classes - 1))
        assert (target.backward_passes, target.forward_passes) == (7 * backward, 7 * (backward + 1))
        again = Ranking("malt", "linf", 9).classes(target, chunk[torch.tensor([4, 2])])
        assert torch.equal(again, first[[4, 2]])
        assert target.backward_passes == 7 * backward
        other = chunk_of(images.flip(3), chunk.goal.labels)
        Ranking("malt", "linf", 9).classes(target, other)
        assert target.backward_passes == 14 * backward  # another image in the same row


@pytest.mark.parametrize("order", ["logits", "malt"])
def test_an_image_s_classes_do_not_depend_on_its_company_nor_on_shortcuts(order, batches_of):
    case, found = case_of("normed_net"), []
    for size, shortcuts in ((64, Shortcuts()), (3, Shortcuts(folded=True, precision="bfloat16"))):
        batches_of(size)
        with TargetModel(case.model, shortcuts) as target:
            target.prepare(lambda model, x, _: (model(x)[:, 0], model(x)), case.images, case.labels)
            ranking, chunk = Ranking(order, "l2", 2), chunk_of(case.images, case.labels)
            found.append(ranking.classes(target, chunk))
            found.append(torch.cat([ranking.classes(target, chunk[i : i + 1]) for i in range(16)]))
    assert all(torch.equal(found[0], other) for other in found)


class Certain(nn.Module):
    """Class 1 for every image; the others are alike."""

    def forward(self, images):
        return torch.tensor([0.0, 1.0, 0.0, 0.0]).to(images) + 0 * images.flatten(1)[:, :1]


@pytest.mark.parametrize("order", ["logits", "malt"])
def test_classes_that_are_alike_come_in_their_own_order(order):
    with TargetModel(Certain()) as target:
        chunk = chunk_of(random_images(3, 1, 2, 2), torch.tensor([1, 0, 3]))
        found = Ranking(order, "linf", 9).classes(target, chunk)
    assert found[0].tolist() == [0, 2, 3]
    assert found.sort(dim=1).values.tolist() == [[0, 2, 3], [1, 2, 3], [0, 1, 2]]


def test_a_rank_that_there_is_not_is_the_last():
    model = linear_model(3, 4)
    with TargetModel(model) as target:
        chunk = chunk_of(random_images(1, 1, 2, 2), torch.tensor([1]))
        pairs = Ranking("malt", "linf", 9).pairs(target, chunk, rank=5)
        last = Ranking("malt", "linf", 9).classes(target, chunk)[0, -1]
    assert pairs.tolist() == [[1, last]]
