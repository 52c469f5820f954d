"""Which stored records answer the paper's figures, one section per data set; nothing is drawn here.

A panel or a point asks for one complete attack; records of other attacks never answer it. All
panels or points about a recipe are of one model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from robustbench_pcl.configuration import SCALES, Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.paper.figures import FeatureFigure, Panel, SweepFigure, paper_figure
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.report.formatting import MISSING, grouped, listed, percent, span
from robustbench_pcl.report.notes import DIGEST
from robustbench_pcl.report.results import Evidence
from robustbench_pcl.report.sweeps import Missing, Sweeps, sweep_answer
from robustbench_pcl.store.embeddings import Array, Embedding, Layout
from robustbench_pcl.store.rules import wilson


class Plot(NamedTuple):
    """One scatter plot.

    Attributes:
        title: whose features.
        layout: the points; None if they are not made yet.
        beside: (N, 2), the points of all plots that show the same part of the plane; None if this
            one shows its own.
    """

    title: str
    layout: Layout | None
    beside: Array | None = None


class Block(NamedTuple):
    """The scatter plots of one data set.

    Attributes:
        title: over the plots.
        classes: numbers of the classes that are shown, in the order of their colours.
        names: what they are called.
        plots: from left to right, then from top to bottom.
    """

    title: str
    classes: tuple[int, ...]
    names: tuple[str, ...]
    plots: tuple[Plot, ...]

    def sentences(self) -> Iterator[str]:
        """The panels' titles, which have the accuracies in them."""
        yield f"{self.title}: {'; '.join(plot.title for plot in self.plots)}."


@dataclass(frozen=True)
class FigureSection:
    """One data set's part of a figure.

    Attributes:
        dataset: name of the data set.
        scale: of the recipes; None if nothing is stored.
        part: what is drawn.
        command: makes all of it; what is stored is not made again.
        images: how many images each of its panels or points shows.
        missing: what is not stored yet.
        devices: that computed what is shown.
        notes: sentences on what is seen.
    """

    dataset: str
    scale: Scale | None
    part: Block | Sweeps
    command: str
    images: tuple[int, ...]
    missing: tuple[Missing, ...]
    devices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def conditions(self) -> str:
        """Data set, scale and n, and where it was computed if not all on one device; or ""."""
        if not self.images:
            return ""
        title = dataset_spec(self.dataset).title
        where = f", computed on {listed(self.devices)}" if len(self.devices) > 1 else ""
        return f"{title}, {self.scale} scale, n = {span(self.images)} images{where}."

    @property
    def wanting(self) -> str:
        """What is missing, in words; "" if nothing is."""
        if not self.missing:
            return ""
        if not self.images:
            return "nothing is stored yet"
        parts = grouped((each.what, f"{each.eps:g}" if each.eps else "") for each in self.missing)
        names = [
            f"{what} at eps = {listed(budgets)}" if any(budgets) else what
            for what, budgets in parts.items()
        ]
        return f"not stored yet: {'; '.join(names)}"

    def sentences(self) -> Iterator[str]:
        """For the caption: how it was made, what is seen, what is missing."""
        yield from filter(None, [self.conditions])
        yield from self.notes
        if self.missing:
            title = dataset_spec(self.dataset).title
            yield f"{title}: {self.wanting}. Make it with: {self.command}."


def run_command(
    number: int,
    dataset: str,
    scale: Scale | None,
    seed: int | None,
    models: Sequence[str] = (),
) -> str:
    """The command that makes a figure for a data set."""
    options = "".join(f" --model {name}" for name in models)
    options += f" --dataset {dataset}"
    options += f" --scale {scale}" if scale else ""
    options += f" --seed {seed}" if seed is not None else ""
    return f"pclbench run --figure {number}{options}"


def figure_sections(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str] = (),
    *,
    models: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[FigureSection]:
    """A figure of the paper for some data sets.

    Args:
        number: the paper's.
        evidence: all records there are.
        datasets: to show; by default all with anything stored, or the paper's if there is nothing.
        models: by name, instead of the figure's own, where it is one of accuracy over the budget.
        scale: of the recipes; by default for each data set the most faithful one stored.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such figure or data set, or a file is damaged.
    """
    figure = paper_figure(number)
    known = {target for _, target, _ in evidence.records}
    for name in models:
        if name not in known:
            load_recipe(name, next(iter(datasets), figure.datasets[0]))  # or it is a mistake
    others = [name for name in DATASETS if name not in figure.datasets]
    sections = [
        _feature_section(figure, evidence.embeddings, name, scale, seed)
        if isinstance(figure, FeatureFigure)
        else _sweep_section(figure, evidence, name, models, scale=scale, seed=seed)
        for name in datasets or (*figure.datasets, *others)
    ]
    if datasets:
        return sections
    found = [section for section in sections if section.images]
    return found or [section for section in sections if section.dataset in figure.datasets]


