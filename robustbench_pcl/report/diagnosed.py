"""Which stored diagnosis speaks of a number."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from robustbench_pcl.attacks.base import norm_of
from robustbench_pcl.configuration import Dump
from robustbench_pcl.store.diagnoses import MATERIAL, Diagnosis, Verdict
from robustbench_pcl.store.reading import PassedOver
from robustbench_pcl.store.records import Measurement, Paths, load_measurements, load_records
from robustbench_pcl.store.rules import ROUNDING

if TYPE_CHECKING:
    import pandas as pd

OF_ONE_ATTACK: Verdict = "attack too weak"
"""The verdict that tells of the judged attack, and nothing of the model."""
OF_LOW_NUMBERS: Verdict = "holds"
"""The verdict that tells nothing of a number far above what everything that was tried leaves."""


class Tried(NamedTuple):
    """What a white-box attack within a budget left of a model.

    Attributes:
        model: the key of the model.
        data: digest of the clean images.
        norm: of the budget.
        eps: the budget, in pixels of [0, 1].
        n: number of images.
        accuracy: in per cent.
    """

    model: str
    data: str
    norm: str
    eps: float
    n: int
    accuracy: float


def tried(measurements: Iterable[Measurement]) -> Iterator[Tried]:
    """What was measured of white-box attacks that have a budget."""
    for each in measurements:
        if (
            each.attack
            and "eps" in each.attack
            and each.source
            and each.source.key == each.target.key
        ):
            yield Tried(
                model=each.target.key,
                data=each.data.digest,
                norm=norm_of(each.attack),
                eps=float(each.attack["eps"]),
                n=each.n,
                accuracy=100 * each.accuracy,
            )


def tried_in(frame: pd.DataFrame) -> Iterator[Tried]:
    """The same, of a frame with one row per measurement."""
    attacked = frame[frame["white_box"] & frame["eps"].notna()]
    names = ["model", "data_digest", "norm", "eps", "n", "accuracy"]
    return map(Tried._make, attacked[names].itertuples(index=False))


class Diagnosed:
    """Diagnoses, by the numbers that they speak of.

    A diagnosis judges a white-box attack. It speaks of the white-box accuracies of its own model
    (the weights) on its own data set, under attacks whose images lie within its budget. Of several
    the one of that very attack comes first, then the one with the smallest budget, then the newest.
    It does not speak of images that were made on another model. That an attack was too weak says
    nothing about the numbers of others. That a number holds says nothing about one that is 5 points
    or more above what everything that was tried leaves: FGSM's of a model that PGD fools, or PGD's
    within a much smaller budget. Tried is what the diagnosis did, and what else was measured of the
    model within its budget on at least as many images, as `strongest`.

    Args:
        diagnoses: oldest first.
        attacks: what else was tried.
    """

    def __init__(self, diagnoses: Sequence[Diagnosis] = (), attacks: Iterable[Tried] = ()) -> None:
        self._of: dict[tuple[str, str], list[Diagnosis]] = defaultdict(list)
        for each in reversed(diagnoses):
            self._of[each.target.key, each.data.digest].append(each)
        self._tried: dict[tuple[str, str], list[Tried]] = defaultdict(list)
        for attack in attacks:
            self._tried[attack.model, attack.data].append(attack)

    def of(
        self,
        model: str,
        data: str,
        sizes: Mapping[str, float],
        attack: Dump | None = None,
        accuracy: float | None = None,
    ) -> Diagnosis | None:
        """The diagnosis that speaks of a white-box number, or None.

        Args:
            model: the key of the model.
            data: digest of the clean images.
            sizes: norm -> the largest perturbation in it, in pixels of [0, 1].
            attack: complete; None for the worst case over several.
            accuracy: the number, in per cent; None where there is none yet.
        """
        speaking = (
            each
            for each in self._of.get((model, data), ())
            if sizes.get(each.norm, math.inf) <= each.eps + ROUNDING
            and (each.verdict != OF_ONE_ATTACK or each.attack == attack)
            and (each.verdict != OF_LOW_NUMBERS or self._is_low(each, accuracy))
        )
        return min(speaking, key=lambda each: (each.attack != attack, each.eps), default=None)

    def of_measurement(self, record: Measurement) -> Diagnosis | None:
        """The diagnosis that speaks of a measurement.

        None does of a clean accuracy, or of images that were made on another model. Images of other
        tools may be white-box: their source is not known.
        """
        transferred = record.source is not None and record.source.key != record.target.key
        if record.attack is None or transferred:
            return None
        largest = {"linf": record.largest_linf, "l2": record.largest_l2}
        sizes = {norm: size for norm, size in largest.items() if size is not None}
        if "eps" in record.attack:  # what it was given is more than what it took
            sizes[norm_of(record.attack)] = float(record.attack["eps"])
        return self.of(
            record.target.key, record.data.digest, sizes, record.attack, 100 * record.accuracy
        )

    def _is_low(self, diagnosis: Diagnosis, accuracy: float | None) -> bool:
        """Whether a number that is said to hold may be this one.

        Within a smaller budget no fewer images withstand than within the diagnosis' own. So a
        number near what was left there is near the truth, and another one may be far from it.
        """
        if accuracy is None:
            return True
        others = (
            each.accuracy
            for each in self._tried.get((diagnosis.target.key, diagnosis.data.digest), ())
            if each.norm == diagnosis.norm
            and each.eps <= diagnosis.eps + ROUNDING
            and each.n >= diagnosis.n
        )
        return accuracy - min([100 * diagnosis.withstood / diagnosis.n, *others]) < MATERIAL


def load_diagnosed(paths: Paths, passed_over: PassedOver | None = None) -> Diagnosed:
    """The diagnoses that are stored in a folder, beside all that was measured there.

    Args:
        paths: where it is.
        passed_over: is told why a file is left out; None to raise that.

    Raises:
        UserError: a file is damaged, and ``passed_over`` is None.
    """
    diagnoses = load_records(paths.diagnoses, Diagnosis, passed_over)
    return Diagnosed(diagnoses, tried(load_measurements(paths, passed_over)))
