"""Accuracy against the strongest of several attacks, chosen for each image by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_

from robustbench_pcl.evaluation.intervals import wilson
from robustbench_pcl.report.formatting import attack_label, per_cent, show_budget
from robustbench_pcl.specs.base import Part
from robustbench_pcl.store.records import Measurement

# float32 pixels may leave the budget by a rounding error; a step of 8-bit pixels is 4e-3.
ROUNDING = 1e-5


@dataclass(frozen=True)
class WorstCase:
    """Accuracy when an image counts only if it withstands every attack.

    Attributes:
        eps: L-infinity budget in pixels of [0, 1].
        accuracy: per cent.
        interval: 95 % interval in per cent.
        n: images.
        attacks: what they were attacked with; a budget smaller than ``eps`` is named.
    """

    eps: float
    accuracy: float
    interval: tuple[float, float]
    n: int
    attacks: tuple[str, ...]


def worst_case(measurements: Iterable[Measurement], model: str, eps: float) -> WorstCase | None:
    """The accuracy of one model against all its stored white-box attacks within a budget.

    A mean over images hides which images an attack breaks; here an image counts as correct only
    if it is correct when clean and after every attack. Attacks on other images, or on another
    number of them, cannot be combined: the images with the most attacks are taken.

    Args:
        measurements: any.
        model: which (:attr:`ModelRecord.key`).
        eps: L-infinity budget in pixels of [0, 1].

    Returns:
        The worst case, or None if there is no attack.
    """
    by_images: dict[tuple[str, int], list[Measurement]] = defaultdict(list)
    for record in measurements:
        white_box = record.source is None or record.source.key == model
        within = record.largest_linf <= eps + ROUNDING
        if record.target.key == model and white_box and within:
            by_images[record.data.digest, record.n].append(record)
    groups = [records for records in by_images.values() if any(r.attack for r in records)]
    if not groups:
        return None
    records = max(groups, key=lambda group: (len({r.adversarial_set for r in group}), group[0].n))
    n = records[0].n
    withstood = reduce(and_, (int(record.verdicts, 16) for record in records)).bit_count()
    low, high = wilson(withstood, n)
    return WorstCase(
        eps=eps,
        accuracy=per_cent(withstood / n),
        interval=(per_cent(low), per_cent(high)),
        n=n,
        attacks=tuple(_named([r.attack for r in records if r.attack], eps)),
    )


def _named(attacks: Iterable[Part], eps: float) -> Iterator[str]:
    """Each attack once, with its own largest budget where that is not the whole one."""
    largest: dict[str, float] = defaultdict(float)
    for attack in attacks:
        label = attack_label(attack)
        largest[label] = max(largest[label], float(attack.parameters.get("eps", eps)))
    for label, own in sorted(largest.items()):
        budget = show_budget(own, None).replace(" = ", " ")
        yield f"{label} ({budget})" if own < eps - ROUNDING else label