def _feature_section(
    figure: FeatureFigure,
    embeddings: Sequence[Embedding],
    dataset: str,
    scale: Scale | None,
    seed: int | None,
) -> FigureSection:
    """A figure's panels; those of a recipe are of the model that answers most of them."""
    shown, answers = panel_answers(figure.panels, embeddings, dataset, scale, seed)
    layouts = [answer.layout() if answer else None for answer in answers]
    titles = [
        _title(panel, layout, dataset, shown or "paper")
        for panel, layout in zip(figure.panels, layouts, strict=True)
    ]
    missing = [
        Missing(title.removesuffix(f": {MISSING}"), None)
        for title, layout in zip(titles, layouts, strict=True)
        if layout is None
    ]
    spec, command = dataset_spec(dataset), run_command(figure.number, dataset, shown, seed)
    classes = next((answer.spec.classes for answer in answers if answer), ())
    some = 0 < len(classes) < len(spec.classes)
    return FigureSection(
        dataset=dataset,
        scale=shown,
        part=Block(
            title=spec.title,
            classes=classes,
            names=tuple(spec.classes[number].replace("_", " ") for number in classes),
            plots=tuple(map(Plot, titles, layouts, _together(figure, layouts, classes))),
        ),
        command=command,
        images=tuple(len(layout.points) for layout in layouts if layout),
        missing=tuple(missing),
        devices=tuple(dict.fromkeys(each.record.environment.device for each in answers if each)),
        notes=(
            *(f"{len(classes)} of the {len(spec.classes)} classes, drawn at random.",) * some,
            *_other_models(embeddings, filter(None, answers)),
        ),
    )


def panel_answers(
    panels: Sequence[Panel],
    embeddings: Sequence[Embedding],
    dataset: str,
    scale: Scale | None,
    seed: int | None,
) -> tuple[Scale | None, list[Embedding | None]]:
    """The most faithful scale with an answer to any panel, and its answers to all of them."""
    for tried in (scale,) if scale else SCALES:
        stored = [
            embedding
            for embedding in embeddings
            if (recipe := embedding.spec.model.recipe).dataset == dataset
            and recipe.scale == tried
            and seed in (None, recipe.seed)
        ]
        answers = _answers(panels, stored)
        if any(answers):
            return tried, answers
    return scale, [None] * len(panels)


def _answers(panels: Sequence[Panel], stored: Sequence[Embedding]) -> list[Embedding | None]:
    """For every panel the newest embedding of the model that stands for its recipe.

    That model answers most of the recipe's panels; the newest does if several do.
    """
    found = [[embedding for embedding in stored if _fits(embedding, panel)] for panel in panels]
    counts: dict[str, Counter[tuple[str, str]]] = {panel.recipe: Counter() for panel in panels}
    for panel, fitting in zip(panels, found, strict=True):
        counts[panel.recipe].update({_model(embedding) for embedding in fitting})
    newest = {_model(embedding): place for place, embedding in enumerate(stored)}
    chosen = {
        recipe: max(count, key=lambda model: (count[model], newest[model]))
        for recipe, count in counts.items()
        if count
    }
    return [
        next((one for one in reversed(fitting) if _model(one) == chosen[panel.recipe]), None)
        for panel, fitting in zip(panels, found, strict=True)
    ]


def _other_models(embeddings: Sequence[Embedding], answers: Iterable[Embedding]) -> Iterator[str]:
    """Which recipes have more models stored than the one that is shown."""
    shown = {answer.spec.model.recipe.name: answer.spec.model for answer in answers}
    for name, model in shown.items():
        others = {
            other.weights
            for other in (embedding.spec.model for embedding in embeddings)
            if other.weights not in ("", model.weights)
            and (other.recipe.name, other.recipe.dataset, other.recipe.scale)
            == (name, model.recipe.dataset, model.recipe.scale)
        }
        if others and model.weights:
            yield (
                f"Of {name} {len(others) + 1} models are stored; shown is the one with weights "
                f"{model.weights[:DIGEST]}."
            )


def _model(embedding: Embedding) -> tuple[str, str]:
    """What tells models apart, also two trainings of one recipe."""
    model = embedding.spec.model
    return model.checkpoint, model.weights


def _fits(embedding: Embedding, panel: Panel) -> bool:
    """Whether an embedding shows what a panel asks for, under the same complete attack."""
    recipe = embedding.spec.model.recipe
    if isinstance(recipe, ExternalModel) or recipe.name != panel.recipe:
        return False
    return embedding.spec.view == panel.view(recipe)


def _title(panel: Panel, layout: Layout | None, dataset: str, scale: Scale) -> str:
    return panel.label.format(
        epochs=panel.view(load_recipe(panel.recipe, dataset, scale)).epoch,
        accuracy=_accuracy(layout) if layout else MISSING,
    )


def _accuracy(layout: Layout) -> str:
    """The share of the images that are classified as their label, with its interval."""
    n = len(layout.labels)
    low, high = wilson(int((layout.predictions == layout.labels).sum()), n)
    ends = f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}"
    return f"{percent(100 * layout.accuracy)} [{ends}]"


def _together(
    figure: FeatureFigure, layouts: Sequence[Layout | None], classes: Sequence[int]
) -> Iterator[Array | None]:
    """For each panel the points of all panels in its window; None where it has one of its own."""
    for panel in figure.panels:
        together = [
            layout.with_anchors(classes)
            for other, layout in zip(figure.panels, layouts, strict=True)
            if layout and (figure.one_window == "all" or other.recipe == panel.recipe)
        ]
        one = together and figure.one_window != "none"
        yield np.concatenate(together) if one else None


def _sweep_section(
    figure: SweepFigure,
    evidence: Evidence,
    dataset: str,
    models: Sequence[str],
    *,
    scale: Scale | None,
    seed: int | None,
) -> FigureSection:
    """A figure's curves, those of a recipe all of one model."""
    asked = list(dict.fromkeys(models)) or [figure.recipe]
    answer = sweep_answer(figure, evidence, dataset, asked, scale=scale, seed=seed)
    return FigureSection(
        dataset=dataset,
        scale=answer.scale,
        part=answer.part,
        command=run_command(figure.number, dataset, answer.scale, seed, models),
        images=answer.images,
        missing=answer.missing,
        devices=answer.devices,
        notes=answer.notes,
    )
