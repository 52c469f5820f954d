"""Two-sided numbers: how many images withstand every perturbation, and of how many is not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.report.formatting import listed, per_cent, percent, show_budget, show_measured
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.rules import ROUNDING, wilson

LADDER = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
"""Of a budget: where certified and not known shares are printed."""
Counts = np.ndarray[Any, np.dtype[np.int64]]


class Band(NamedTuple):
    """What is known of a model within one budget.

    Attributes:
        eps: the budget, in pixels of [0, 1].
        certified: images that no perturbation within it fools.
        withstood: images that no attack has fooled within it, those that are certified among them.
        n: images.
    """

    eps: float
    certified: int
    withstood: int
    n: int

    @property
    def lower(self) -> float:
        """The certified share, per cent."""
        return per_cent(self.certified / self.n)

    @property
    def upper(self) -> float:
        """The share that withstood the attacks, per cent."""
        return per_cent(self.withstood / self.n)

    @property
    def not_known(self) -> float:
        """What lies between them, per cent of all images."""
        return per_cent((self.withstood - self.certified) / self.n)

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """95 % Wilson intervals of the lower and the upper share, per cent."""
        ends = (wilson(self.certified, self.n), wilson(self.withstood, self.n))
        (a, b), (c, d) = ends
        return (per_cent(a), per_cent(b)), (per_cent(c), per_cent(d))


@dataclass(frozen=True, eq=False)
class TwoSided:
    """A certificate, and within which budgets it is asked for.

    Attributes:
        certificate: the radii of each image.
        budgets: in pixels of [0, 1], within the largest radius that was looked for.
    """

    certificate: Certificate
    budgets: tuple[float, ...]

    @cached_property
    def _radii(self) -> tuple[Any, Any]:
        """Certified and fooling radii, float64 (n,); infinite where nothing fools."""
        fooling = [np.inf if size is None else size for size in self.certificate.fooling]
        return np.array(self.certificate.certified), np.array(fooling)

    def at(self, eps: float) -> Band:
        """What is known within a budget; within none, which images are right."""
        certified, fooling = self._radii
        if eps == 0:
            sure = fooling > 0
            held = sure
        else:
            sure = certified >= eps
            held = sure | (fooling > eps + ROUNDING)
        return Band(eps, int(sure.sum()), int(held.sum()), self.certificate.n)

    @property
    def ladder(self) -> list[Band]:
        """What is known within no budget, parts of each, the budgets, and twice of each."""
        steps = {factor * eps for eps in self.budgets for factor in LADDER}
        largest = self.certificate.largest_eps
        return [self.at(eps) for eps in sorted({0.0, *(eps for eps in steps if eps <= largest)})]

    @property
    def name(self) -> str:
        """The model, the data and the scale."""
        recipe, name = self.certificate.target.recipe, self.certificate.data.dataset
        title = DATASETS[name].title if name in DATASETS else name
        return f"{recipe.name} on {title}, {recipe.scale} scale"

    @property
    def sentences(self) -> list[str]:
        """One for each budget: between how many images withstand every perturbation."""
        return [self._sentence(self.at(eps)) for eps in self.budgets]

    @property
    def why(self) -> list[str]:
        """Why nothing is certified, where that is so within a budget."""
        bands = map(self.at, self.budgets)
        if not any(band.withstood and not band.certified for band in bands):
            return []
        largest = max(self.certificate.certified)
        reason = self.certificate.reason or f"the largest certified radius is {largest:.3g}"
        return [f"Certified {percent('0')}: {reason}."]

    def _sentence(self, band: Band) -> str:
        """Between how many images withstand every perturbation within a budget."""
        budget, images = show_budget(band.eps, None).replace(" =", ""), f"of {band.n:,} images"
        if band.certified == band.withstood:
            share = f"exactly {percent(show_measured(band.lower))} {images}"
            return f"At {budget}, {share} withstand every perturbation."
        ends = f"{show_measured(band.lower)} and {percent(show_measured(band.upper))}"
        return (
            f"At {budget}, between {ends} {images} withstand every perturbation; "
            f"{show_measured(band.not_known)} points are not known."
        )


def stored_certificates(
    certificates: Iterable[Certificate],
    names: Sequence[str],
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[TwoSided]:
    """The newest certificate of each model of some names, asked for the data set's budget.

    Args:
        certificates: all that are stored, oldest first.
        names: of recipes, or of models from elsewhere.
        datasets: only these.
        scale: only models at this scale.
        seed: only models with this seed of training.

    Raises:
        UserError: none is stored of one of them.
    """
    found: list[TwoSided] = []
    known = list(certificates)
    for name in names:
        newest = {
            (each.target.key, each.data.digest): each
            for each in known
            if each.target.recipe.name == name
            and (not datasets or each.data.dataset in datasets)
            and scale in (None, each.target.recipe.scale)
            and seed in (None, each.target.recipe.seed)
        }
        if not newest:
            stored = dict.fromkeys(each.target.recipe.name for each in known)
            others = f" Stored: {listed(stored)}." if stored else ""
            raise UserError(
                f"No certificate is stored of {name} with that data set, scale and seed.",
                f"Make one: pclbench certify {name}.{others}",
            )
        found += [two_sided(each) for each in newest.values()]
    return found


def two_sided(certificate: Certificate, budgets: Sequence[float] = ()) -> TwoSided:
    """A certificate for some budgets; if there is none for the data set's, as far as it reaches."""
    usual = min(dataset_spec(certificate.data.dataset).eps, certificate.largest_eps)
    return TwoSided(certificate, tuple(budgets) or (usual,))
