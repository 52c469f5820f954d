"""Columns with one row per image: how images are taken apart, joined, and wait in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """Columns with one row per image: tensors, or ``Rows`` again; anything else holds for all."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """Those of some images; ``rows`` is an index, a boolean mask or a slice."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        chosen = {
            name: value[rows]
            for name, value in columns.items()
            if isinstance(value, Rows | torch.Tensor)
        }
        return replace(self, **chosen)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Those of all parts, at least one, in their order."""
        first, *others = parts
        joined: dict[str, object] = {}
        for each in fields(first) if others else ():
            values = [getattr(part, each.name) for part in parts]
            if isinstance(values[0], Rows):
                joined[each.name] = values[0].join(values)
            elif isinstance(values[0], torch.Tensor):
                joined[each.name] = torch.cat(values)
        return replace(first, **joined)


def column(values: Tensor) -> Tensor:
    """One number per image, (N,), as it stands beside images, (N, 1, 1, 1)."""
    return values[:, None, None, None]


R = TypeVar("R", bound=Rows)


def part(rows: R, mask: Tensor) -> tuple[R | None, R | None]:
    """Those in a boolean mask (N,), and the others; None for nobody, and no copy for all."""
    count = int(mask.sum())
    if count == 0:
        return None, rows
    if count == len(mask):
        return rows, None
    return rows[mask], rows[~mask]


class Queue(Generic[R]):
    """Rows that wait.

    Args:
        source: gives more of them when there are too few.
    """

    def __init__(self, source: Iterable[R] = ()) -> None:
        self._waiting: deque[R] = deque()
        self._source = iter(source)

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._waiting)

    def put(self, rows: R | None) -> None:
        """Let them wait; they come first, so that who is together stays so."""
        if rows is not None:
            self._waiting.appendleft(rows)

    def fill(self, size: int) -> None:
        """Draw from the source until that many wait."""
        while len(self) < size and (more := next(self._source, None)) is not None:
            self._waiting.append(more)

    def take(self, size: int) -> R:
        """At most ``size`` of them, at least one; the others go on waiting."""
        if len(self._waiting[0]) == size:
            return self._waiting.popleft()
        joined = self._waiting[0].join(list(self._waiting))
        self._waiting.clear()
        if len(joined) <= size:
            return joined
        self._waiting.append(joined[size:])
        return joined[:size]
