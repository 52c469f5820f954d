"""Models and images that go wrong, or might: each with what is to be said of it, if anything."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from zoo_architectures import CLASSES, settled
from zoo_odd_models import (
    MOVED,
    Normed,
    Rule,
    around,
    brighter,
    by_batch,
    constant,
    counting,
    darker,
    dimmed,
    dimmed_where_no_grad_is_asked,
    dimmed_without_grad,
    dropping,
    early,
    early_by_mask,
    for_larger,
    fresh,
    from_roots,
    gated,
    in_train_mode,
    lazy,
    no_slope_somewhere,
    noisy,
    not_finite_somewhere,
    not_finite_when_moved,
    of_batch,
    one_hot,
    rotated,
    routed,
    simple,
    stubborn,
    tensor_hook,
    thresholded,
    transposed,
    two_classes,
    weaker_backward,
    whole,
)

Given = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Odd:
    """A model, and what to expect of attacking it.

    Attributes:
        builder: makes it.
        expectation: what the error's text must match, whatever the case; None if the fast way is
            to come to what the exact one comes to.
        warning: what a warning's text must match; None if there is to be none.
        may_be_silent: or there is none.
        given: makes of images and labels what the model is attacked with.
        about_given: the error is about that, and so a ValueError, too.
        eps: where another one than the plain network's is needed.
    """

    builder: Callable[[], nn.Module]
    expectation: str | None = None
    warning: str | None = None
    may_be_silent: bool = False
    given: Given = lambda images, labels: (images, labels)
    about_given: bool = False
    eps: float | None = None


def odd(rule: Rule, expectation: str | None = None, **other: Any) -> Odd:
    return Odd(partial(around, rule), expectation, **other)


def changed(change: Callable[[nn.Module], object]) -> Odd:
    """The plain network, changed in place."""
    return Odd(partial(simple, change))


def given(change: Given, expectation: str | None = None) -> Odd:
    """The plain network, given something else than it should be."""
    return Odd(simple, expectation, given=change, about_given=expectation is not None)


def pinned(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone()
    images[:, 0, 0, :2] = 0.5
    return images, labels


def unlabelled(value: int) -> Given:
    """One label that there is no class for."""
    return lambda images, labels: (images, labels.index_fill(0, torch.tensor([3]), value))


def pixel(value: float) -> Given:
    """One pixel that is none."""
    place = torch.zeros(24, 3, 16, 16).bool()
    place[2, 1, 7, 9] = True
    return lambda images, labels: (images.masked_fill(place, value), labels)


def as_dtype(kind: torch.dtype) -> Given:
    return lambda images, labels: (images.to(kind), labels)


NO_SLOPE = "gradient|finite|nan"
TWO_TYPES = "float64.*float32|float32.*float64"
SHAPE_WORDS = r"\(N, K\)|shape|logits|classes"

ODD: dict[str, Odd] = {
    "early exit": odd(early),
    "early exit by mask": odd(early_by_mask),
    "gated by a mask": odd(gated),
    "a block twice for hard images": odd(routed),
    "a threshold that is an attribute": odd(thresholded),
    "images changed in place": odd(dimmed),
    "changed in place without grad": odd(dimmed_without_grad),
    "changed in place if no grad is asked": odd(dimmed_where_no_grad_is_asked),
    "hook on a convolution": changed(lambda m: m[1][0].register_forward_hook(brighter)),
    "hook on a batch norm": changed(lambda m: m[1][1].register_forward_hook(rotated)),
    "hook on the root": changed(lambda m: m.register_forward_hook(rotated)),
    "pre-hook on a convolution": changed(lambda m: m[1][0].register_forward_pre_hook(darker)),
    "pre-hook on a batch norm": changed(lambda m: m[1][1].register_forward_pre_hook(darker)),
    "pre-hook on the root": changed(lambda m: m.register_forward_pre_hook(darker)),
    "hook on a tensor's gradient": odd(tensor_hook),
    "backward hook on a convolution": changed(
        lambda m: m[1][0].register_full_backward_hook(weaker_backward)
    ),
    "weight normed by an own hook": Odd(lambda: settled(Normed)),
    "tied to its own transpose": Odd(transposed),
    "half precision": Odd(lambda: simple().half(), given=as_dtype(torch.float16)),
    "double precision": Odd(lambda: simple().double(), given=as_dtype(torch.float64)),
    "channels last": Odd(lambda: simple().to(memory_format=torch.channels_last)),
    "roots of pixels": odd(from_roots, warning=NO_SLOPE, may_be_silent=True),
    "not finite when moved": odd(
        not_finite_when_moved, warning=NO_SLOPE, may_be_silent=True, given=pinned, eps=2 * MOVED
    ),
    "no slope somewhere": odd(no_slope_somewhere, warning=NO_SLOPE),
    "two classes": Odd(two_classes),
    "lazy modules, seen once": Odd(lazy),
    "in train mode": Odd(in_train_mode),
    "frozen in part, with gradients": Odd(lambda: fresh(simple())),
    "frozen": Odd(lambda: simple().requires_grad_(False)),
    "images that require grad": given(lambda images, labels: (images.requires_grad_(), labels)),
    "exit decided by the batch": odd(by_batch, "batch"),
    "centred by the batch": odd(lambda self, x: self.model(x) - self.model(x).mean(dim=0), "batch"),
    "dropout left on": odd(dropping, "random"),
    "noise added": odd(noisy, "random"),
    "a counter": odd(counting, "random|twice"),
    "statistics of the batch": Odd(of_batch, "batch"),
    "never in eval mode, with batch norm": Odd(stubborn, "random|batch"),
    "never in eval mode, with dropout": Odd(lambda: stubborn(nn.Dropout(0.3)), "random|batch"),
    "not finite somewhere": odd(not_finite_somewhere, "finite"),
    "one logit": odd(lambda self, images: self.model(images)[:, :1], SHAPE_WORDS),
    "logits (N,)": odd(lambda self, images: self.model(images)[:, 0], SHAPE_WORDS),
    "logits (N, K, 1, 1)": odd(lambda self, x: self.model(x)[:, :, None, None], SHAPE_WORDS),
    "logits and features": odd(lambda self, images: (self.model(images), images), "tuple"),
    "a dict of logits": odd(lambda self, images: {"logits": self.model(images)}, "dict"),
    "argmax": odd(one_hot, "gradient"),
    "detached": odd(lambda self, images: self.model(images).detach(), "gradient"),
    "no grad": odd(torch.no_grad()(whole), "gradient"),
    "inference mode": odd(torch.inference_mode()(whole), "gradient"),
    "integer logits": odd(lambda self, images: (9 * self.model(images)).long(), "int64|integer"),
    "rounded images": odd(lambda self, images: self.model(images.round()), "gradient"),
    "constant": odd(constant, "gradient"),
    "another image size": Odd(for_larger, r"3, 16, 16"),
    "float64 model, float32 images": Odd(lambda: simple().double(), TWO_TYPES),
    "label -1": given(unlabelled(-1), "label.*-1"),
    "label K": given(unlabelled(CLASSES), r"label.*\b5\b"),
    "uint8 images": given(lambda images, labels: ((255 * images).byte(), labels), "uint8"),
    "a pixel of 1.0000001": given(pixel(1.0000001), r"1\.0000001"),
    "a pixel of -1e-7": given(pixel(-1e-7), r"-(1|9\.9)\d*(\.\d+)?e-0?[78]|-0\.0000001"),
    "a pixel of 255": given(pixel(255.0), "255"),
    "a pixel that is not a number": given(pixel(torch.nan), "nan|finite|not a number"),
}
"""For images (3, 16, 16) in [0, 1], of five classes but where it says so."""
