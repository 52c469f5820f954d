"""Everything stored about a model, budget by budget: what each attack left, felled and took."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import SCALES, Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.statistics import (
    Array,
    chao1,
    felled_alone,
    optimality,
)
from robustbench_pcl.report.formatting import counted, listed, per_cent, show_budget
from robustbench_pcl.report.notes import DIGEST
from robustbench_pcl.report.results import RANK, Evidence, Record
from robustbench_pcl.report.worst_case import ROUNDING
from robustbench_pcl.store.records import wilson

NORMS = {"linf": "L-infinity", "l2": "L2"}
FIRST_STAGE = 2
"""In ``felled_by``, what the first stage of a sequence is; 0 withstood, 1 was wrong when clean."""


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What one attack did to a model within a budget.

    Attributes:
        label: as papers write it, without the budget where that is the whole one.
        record: its measurement at the largest budget within this one.
        verdicts: bool (N,), which images withstood it at that budget and at smaller ones.
        felled_alone: images that no other attack felled.
        optimality: share, in per cent, of the images felled by any attack; None if none was.
    """

    label: str
    record: Record
    verdicts: Array
    felled_alone: int
    optimality: float | None

    @property
    def forward_passes(self) -> float:
        """Per image."""
        return float(self.record.forward_passes / self.record.n)

    @property
    def backward_passes(self) -> float:
        """Per image."""
        return float(self.record.backward_passes / self.record.n)

    @property
    def stages(self) -> dict[str, int]:
        """How many images each stage of a sequence felled; nothing of a single attack."""
        if len(self.record.stages) < 2 or not self.record.felled_by:
            return {}
        codes = Counter(bytes.fromhex(self.record.felled_by))
        return {stage: codes[FIRST_STAGE + place] for place, stage in enumerate(self.record.stages)}


@dataclass(frozen=True, eq=False)
class Budget:
    """A model under all attacks within one budget, on the same images.

    Attributes:
        name: of the model, with what tells it from its namesakes.
        model: its row of any measurement.
        norm: of the threat model; None if it was never attacked.
        eps: in pixels of [0, 1]; None for attacks that minimise the perturbation.
        clean: the measurement of the clean images, if there is one.
        attacks: that were run with this budget or less, the strongest last.
    """

    name: str
    model: Record
    norm: str | None
    eps: float | None
    clean: Record | None
    attacks: tuple[AttackResult, ...]

    @property
    def title(self) -> str:
        """What people call the data set."""
        name = self.model.dataset
        return DATASETS[name].title if name in DATASETS else str(name)

    @property
    def threat(self) -> str:
        """What people call the norm; "" if the model was never attacked."""
        return NORMS.get(self.norm or "", self.norm or "")

    @property
    def conditions(self) -> list[str]:
        """Norm, budget and n, in words."""
        budget = "no budget" if self.eps is None else show_budget(self.eps, None)
        parts = [self.threat, budget] if self.norm else []
        return [*parts, f"n = {self.model.n}"]

    @property
    def heading(self) -> str:
        """Model, data, scale, budget and n."""
        model = f"{self.name} on {self.title}"
        return ", ".join([model, f"{self.model.scale} scale", *self.conditions])

    @cached_property
    def right(self) -> Array:
        """Bool (N,): right when clean; True for all where that is not known."""
        n = int(self.model.n)
        return np.ones(n, dtype=bool) if self.clean is None else unpacked(self.clean)

    @cached_property
    def withstood(self) -> Array:
        """Bool (N,): the envelope, what is right when clean and under every attack."""
        return np.asarray(np.all([self.right, *(each.verdicts for each in self.attacks)], axis=0))

    @property
    def worst_case(self) -> tuple[float, tuple[float, float]]:
        """The envelope's accuracy and its 95 % Wilson interval, in per cent."""
        withstood, n = int(self.withstood.sum()), len(self.withstood)
        low, high = wilson(withstood, n)
        return per_cent(withstood / n), (per_cent(low), per_cent(high))

    @cached_property
    def missed(self) -> float | None:
        """An estimate of how many more images could be felled; None of fewer than two attacks."""
        if len(self.attacks) < 2:
            return None
        verdicts = np.stack([each.verdicts for each in self.attacks])
        return min(chao1(verdicts[:, self.right]), float(self.withstood.sum()))

    def felled_by(self) -> list[list[int] | None]:
        """For each image which of ``attacks`` felled it; None if it was wrong when clean."""
        return [
            [place for place, each in enumerate(self.attacks) if not each.verdicts[image]]
            if right
            else None
            for image, right in enumerate(self.right)
        ]

    def notes(self) -> Iterator[str]:
        """What a reader of the numbers has to know, one sentence or two each."""
        if not self.attacks:
            command = f"pclbench attack {self.model.target} --dataset {self.model.dataset}"
            yield f"Not attacked yet: {command} --scale {self.model.scale}"
            return
        for each in self.attacks:
            if each.stages:
                felled = [f"{stage} {count}" for stage, count in each.stages.items() if count]
                idle = [stage for stage, count in each.stages.items() if not count]
                yield (
                    f"Felled by the stages of {each.label}, one after the other: "
                    f"{listed(felled)}{'; ' * bool(felled and idle)}"
                    f"{'none by ' * bool(idle)}{listed(idle)}."
                )
        yield self._estimate()
        early = [each.label for each in self.attacks if each.record.mode == "early-stop"]
        if early:
            yield f"Early stop: {listed(early)}."
        if self.clean is None:
            yield "No clean accuracy is stored: images that were wrong already count as felled."

    def _estimate(self) -> str:
        """What is estimated to be still fellable, in words."""
        left = int(self.withstood.sum())
        if self.missed is None:
            return "How many more images could be felled is estimated once there are two attacks."
        if not left:
            return "No image withstood."
        return (
            f"About {self.missed:.0f} more of the {counted(left, 'image')} that withstood are "
            "estimated to be fellable (Chao1, an estimate: it assumes that attacks find images "
            "independently)."
        )


