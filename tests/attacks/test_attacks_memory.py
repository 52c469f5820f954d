"""Where memory is too small, batches are halved, and nobody is lost."""

import pytest
import torch
from attack_models import case_of
from attack_toys import (
    EARLY_STOP,
    Threshold,
    Watched,
    Watcher,
    attacked,
    chunks_of,
    collected,
    generator,
    greys,
    predictions,
    random_images,
    streamed,
)

from robustbench_pcl.attacks import BIM, CW, PGD, target
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.target import TargetModel

OUT_OF_MEMORY = torch.OutOfMemoryError


@pytest.mark.parametrize("shortcuts", [EXACT, EARLY_STOP], ids=str)
@pytest.mark.parametrize("attack", [BIM(eps=0.1), CW(c=1.0, steps=10)], ids=str)
def test_on_out_of_memory_batches_are_halved_and_nobody_is_lost(attack, shortcuts, batches_of):
    batches_of(16)
    images, labels = greys(40), torch.zeros(40).long()
    expected = attacked(attack, Threshold(), images, labels, shortcuts)
    model = Watched(Threshold(), 5)
    adversarial, classes = streamed(attack, model, images, [40], shortcuts)
    assert torch.equal(adversarial, expected.adversarial)
    assert max(model.attacked) == 4
    assert torch.equal(classes, expected.classes)
    known = classes >= 0
    assert torch.equal(classes[known], predictions(model.model, adversarial[known]))


class NoRoomForVerdicts(Watcher):
    """There is memory for all steps, but not for verdicts."""

    def forward(self, images):
        if not torch.is_grad_enabled() and len(images) > self.most:
            raise OUT_OF_MEMORY("CUDA out of memory")
        return images


def test_verdicts_are_halved_too_and_come_in_order(batches_of):
    batches_of(16)
    images, labels = greys(40), torch.zeros(40).long()
    expected = attacked(BIM(eps=0.1), Threshold(), images, labels, EARLY_STOP)
    model = Watched(Threshold())
    model.watcher = NoRoomForVerdicts(most=3)
    found = attacked_without_judging(model, images, labels)
    assert torch.equal(found[0], expected.adversarial)
    assert torch.equal(found[1], expected.classes)
    assert found[2] == 2


def attacked_without_judging(model, images, labels):
    """Images, classes, and how many images are passed at the end."""
    with TargetModel(model, EARLY_STOP) as entered:
        chunks = chunks_of(images, labels, [40])
        made, classes = collected(BIM(eps=0.1).stream(entered, chunks, 40), images)
        return made, classes, entered.batch_size


def test_logits_of_many_are_those_of_each_after_halving(batches_of):
    batches_of(16)
    images = random_images(21, 1, 1, 1)
    with TargetModel(Watched(Threshold(), 5)) as entered:
        logits = entered.logits(images)
        assert (entered.batch_size, entered.forward_passes) == (4, 21)
    assert torch.equal(logits, Threshold()(images))


def test_the_call_of_an_attack_halves_batches_too(batches_of):
    batches_of(16)
    images, labels = greys(40), torch.zeros(40).long()
    expected = PGD(eps=0.05)(Threshold(), images, labels, generator=generator())
    found = PGD(eps=0.05)(Watched(Threshold(), 9), images, labels, generator=generator())
    assert torch.equal(found, expected)


def test_a_model_is_tried_on_no_more_images_than_there_is_memory_for(batches_of):
    batches_of(16)
    images, labels = greys(40), torch.zeros(40).long()
    expected = PGD(eps=0.05)(Threshold(), images, labels, generator=generator())
    found = PGD(eps=0.05)(Watched(Threshold(), 7), images, labels, generator=generator())
    assert torch.equal(found, expected)


def test_a_fast_model_for_which_memory_was_too_small_is_made_with_smaller_batches(batches_of):
    batches_of(16)
    case, said = case_of("normed_net"), []
    shortcuts = Shortcuts(folded=True, early_stop=True)
    with TargetModel(Watched(case.model, 7), shortcuts, say=said.append) as entered:
        chunks = chunks_of(case.images, case.labels, [16])
        collected(BIM(eps=0.04).stream(entered, chunks, 16), case.images)
        assert entered.batch_size == 4
        assert entered.fast is not None or said


def test_a_copy_for_which_there_is_no_memory_is_an_error_or_is_said(monkeypatch):
    def too_large(*_given):
        raise OUT_OF_MEMORY("CUDA out of memory")

    monkeypatch.setattr(target, "FastModel", too_large)
    case, said, failed = case_of("normed_net"), [], False
    with TargetModel(case.model, Shortcuts(folded=True), say=said.append) as entered:
        chunks = chunks_of(case.images, case.labels, [16])
        try:
            collected(BIM(eps=0.04).stream(entered, chunks, 16), case.images)
        except OUT_OF_MEMORY:
            failed = True
        assert failed or (said and not entered.shortcuts.folded)


def test_where_not_even_one_image_fits_the_error_is_passed_on():
    labels = torch.zeros(4).long()
    with pytest.raises(OUT_OF_MEMORY):
        PGD(eps=0.05)(Watched(Threshold(), 0), greys(4), labels)
    with pytest.raises(OUT_OF_MEMORY):
        streamed(PGD(eps=0.05), Watched(Threshold(), 0), greys(4), [4])
