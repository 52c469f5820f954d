"""What needs an artefact: positions of the paper's tables and figures; and what nothing needs."""

from __future__ import annotations

import re
import shlex
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.inventory import TITLES, Inventory, Item, Kind
from robustbench_pcl.paper.figures import FIGURES, FeatureFigure
from robustbench_pcl.paper.tables import Cell, published, published_numbers
from robustbench_pcl.pipeline.certifying import REACH
from robustbench_pcl.pipeline.runs import read_run
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.report.commands import (
    attack_options,
    attack_words,
    is_preset,
    training_words,
)
from robustbench_pcl.report.figure_sections import panel_answers, run_command
from robustbench_pcl.report.results import Evidence, measurement_frame, training_frame
from robustbench_pcl.report.worst_case import worst_cases
from robustbench_pcl.store.adversarial_sets import AdversarialSet, SetSpecification
from robustbench_pcl.store.atomic import STALE_SECONDS, is_left_over, remove
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.checkpoints import Checkpoint
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import Embedding
from robustbench_pcl.store.records import Measurement, ModelRecord, TrainingRecord


def row_of(item: Item, inventory: Inventory) -> dict[str, Any]:
    """What there is to know of an item, as a row; all items have the same columns."""
    made_on = item.kind == "set"
    model = item.models[0] if item.models else None
    source = item.models[0] if made_on and item.models else getattr(item.about, "source", None)
    created, environment = item.created, item.environment
    for training in inventory.known("training", *item.names) if item.kind == "checkpoint" else ():
        created, environment = training.created, training.environment
    return {
        "kind": item.kind,
        "id": item.id,
        "weights": item.names[1],
        "dataset": item.dataset,
        "target": model.recipe.name if model and not made_on else None,
        "source": source and source.recipe.name,
        "scale": model and model.recipe.scale,
        "seed": model and model.recipe.seed,
        "attack": attack_label(item.attack) if item.attack else None,
        "eps": item.attack.get("eps") if item.attack else None,
        "norm": norm_of(item.attack) if item.attack else None,
        "n": item.images,
        "bytes": item.size,
        "created": created,
        "pclbench": environment and environment.pclbench,
        "file": item.name,
        "damage": item.damage or None,
    }


class Use(NamedTuple):
    """A position that an artefact answers.

    Attributes:
        place: "Table 3" or "Figure 7".
        dataset: name of the data set.
        scale: of the recipes.
        position: row and column, or what of the figure.
    """

    place: str
    dataset: str
    scale: Scale
    position: str

    def __str__(self) -> str:
        return f"{self.place}, {self.dataset}, {self.scale} scale: {self.position}"


def evidence_of(inventory: Inventory) -> Evidence:
    """What of a workspace can be reported; what is damaged is left out."""
    found: dict[type, list[object]] = defaultdict(list)
    for item in sorted(inventory.items, key=lambda item: item.created):
        found[type(item.about)].append(item.about)
    diagnoses = cast("list[Diagnosis]", found[Diagnosis])
    return Evidence(
        measurement_frame(cast("list[Measurement]", found[Measurement]), diagnoses),
        training_frame(cast("list[TrainingRecord]", found[TrainingRecord])),
        tuple(cast("list[Embedding]", found[Embedding])),
        tuple(diagnoses),
        tuple(cast("list[Certificate]", found[Certificate])),
    )


def direct_uses(inventory: Inventory) -> dict[str, list[Use]]:
    """The positions that each item answers itself, by its name, for every scale and seed.

    An item answers where ``pclbench report`` shows its number: with --scale and --seed, too.
    """
    evidence = evidence_of(inventory)
    found: dict[str, dict[Use, None]] = defaultdict(dict)
    for name, use in (*_in_tables(evidence), *_in_figures(evidence)):
        found[name][use] = None
    by_name = {key: item.name for item in inventory.items for key in _keys(item)}
    return {by_name[key]: list(uses) for key, uses in found.items() if key in by_name}


def uses_of(item: Item, inventory: Inventory) -> list[Use]:
    """The positions that rest on an item: its own, and those of what was made from it."""
    direct = direct_uses(inventory)
    found = [use for each in (item, *inventory.below(item)) for use in direct.get(each.name, ())]
    return sorted(set(found), key=lambda use: (len(use.place), use))  # Table 9 before Table 11


def _keys(item: Item) -> tuple[str, ...]:
    """What rows and embeddings call it."""
    if isinstance(item.about, TrainingRecord):
        return (f"{item.about.checkpoint}-{item.about.weights}",)
    return (item.id,) if item.kind in ("measurement", "embedding") else ()