def stored_budgets(
    evidence: Evidence,
    names: Sequence[str],
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[Budget]:
    """Everything stored about some models, by data set, scale, model, images, norm and budget.

    Args:
        evidence: all that is stored.
        names: of recipes, or of models from elsewhere.
        datasets: only these.
        scale: only models at this scale.
        seed: only models with this seed of training.

    Raises:
        UserError: nothing is stored of one of them, or there is no such data set.
    """
    asked = [dataset_spec(name).name for name in datasets]
    found = []
    for name in names:
        own = list(_budgets_of(evidence, name, asked, scale, seed))
        if not own:
            raise _nothing_stored(evidence, name)
        found += own
    return found


def attacked_models(
    evidence: Evidence,
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[list[Budget]]:
    """Everything stored about each model that was attacked, in the order of their names."""
    names = sorted({target for _, target, _ in evidence.records})
    parts = (list(_budgets_of(evidence, name, datasets, scale, seed)) for name in names)
    return [part for part in parts if any(budget.attacks for budget in part)]


def _budgets_of(
    evidence: Evidence,
    name: str,
    datasets: Sequence[str],
    scale: Scale | None,
    seed: int | None,
) -> Iterator[Budget]:
    """The sections of one name; none if nothing is stored of what is asked for."""
    groups = {
        (dataset, size): rows
        for (dataset, target, size), rows in evidence.records.items()
        if target == name and (not datasets or dataset in datasets) and scale in (None, size)
    }
    for _, rows in sorted(groups.items(), key=_place):
        measured = [row for row in rows if hasattr(row, "verdicts") and seed in (None, row.seed)]
        yield from _budgets(measured)


def _place(stored: tuple[tuple[str, Scale], object]) -> tuple[object, ...]:
    """Data sets in their own order, then the most faithful scale first."""
    (dataset, scale), _ = stored
    return [*DATASETS, dataset].index(dataset), dataset, SCALES.index(scale)


def _nothing_stored(evidence: Evidence, name: str) -> UserError:
    """The error for a model without a measurement, or without one of what was asked for."""
    frame = evidence.measurements
    places = frame.loc[frame["target"] == name, ["dataset", "scale"]].drop_duplicates()
    if len(places):
        where = listed(f"{row.dataset} at {row.scale} scale" for row in places.itertuples())
        return UserError(
            f"Nothing is stored of {name} with that data set, scale and seed.",
            f"It was measured on {where}: leave --dataset, --scale and --seed out.",
        )
    known = ", ".join(sorted(set(frame["target"])))
    return UserError(
        f"Nothing is stored of a model called {name!r}.",
        f"Measure it with: pclbench attack {name}" + (f". Stored: {known}." if known else ""),
    )


def _budgets(rows: Sequence[Record]) -> Iterator[Budget]:
    """The sections of one name, data set and scale, by model, images, norm and rising budget."""
    by_images: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for row in rows:
        by_images[row.model, row.data, row.n].append(row)
    names = _distinct_names(rows)
    for (model, _, _), group in by_images.items():
        clean = next((row for row in reversed(group) if row.parameters is None), None)
        attacked = [row for row in group if row.parameters is not None]
        found = {(row.norm, own_eps(row)) for row in attacked}
        for norm, eps in sorted(found, key=_rising):
            within = [row for row in attacked if _is_within(row, norm, eps)]
            right = None if clean is None else unpacked(clean)
            attacks = tuple(_attack_results(within, norm, eps, right))
            yield Budget(names[model], group[0], norm, eps, clean, attacks)
        if not attacked:
            yield Budget(names[model], group[0], None, None, clean, ())


def _distinct_names(rows: Iterable[Record]) -> dict[str, str]:
    """A name for each model, with its seed or else its weights where there are namesakes."""
    models = {row.model: row for row in rows}
    seeds = {row.seed for row in models.values()}
    return {
        model: row.target
        if len(models) == 1
        else f"{row.target} (seed {row.seed})"
        if len(seeds) == len(models)
        else f"{row.target} (weights {row.weights[:DIGEST]})"
        for model, row in models.items()
    }


def _rising(budget: tuple[str, float | None]) -> tuple[object, ...]:
    """L-infinity before other norms, rising budgets, none at all last."""
    norm, eps = budget
    return [*NORMS, norm].index(norm), norm, math.inf if eps is None else eps


def _is_within(row: Record, norm: str, eps: float | None) -> bool:
    """Whether all of an attack's images lie within a budget; None is that of no budget at all."""
    own = own_eps(row)
    if eps is None:
        return row.norm == norm and own is None
    largest = row.largest_linf if norm == "linf" else row.largest_l2
    bounded = row.norm == norm and own is not None and own <= eps
    return bounded or bool(largest <= eps + ROUNDING)


def _attack_results(
    rows: Sequence[Record], norm: str, eps: float | None, right: Array | None
) -> Iterator[AttackResult]:
    """Each attack once, at the largest of its own budgets; the strongest last.

    Args:
        rows: of one model, images and budget.
        norm: of the budget.
        eps: the budget.
        right: bool (N,), right when clean, if that is known.
    """
    methods: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for row in rows:
        methods[(*method(row), row.source_model)].append(row)
    chosen = [
        max(group, key=lambda row: (row.norm == norm, own_eps(row) or 0, RANK[row.mode]))
        for group in methods.values()
    ]
    verdicts = np.stack(
        [np.all([unpacked(r) for r in group], axis=0) for group in methods.values()]
    )
    judged = verdicts if right is None else verdicts[:, right]
    results = [
        AttackResult(
            label=label,
            record=row,
            verdicts=own,
            felled_alone=int(alone),
            optimality=None if math.isnan(share) else per_cent(float(share)),
        )
        for label, row, own, alone, share in zip(
            _labels(chosen, norm, eps),
            chosen,
            verdicts,
            felled_alone(judged),
            optimality(judged),
            strict=True,
        )
    ]
    yield from sorted(results, key=lambda each: (-each.record.accuracy, each.label))


def method(row: Record) -> tuple[str, int]:
    """What two measurements share that differ in nothing but the budget."""
    parameters = {key: value for key, value in row.parameters.items() if key != "eps"}
    return json.dumps(parameters, sort_keys=True), row.attack_seed


def _labels(rows: Sequence[Record], norm: str, eps: float | None) -> Iterator[str]:
    """Attacks by name, namesakes with their seeds and the weights their images were made on."""
    labels = [_label(row, norm, eps) for row in rows]
    count = Counter(labels)
    for label, row in zip(labels, rows, strict=True):
        made_on = f", weights {row.source_model[:DIGEST]}" if _is_transferred(row) else ""
        yield label if count[label] == 1 else f"{label}, seed {row.attack_seed}{made_on}"


def _label(row: Record, norm: str, eps: float | None) -> str:
    """An attack without what its section says already, and the model of images from elsewhere."""
    said = ("norm",) * (row.norm == norm) + ("eps",) * ((row.norm, own_eps(row)) == (norm, eps))
    label = attack_label({k: value for k, value in row.parameters.items() if k not in said})
    return f"{label} from {row.source}" if _is_transferred(row) else label


def _is_transferred(row: Record) -> bool:
    """Whether images were made on another model, which is known."""
    return bool(row.source and not row.white_box)


def unpacked(row: Record) -> Array:
    """A measurement's verdicts, bool (N,)."""
    packed = np.frombuffer(bytes.fromhex(row.verdicts), dtype=np.uint8)
    return np.unpackbits(packed, count=int(row.n)).astype(bool)


def own_eps(row: Record) -> float | None:
    """An attack's budget; None if it has none."""
    return None if math.isnan(row.eps) else float(row.eps)
