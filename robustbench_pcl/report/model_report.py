"""Everything stored about a model, put into sections: one per budget, on the same images."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import SCALES, Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.statistics import Bools, felled_alone, optimality
from robustbench_pcl.report.certified import TwoSided, two_sided
from robustbench_pcl.report.formatting import listed, per_cent
from robustbench_pcl.report.model_section import NORMS, AttackResult, Budget, unpacked
from robustbench_pcl.report.notes import DIGEST
from robustbench_pcl.report.results import RANK, Evidence, Record
from robustbench_pcl.report.worst_case import ROUNDING
from robustbench_pcl.store.diagnoses import Diagnosis


def stored_budgets(
    evidence: Evidence,
    names: Sequence[str],
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
    *,
    unmeasured: Collection[str] = (),
) -> list[Budget]:
    """Everything stored about some models, by data set, scale, model, images, norm and budget.

    Args:
        evidence: all that is stored.
        names: of recipes, or of models from elsewhere.
        datasets: only these.
        scale: only models at this scale.
        seed: only models with this seed of training.
        unmeasured: names of those that need not have a measurement.

    Raises:
        UserError: nothing is stored of one of them, or there is no such data set.
    """
    asked = [dataset_spec(name).name for name in datasets]
    found = []
    for name in names:
        own = list(_budgets_of(evidence, name, asked, scale, seed))
        if not own and name not in unmeasured:
            raise _nothing_stored(evidence, name)
        found += own
    return found


def newest_diagnoses(
    evidence: Evidence,
    names: Sequence[str],
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[Diagnosis]:
    """What was diagnosed of some models: the newest of each model, data and judged attack.

    Args:
        evidence: all that is stored.
        names: of recipes, or of models from elsewhere.
        datasets: only these.
        scale: only models at this scale.
        seed: only models with this seed of training.
    """
    found: dict[tuple[str, str, str], Diagnosis] = {}
    for each in evidence.diagnoses:
        recipe = each.target.recipe
        if (
            recipe.name in names
            and (not datasets or recipe.dataset in datasets)
            and scale in (None, recipe.scale)
            and seed in (None, recipe.seed)
        ):
            attack = json.dumps(each.attack, sort_keys=True)
            found[each.target.key, each.data.digest, attack] = each
    return list(found.values())


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
        measured = [
            row for row in rows if hasattr(row, "correct_per_image") and seed in (None, row.seed)
        ]
        yield from _budgets(measured, evidence)


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


def _budgets(rows: Sequence[Record], evidence: Evidence) -> Iterator[Budget]:
    """The sections of one name, data set and scale, by model, images, norm and rising budget."""
    by_images: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for row in rows:
        by_images[row.model, row.data_digest, row.n].append(row)
    names = _distinct_names(rows)
    for (model, data, _), group in by_images.items():
        clean = next((row for row in reversed(group) if row.parameters is None), None)
        attacked = [row for row in group if row.parameters is not None]
        found = {(row.norm, own_eps(row)) for row in attacked}
        for norm, eps in sorted(found, key=_rising):
            within = [row for row in attacked if _is_within(row, norm, eps)]
            right = None if clean is None else unpacked(clean)
            attacks = tuple(_attack_results(within, norm, eps, right))
            diagnosis = None if eps is None else evidence.diagnosed.of(model, data, {norm: eps})
            budget = Budget(names[model], group[0], norm, eps, clean, attacks, diagnosis)
            yield replace(budget, certified=_certified(evidence, budget))
        if not attacked:
            budget = Budget(names[model], group[0], None, None, clean, ())
            yield replace(budget, certified=_certified(evidence, budget))


def _certified(evidence: Evidence, budget: Budget) -> TwoSided | None:
    """The newest two-sided numbers of a model within a section's budget, the usual one's if none.

    They are of L-infinity.
    """
    if budget.norm not in (None, "linf") or (budget.norm and budget.eps is None):
        return None
    eps = dataset_spec(budget.model.dataset).eps if budget.eps is None else budget.eps
    known = [
        each
        for each in evidence.certificates
        if (each.target.key, each.data.digest) == (budget.model.model, budget.model.data_digest)
        and each.largest_eps >= eps
    ]
    return two_sided(known[-1], [eps]) if known else None


def stored_bands(budgets: Sequence[Budget]) -> list[TwoSided]:
    """The two-sided numbers of the models of some sections, each model's once."""
    found = {each.certified.certificate.id: each.certified for each in budgets if each.certified}
    return [two_sided(each.certificate) for each in found.values()]


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
    rows: Sequence[Record], norm: str, eps: float | None, right: Bools | None
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


def own_eps(row: Record) -> float | None:
    """An attack's budget; None if it has none."""
    return None if math.isnan(row.eps) else float(row.eps)