def _asked(evidence: Evidence) -> Iterator[tuple[str, Scale, int | None]]:
    """Data sets, scales and seeds that something is stored of; None stands for any seed."""
    seeds: dict[tuple[str, Scale], set[int]] = defaultdict(set)
    for (dataset, _, scale), rows in evidence.records.items():
        seeds[dataset, scale] |= {row.seed for row in rows}
    for embedding in evidence.embeddings:
        recipe = embedding.spec.model.recipe
        seeds[recipe.dataset, recipe.scale].add(recipe.seed)
    for (dataset, scale), known in seeds.items():
        if dataset in DATASETS:
            choices = sorted(known) if len(known) > 1 else []
            yield from ((dataset, scale, seed) for seed in (None, *choices))


def _in_tables(evidence: Evidence) -> Iterator[tuple[str, Use]]:
    for dataset, scale, seed in _asked(evidence):
        for number in published_numbers():
            positions = published(number).positions(dataset)
            cells = [position.cell for position in positions]
            answers = evidence.answers(cells, scale, seed)
            place = f"Table {number}", dataset, scale
            for position, record in zip(positions, answers.records, strict=True):
                where = f"row {position.row.name}, column {position.column.name}"
                if record is not None:
                    yield _row(record), Use(*place, where)
            for case in worst_cases(evidence, cells, answers):
                for identity in case.measurements:
                    yield identity, Use(*place, f"worst case of {case.target}")


def _in_figures(evidence: Evidence) -> Iterator[tuple[str, Use]]:
    for dataset, scale, seed in _asked(evidence):
        for number, figure in FIGURES.items():
            place = f"Figure {number}", dataset, scale
            if isinstance(figure, FeatureFigure):
                _, shown = panel_answers(figure.panels, evidence.embeddings, dataset, scale, seed)
                for panel, embedding in zip(figure.panels, shown, strict=True):
                    if embedding is not None:
                        yield embedding.path.stem, Use(*place, panel.label.partition(":")[0])
                continue
            asked: list[tuple[str, Cell]] = [
                (f"{attack.label} with eps = {eps:g}" if eps else "clean", cell)
                for attack in figure.attacks
                for eps, cell in figure.cells(dataset, attack)
            ]
            answers = evidence.answers([cell for _, cell in asked], scale, seed)
            for (where, _), record in zip(asked, answers.records, strict=True):
                if record is not None:
                    yield _row(record), Use(*place, where)


def _row(record: object) -> str:
    """What a row of measurements or of trainings is called."""
    row = cast("Mapping[str, str]", record._asdict())  # type: ignore[attr-defined]
    return row.get("id") or f"{row['checkpoint']}-{row['weights']}"


def command_for(item: Item, inventory: Inventory, uses: Sequence[Use] = ()) -> str:
    """The command that makes an item again; "" where none does, as for images of other tools.

    Args:
        item: any.
        inventory: where it is.
        uses: of the item.
    """
    words: list[str] = []
    match item.about:
        case Checkpoint() | TrainingRecord():
            words = _training(item.models[0])
        case AdversarialSet(spec=spec) if spec.source is not None:
            words = _attack(spec, spec.source, spec.source, inventory)
        case Measurement(attack=None) as clean:
            words = ["attack", _name(clean.target, inventory, clean.seed), *_size(clean)]
            words += ["--attack", "fgsm"]
        case Measurement() as measured if measured.source is not None:
            words = _attack(measured, measured.source, measured.target, inventory)
        case Diagnosis() as found:
            words = ["diagnose", _name(found.target, inventory, found.seed)]
            words += [*_size(found), *attack_options(found.attack, found.target.recipe)]
            for model in found.sources:
                words += ["--source", _name(model, inventory, found.seed)]
        case Certificate() as certified:
            words = ["certify", _name(certified.target, inventory, 0), *_size(certified)]
            usual = dataset_spec(certified.data.dataset).eps
            if certified.largest_eps != min(REACH * usual, 1.0):
                words += ["--eps", repr(certified.largest_eps / REACH)]
        case Embedding():
            figures = [use for use in uses if use.place.startswith("Figure")]
            seed = item.models[0].recipe.seed
            for use in figures[:1]:
                number = int(use.place.rpartition(" ")[2])
                words = shlex.split(run_command(number, use.dataset, use.scale, seed))[1:]
    if words and inventory.paths.root != Path():
        words += ["--home", str(inventory.paths.root)]
    return shlex.join(["pclbench", *words]) if words else ""


def _training(model: ModelRecord) -> list[str]:
    recipe = model.recipe
    if isinstance(recipe, ExternalModel):
        words = ["attack", recipe.source, "--weights", "FILE", "--name", recipe.name]
        return [*words, "--dataset", recipe.dataset]
    if not is_preset(recipe):
        return []
    return training_words(recipe)


