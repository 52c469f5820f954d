"""One HTML page that needs nothing else: tables, figures, environments, how to reproduce."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.environment import Environment as EnvironmentRecord
from robustbench_pcl.paper.independent import independent_results
from robustbench_pcl.paper.tables import published_numbers
from robustbench_pcl.report.certificate_figure import certificate_figure
from robustbench_pcl.report.certificate_formats import command_of, render_certificates
from robustbench_pcl.report.certified import TwoSided
from robustbench_pcl.report.described import TITLES, DescribedTable, described_table
from robustbench_pcl.report.diagnosis_figure import diagnosis_figure
from robustbench_pcl.report.diagnosis_formats import commands_of, render_diagnoses
from robustbench_pcl.report.figures import (
    PageFigure,
    model_figure,
    paper_figures,
)
from robustbench_pcl.report.formatting import listed, show_budget
from robustbench_pcl.report.model_formats import render_models, title
from robustbench_pcl.report.model_report import (
    attacked_models,
    newest_diagnoses,
    stored_bands,
    stored_budgets,
)
from robustbench_pcl.report.model_section import Budget
from robustbench_pcl.report.render import render
from robustbench_pcl.report.results import Evidence
from robustbench_pcl.report.table import Section, Table, report_table
from robustbench_pcl.report.table_figures import table_figures, training_figures
from robustbench_pcl.store.diagnoses import Diagnosis

TITLE = "Prototype Conformity Loss: measured beside published"
LEAD = (
    "What pclbench measured, beside what Deeply Supervised Discriminative Learning for "
    "Adversarial Defense (Mustafa et al.) prints."
)

TEMPLATES = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def full_page(
    evidence: Evidence,
    numbers: Sequence[int] = (),
    datasets: Sequence[str] = (),
    *,
    models: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
    interval: bool = False,
) -> str:
    """The page for what was measured, with the figures that the evidence allows.

    Args:
        evidence: all records there are.
        numbers: of the paper's tables; by default all with a measurement, or all if none has, and
            the paper's figures with them.
        datasets: sections to show; by default all with a measurement.
        models: by name, beneath the paper's rows, to show everything stored about and to draw over
            eps; by default what is stored about every model that was attacked, unless tables are
            named.
        scale: of the recipes; by default the most faithful one measured.
        seed: of the recipes' training; any by default.
        interval: show each measured number's interval.

    Raises:
        UserError: there is no such table or data set, nothing is stored of a model, or a file is
            damaged.
    """
    seeds = [] if seed is None else [seed]
    tables = [
        report_table(number, evidence, datasets, scale, seeds, models=models)
        for number in numbers or published_numbers()
        if number not in TITLES
    ]
    figures: list[PageFigure] = []
    if not numbers:
        tables = [t for t in tables if any(s.scale for s in t.sections)] or tables
        figures = list(paper_figures(evidence, datasets, scale=scale, seed=seed))
    figures = [*table_figures(tables), *figures, *training_figures(tables, evidence, seed)]
    if models:
        asked = [stored_budgets(evidence, models, datasets, scale, seed)]
        figures += [
            model_figure(each) for each in asked if any(one.eps is not None for one in each)
        ]
    else:
        asked = [] if numbers else attacked_models(evidence, datasets, scale, seed)
    described = [described_table(number) for number in numbers or TITLES if number in TITLES]
    diagnosed = [
        newest_diagnoses(evidence, [each.model.target for each in part], datasets, scale, seed)
        for part in asked
    ]
    figures += [diagnosis_figure(each) for part in diagnosed for each in part]
    bands = [band for part in asked for band in stored_bands(part)]
    figures += [certificate_figure(bands)] if bands else []
    commands = _commands(tables, figures, models)
    return page(
        [*tables, *described],
        figures,
        commands,
        models=asked,
        diagnosed=diagnosed,
        interval=interval,
    )


def diagnosis_page(diagnoses: Sequence[Diagnosis]) -> str:
    """A page of its own for some diagnoses, each with its picture and its tables.

    Args:
        diagnoses: at least one.
    """
    recipes = [each.target.recipe for each in diagnoses]
    verdicts = dict.fromkeys(f"{each.verdict} ({each.code})" for each in diagnoses)
    return _filled(
        title=f"Does it hold? {listed(dict.fromkeys(recipe.name for recipe in recipes))}",
        lead="Whether the accuracy that an attack leaves of a model holds, and if not, why.",
        facts={
            "verdict": listed(verdicts),
            "data set": listed(dict.fromkeys(recipe.dataset for recipe in recipes)),
            "scale": listed(dict.fromkeys(recipe.scale for recipe in recipes)),
        },
        figures=[diagnosis_figure(each) for each in diagnoses],
        diagnoses=[render_diagnoses([each], "html") for each in diagnoses],
        environments=[each.environment for each in diagnoses],
        commands=[command for each in diagnoses for command in commands_of(each)],
    )


def certificate_page(found: Sequence[TwoSided]) -> str:
    """A page of its own for two-sided numbers: one picture, and a table of each model.

    Args:
        found: at least one.
    """
    recipes = [each.certificate.target.recipe for each in found]
    return _filled(
        title=f"What is certified: {listed(dict.fromkeys(recipe.name for recipe in recipes))}",
        lead="How many images withstand every perturbation, from below and from above.",
        facts={
            "data set": listed(dict.fromkeys(recipe.dataset for recipe in recipes)),
            "scale": listed(dict.fromkeys(recipe.scale for recipe in recipes)),
        },
        figures=[certificate_figure(found)],
        diagnoses=[render_certificates([each], "html") for each in found],
        environments=[each.certificate.environment for each in found],
        commands=[command_of(each) for each in found],
    )


def page(
    tables: Sequence[Table | DescribedTable],
    figures: Sequence[PageFigure],
    commands: Sequence[str],
    *,
    models: Sequence[Sequence[Budget]] = (),
    diagnosed: Sequence[Sequence[Diagnosis]] = (),
    interval: bool = False,
) -> str:
    """The page as HTML, with style and drawings inside it.

    Args:
        tables: from top to bottom.
        figures: shown before the tables.
        commands: reproduce all of it.
        models: everything stored about a model, or some that are compared, one part each.
        diagnosed: what was diagnosed, for each of these parts.
        interval: show each measured number's interval.
    """
    sections = [s for table in tables if isinstance(table, Table) for s in table.sections]
    return _filled(
        title=TITLE,
        lead=LEAD,
        facts=_facts(sections),
        figures=figures,
        tables=[
            {
                "number": table.number,
                "title": table.title,
                "html": render(table, "html", interval=interval),
            }
            for table in tables
        ],
        models=[
            {"title": title(part), "html": render_models(part, "html", diagnoses)}
            for part, diagnoses in zip_longest(models, diagnosed, fillvalue=())
        ],
        independent=list(_independent({section.dataset for section in sections})),
        environments=[each for section in sections for each in section.environments],
        commands=commands,
    )


def _filled(
    *,
    figures: Sequence[PageFigure],
    environments: Sequence[EnvironmentRecord],
    commands: Sequence[str],
    **parts: Any,
) -> str:
    """The template, filled.

    Args:
        figures: above everything else.
        environments: where the numbers were made.
        commands: reproduce all of it.
        **parts: ``title``, ``lead``, ``facts``, and what else the template has, if there is any.
    """
    return TEMPLATES.get_template("page.html").render(
        figures=[
            {
                "title": figure.title,
                "svg": figure.drawing.svg(f"f{number}-"),
                "caption": figure.caption,
            }
            for number, figure in enumerate(figures, 1)
        ],
        environments=_environments(environments),
        commands=list(dict.fromkeys(commands)),
        **{"tables": (), "models": (), "diagnoses": (), "independent": (), **parts},
    )


def _facts(sections: Sequence[Section]) -> dict[str, str]:
    measured = sum(section.measured for section in sections)
    whole = measured + sum(section.missing for section in sections)
    return {
        "cells measured": f"{measured} of {whole}",
        "data sets": ", ".join(dict.fromkeys(section.title for section in sections)),
        "scale": ", ".join(dict.fromkeys(s.scale for s in sections if s.scale)) or "none yet",
    }


def _independent(datasets: set[str]) -> Iterator[dict[str, Any]]:
    """What others measured on the authors' own models, before anything else."""
    for result in independent_results():
        if result.dataset in datasets:
            yield {
                "model": result.model,
                "dataset": dataset_spec(result.dataset).title,
                "budget": show_budget(result.eps, None),
                "reference": result.reference,
                "numbers": {
                    "claimed by the authors": result.claimed,
                    f"left by {result.attack}": result.measured,
                },
            }


def _environments(environments: Sequence[EnvironmentRecord]) -> list[dict[str, Any]]:
    """Where the numbers were made, each environment once."""
    found = {each.model_dump_json(): each.content() for each in environments}
    return list(found.values())


def _commands(
    tables: Sequence[Table], figures: Sequence[PageFigure], models: Sequence[str]
) -> list[str]:
    named = "".join(f" --model {name}" for name in models)
    return [
        *(
            f"pclbench run --table {table.number} --dataset {section.dataset}"
            + (f" --scale {section.scale}" if section.scale else "")
            for table in tables
            for section in table.sections
        ),
        *(command for figure in figures for command in figure.commands),
        f"pclbench report --page{named} --output report.html",
    ]
