"""A batch on several devices: each passes its share of the images, and all hold what comes of it.

Every device runs the same training on the whole batch; only what :func:`in_shares` computes is
divided. Gradients come out as on one device if those of all parameters are averaged over the
devices (as torch's DistributedDataParallel does it), whether a parameter served in shares or, the
same everywhere, outside of them. For that, a gradient that enters a share is multiplied by the
number of devices, and divided by it where it leaves. All of it can be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

T = TypeVar("T")


class Passing(nn.Module):
    """A computation as a forward pass of the module whose parameters it uses.

    Args:
        model: the module.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[..., Any], *rows: Any) -> Any:
        """What it computes of some rows."""
        return compute(*rows)


@dataclass(frozen=True)
class Share:
    """The rows of a batch that this device passes.

    Attributes:
        rank: of this device among all.
        counts: how many rows each device passes, in the order of ranks.
    """

    rank: int
    counts: tuple[int, ...]

    @property
    def rows(self) -> slice:
        """Which of the batch they are."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])


_parallel: ContextVar[DistributedDataParallel | None] = ContextVar("parallel", default=None)
"""The model in training on several devices; it passes as :class:`Passing` does."""
_share: ContextVar[Share | None] = ContextVar("share", default=None)
"""Of the batch that is passed now."""


@contextmanager
def training(parallel: DistributedDataParallel | None) -> Iterator[None]:
    """Divide batches among the devices of the process group while this lasts.

    Args:
        parallel: DistributedDataParallel around :class:`Passing`; None to divide nothing.
    """
    token = _parallel.set(parallel)
    try:
        yield
    finally:
        _parallel.reset(token)


def in_shares(compute: Callable[..., T], *rows: Any) -> T:
    """What ``compute`` makes of some rows, each device making its share.

    Batch normalisation in train mode takes the statistics of all rows. A batch of fewer rows than
    devices is computed whole by each.

    Args:
        compute: from rows to rows, no row's result depending on others but by batch normalisation:
            tensors, tuples of tensors, or dictionaries of them.
        rows: tensors or ``Rows``, with one row per image.
    """
    parallel = _parallel.get()
    if parallel is None:
        return compute(*rows)
    size = distributed.get_world_size()
    with training(None):  # what it calls in turn is in its share already
        # A pass without a gradient has none to average.
        run = partial(parallel, compute) if torch.is_grad_enabled() else compute
        if len(rows[0]) < size:
            return cast("T", run(*rows))
        least, more = divmod(len(rows[0]), size)
        counts = tuple(least + (rank < more) for rank in range(size))
        share = Share(distributed.get_rank(), counts)
        token = _share.set(share)
        try:
            with _OfTheWholeBatch() if parallel.module.model.training else nullcontext():
                made = run(*(_taken(each, share) for each in rows))
        finally:
            _share.reset(token)
    return cast("T", _joined(made, share))


def pooled(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The statistics of all rows that are passed now, from those of this device's share.

    Args:
        mean: (C,), over the share.
        variance: (C,), biased.
    """
    share = _share.get()
    if share is None:
        return mean, variance
    means, variances = _Exchanged.apply(torch.stack([mean, variance]), share.rank).unbind(dim=1)
    weights = means.new_tensor(share.counts)[:, None] / sum(share.counts)
    whole = (weights * means).sum(dim=0)
    return whole, (weights * (variances + (means - whole).square())).sum(dim=0)


class _OfTheWholeBatch(TorchFunctionMode):
    """Batch normalisation of a share by the statistics of the whole batch, on any device.

    torch's SyncBatchNorm is for CUDA alone, and cannot be differentiated twice.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, or what stands for it."""
        normalises = function is F.batch_norm and (kwargs or {}).get("training")
        return (_normalised if normalises else function)(*args, **(kwargs or {}))


def _normalised(  # noqa: PLR0917 - as torch.nn.functional.batch_norm
    values: Tensor,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,  # noqa: ARG001 - it is
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation of this device's share, (N, C, ...), in train mode."""
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    places = [0, *range(2, values.ndim)]
    mean, variance = pooled(exact.mean(dim=places), exact.var(dim=places, correction=0))
    share = _share.get()
    assert share is not None  # it is only taken within one
    count = values[:, 0].numel() // share.counts[share.rank] * sum(share.counts)
    if running_mean is not None and running_variance is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            unbiased = variance * (count / max(count - 1, 1))
            running_variance.lerp_(unbiased.to(running_variance), momentum)
    column = (-1, *[1] * (values.ndim - 2))
    factor = (variance + eps).rsqrt()
    if weight is not None:
        factor = factor * weight
    found = (exact - mean.view(column)) * factor.view(column)
    if bias is not None:
        found = found + bias.view(column)
    return found.to(values.dtype)


def _taken(rows: Any, share: Share) -> Any:
    differentiable = isinstance(rows, Tensor) and rows.requires_grad
    return _Taken.apply(rows, share, 1.0) if differentiable else rows[share.rows]


def _joined(made: Any, share: Share) -> Any:
    if isinstance(made, tuple):
        return tuple(_joined(each, share) for each in made)
    if isinstance(made, Mapping):
        return {key: _joined(each, share) for key, each in made.items()}
    return _Joined.apply(made, share, 1.0)


class _Taken(torch.autograd.Function):
    """This device's rows of what all devices have, times a number."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, share: Share, scale: float) -> Tensor:
        ctx.share, ctx.scale = share, scale
        return whole[share.rows] * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Joined.apply(gradient, ctx.share, ctx.scale / len(ctx.share.counts)), None, None


class _Joined(torch.autograd.Function):
    """The rows of all devices, times a number, on each."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, share: Share, scale: float) -> Tensor:
        ctx.share, ctx.scale = share, scale
        padded = own.new_zeros(max(share.counts), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in share.counts]
        distributed.all_gather(parts, padded)
        rows = [part[:count] for part, count in zip(parts, share.counts, strict=True)]
        joined = torch.cat(rows)
        return joined if scale == 1 else joined * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Taken.apply(gradient, ctx.share, ctx.scale * len(ctx.share.counts)), None, None


class _Exchanged(torch.autograd.Function):
    """What each device has, (devices, ...), for use in its share."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rank: int) -> Tensor:
        ctx.rank = rank
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Returned.apply(gradient, ctx.rank), None


class _Returned(torch.autograd.Function):
    """The sum of what all devices have for this one, of (devices, ...) on each."""

    @staticmethod
    def forward(ctx: Any, every: Tensor, rank: int) -> Tensor:
        ctx.rank = rank
        total = every.contiguous().clone()
        distributed.all_reduce(total)
        return total[rank]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Exchanged.apply(gradient, ctx.rank), None