def _name(model: ModelRecord, inventory: Inventory, seed: int) -> str:
    """What a command calls a model: by its name where that means no other, else by its file."""
    recipe, files = model.recipe, inventory.known("checkpoint", model.checkpoint, model.weights)
    plain = is_preset(recipe) and recipe.seed == seed
    alone = len(inventory.known("checkpoint", model.checkpoint)) <= 1
    if isinstance(recipe, ExternalModel) or not files or (plain and alone):
        return recipe.name
    return str(files[0].path)


def _size(about: SetSpecification | Measurement | Diagnosis | Certificate) -> list[str]:
    """Data set, scale, number of images and seed, as options."""
    model = about.source if isinstance(about, SetSpecification) else about.target
    assert model is not None
    words = ["--dataset", about.data.dataset, "--scale", model.recipe.scale]
    return [*words, "--images", str(about.n), "--seed", str(getattr(about, "seed", 0))]


def _attack(
    about: SetSpecification | Measurement,
    source: ModelRecord,
    target: ModelRecord,
    inventory: Inventory,
) -> list[str]:
    """What makes a set and measures a target on it."""
    assert about.attack is not None
    name = _name(source, inventory, about.seed)
    other = None if source.key == target.key else _name(target, inventory, about.seed)
    options = [*_size(about), *attack_options(about.attack, source.recipe)]
    return attack_words(name, other, options, about.mode)


AGES = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def read_age(text: str) -> float:
    """Seconds from "30d", "12h", "2w" or "90m".

    Raises:
        UserError: it is none of these.
    """
    match = re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip())
    if match is None:
        raise UserError(f"{text!r} is no age.", "Write --older-than 30d, or 12h, 2w, 90m.")
    return int(match[1]) * AGES[match[2]]


class Unneeded(NamedTuple):
    """Items that nothing needs, for one reason.

    Attributes:
        why: they are not needed, in words.
        option: of ``store prune`` that names them; "" for what is named without one.
        items: they, in the order in which they are removed.
    """

    why: str
    option: str
    items: list[Item]


def unneeded(inventory: Inventory, *, keep_tables: bool = False) -> list[Unneeded]:
    """What nothing needs, by reason. No checkpoint, training record or number is among it.

    Args:
        inventory: of the workspace.
        keep_tables: sets behind a position of the paper's tables and figures are needed, too.
    """
    finished: list[Item] = []
    unfinished: list[Item] = []
    for item in inventory.of("parts", "partial"):
        made: Kind = "set" if item.kind == "parts" else "checkpoint"
        (finished if inventory.known(made, item.id) else unfinished).append(item)
    temporary = [item for item in inventory.of("temporary") if is_left_over(item.path)]
    runs = [item for item in inventory.of("job") if _is_over(item)]
    return [
        Unneeded("left over by processes that were killed", "", temporary),
        Unneeded("logs of runs that are over", "", runs),
        Unneeded("states and parts of what is finished", "", finished),
        Unneeded(
            "unfinished trainings and sets: begun again, not gone on", "--partial", unfinished
        ),
        Unneeded(
            "sets that were measured: only to judge further models, and to verify",
            "--sets",
            _measured_sets(inventory, keep_tables=keep_tables),
        ),
    ]


def _is_over(run: Item) -> bool:
    """Whether a run of an executor ended; of another machine's that did not say so nobody knows."""
    try:
        return read_run(run.path).alive is False
    except UserError:  # an older pclbench kept no record, and only what failed
        return time.time() - run.changed > STALE_SECONDS


def _measured_sets(inventory: Inventory, *, keep_tables: bool) -> list[Item]:
    """Sets whose own source was measured on them, or a target if none is known.

    Features of attacked images are found again by way of their set, so such a set is needed.
    """
    used = direct_uses(inventory) if keep_tables else {}
    embedded = {item.set_id for item in inventory.of("embedding")}
    measured: dict[str | None, list[Item]] = defaultdict(list)
    for item in inventory.of("measurement"):
        measured[item.set_id].append(item)
    return [
        item
        for item in inventory.of("set")
        if item.about is not None
        and item.id not in embedded
        and measured[item.id]
        and not any(each.name in used for each in measured[item.id])
    ]


def remove_all(items: Sequence[Item]) -> None:
    """Remove items, what was made of others before those.

    Raises:
        UserError: the disk refuses.
    """
    order = list(TITLES)
    for item in sorted(items, key=lambda each: order.index(each.kind), reverse=True):
        remove(item.path)
