"""From what a table or a figure asks for to tasks, in an order that works."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from robustbench_pcl.configuration import Mode, Scale
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.figures import FeatureFigure, paper_figure
from robustbench_pcl.paper.tables import AttackRequest, Cell, published
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.pipeline.certifying import Certify
from robustbench_pcl.pipeline.diagnosing import Diagnose
from robustbench_pcl.pipeline.sharding import Craft
from robustbench_pcl.pipeline.tasks import Embed, Generate, Measure, Train
from robustbench_pcl.recipe import AnyModel
from robustbench_pcl.recipes.load import load_recipe

KINDS: dict[str, type[AnyTask]] = {
    kind.kind: kind for kind in (Train, Craft, Generate, Measure, Embed, Diagnose, Certify)
}
"""The kinds of tasks by name, in the order in which they run."""


def plan(tasks: Iterable[AnyTask]) -> list[AnyTask]:
    """Some tasks and all that they need: trainings first, then sets, then what is made of them."""
    return _in_order(tasks, None)


def missing(tasks: Iterable[AnyTask], artefacts: Artefacts) -> list[AnyTask]:
    """The tasks to be computed so that all of some are done, in an order that works.

    What a stored artefact was made from is not looked at: a checkpoint may have come alone,
    without the one that its training went on from. Data sets that are not cached are fetched,
    because pixels are part of every id.

    Raises:
        UserError: a data set is not found, or a stored artefact is damaged.
    """
    asked = list(tasks)
    for name in dict.fromkeys(task.dataset for task in asked):
        artefacts.dataset(name)
    return _in_order(asked, artefacts)


def survey(tasks: Iterable[AnyTask], artefacts: Artefacts) -> list[tuple[AnyTask, bool]]:
    """Some tasks and all that they need, in order, each with whether its artefact is stored.

    Nothing is fetched: where a data set is not cached, nothing is known to be stored.
    """
    with artefacts.listed():
        return [(task, artefacts.has(task)) for task in plan(tasks)]


def select(tasks: Iterable[AnyTask], patterns: Sequence[str]) -> list[AnyTask]:
    """Those of some tasks and of all that they need which match a pattern.

    Args:
        tasks: what is wanted.
        patterns: a kind of tasks, or a part of a title, such as a recipe's name or a data set's;
            ``*`` and ``?`` stand for any characters of a title or of one word of it.

    Raises:
        UserError: there are none.
    """
    found = [task for task in plan(tasks) if any(_matches(task, each) for each in patterns)]
    if not found:
        cause = f"Nothing of that matches {' or '.join(patterns)}."
        raise UserError(cause, "See what there is: leave --only out, and write --dry-run.")
    return found


def elapsed(work: Iterable[tuple[AnyTask, float]], workers: int) -> float:
    """About how long work takes where so many tasks are done at a time; 0 for no limit.

    That is the longest chain of tasks that wait for each other, or the share of a worker.

    Args:
        work: tasks in an order that works, each with its seconds.
        workers: how many.
    """
    ends: dict[str, float] = {}
    total = 0.0
    for task, seconds in work:
        ends[task.key] = seconds + max((ends.get(need.key, 0.0) for need in task.needs), default=0)
        total += seconds
    return max([*ends.values(), total / workers if workers else 0.0])


def table_tasks(
    number: int,
    dataset: str,
    scale: Scale,
    seed: int = 0,
    *,
    images: int | None = None,
    mode: Mode = "fast",
) -> list[AnyTask]:
    """What a table of the paper asks for on one data set.

    White-box PGD is also run on the logit margin, and both at the table's largest budget: where a
    defence only flattens cross-entropy, that attack shows it, and the table's worst case says so.

    Args:
        number: the paper's.
        dataset: name of the data set.
        scale: of the recipes.
        seed: of recipes and attacks.
        images: how many test images; the scale's own number if None.
        mode: how adversarial sets are made.

    Raises:
        UserError: there is no such table or data set.
    """
    cells = [position.cell for position in published(number).positions(dataset)]
    found: list[AnyTask] = []
    for cell in [*cells, *_at_the_largest_budget(cells)]:
        target = load_recipe(cell.target, cell.dataset, scale, seed)
        if cell.quantity != "accuracy":
            found.append(Train(target))
            continue
        source = load_recipe(cell.source, cell.dataset, scale, seed) if cell.source else None
        attacks = [cell.attack_for(scale)]
        if cell.attack and cell.attack.name == "pgd" and cell.white_box:
            attacks.append(cell.attack.changed(loss="margin").complete(cell.dataset, scale))
        found += [Measure(target, source, attack, images, seed, mode) for attack in attacks]
    return found


def ensemble_tasks(
    number: int,
    dataset: str,
    name: str,
    scale: Scale,
    seed: int = 0,
    *,
    images: int | None = None,
    mode: Mode = "fast",
) -> list[Measure]:
    """A further attack on every recipe that a table attacks white-box, at its largest eps.

    Only who withstands is asked, so images leave early unless ``mode`` is "exact".

    Args:
        number: the paper's.
        dataset: name of the data set.
        name: of the attack: "auto" or "strongest".
        scale: of the recipes.
        seed: of recipes and attacks.
        images: how many test images; the scale's own number if None.
        mode: how adversarial sets are made.

    Raises:
        UserError: there is no such table, data set or attack.
    """
    cells = [position.cell for position in published(number).positions(dataset)]
    mode = "exact" if mode == "exact" else "early-stop"
    found = []
    for cell in _at_the_largest_budget(cells, name):
        target = load_recipe(cell.target, dataset, scale, seed)
        found.append(Measure(target, target, cell.attack_for(scale), images, seed, mode))
    return found


def figure_tasks(
    number: int,
    dataset: str,
    scale: Scale,
    seed: int = 0,
    *,
    models: Sequence[AnyModel] = (),
    images: int | None = None,
    mode: Mode = "fast",
) -> list[AnyTask]:
    """What a figure of the paper asks for on one data set.

    Args:
        number: the paper's.
        dataset: name of the data set.
        scale: of the recipes.
        seed: of recipes and attacks.
        models: instead of the figure's own, where it is one of accuracy over the budget.
        images: how many test images; the scale's own number if None.
        mode: how adversarial sets are made.

    Raises:
        UserError: there is no such figure or data set.
    """
    figure = paper_figure(number)
    if isinstance(figure, FeatureFigure):
        names = dict.fromkeys(panel.recipe for panel in figure.panels)
        recipes = {name: load_recipe(name, dataset, scale, seed) for name in names}
        return [
            Embed(recipe, panel.view(recipe), images, seed, mode)
            for panel in figure.panels
            for recipe in (recipes[panel.recipe],)
        ]
    return [
        Measure(target, target, cell.attack_for(scale), images, seed, mode)
        for target in models or (load_recipe(figure.recipe, dataset, scale, seed),)
        for attack in figure.attacks
        for _, cell in figure.cells(dataset, attack)
    ]


def _matches(task: AnyTask, pattern: str) -> bool:
    """Whether a task is of a kind, or its title has a pattern in it."""
    pattern, title = pattern.lower(), task.title.lower()
    if pattern in KINDS:
        return task.kind == pattern
    if {*pattern} & {*"*?["}:
        words = [title, *(word.rstrip(",") for word in title.split())]
        return any(fnmatchcase(word, pattern) for word in words)
    return pattern in title


def _at_the_largest_budget(cells: Sequence[Cell], name: str = "pgd") -> list[Cell]:
    """An attack on every target that is attacked white-box, at the largest eps of them all."""
    white_box = [cell for cell in cells if cell.white_box]
    budgets = [cell.attack.eps for cell in white_box if cell.attack and cell.attack.eps is not None]
    if not budgets:
        return []
    attack = AttackRequest(name=name, eps=max(budgets))
    targets = dict.fromkeys((cell.dataset, cell.target) for cell in white_box)
    return [
        Cell(dataset=dataset, target=target, source=target, attack=attack)
        for dataset, target in targets
    ]


def _in_order(tasks: Iterable[AnyTask], artefacts: Artefacts | None) -> list[AnyTask]:
    """Tasks and those that they need, but not what is stored nor what is behind that."""
    found: dict[str, AnyTask] = {}
    seen: set[str] = set()

    def add(task: AnyTask) -> None:
        if task.key in seen:
            return
        seen.add(task.key)
        if artefacts is None or not artefacts.has(task):
            for need in task.needs:
                add(need)
            found[task.key] = task

    with artefacts.listed() if artefacts else contextlib.nullcontext():
        for task in tasks:
            add(task)
    order = list(KINDS)
    return sorted(found.values(), key=lambda task: order.index(task.kind))
