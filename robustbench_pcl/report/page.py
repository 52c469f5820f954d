"""One HTML page that needs nothing else: tables, figures, environments, how to reproduce."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.diagnosis.codes import explanation
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
from robustbench_pcl.report.formatting import (
    listed,
    percent,
    show_budget,
    show_interval,
    show_measured,
    show_published,
)
from robustbench_pcl.report.model_formats import render_models, title
from robustbench_pcl.report.model_report import (
    attacked_models,
    newest_diagnoses,
    stored_bands,
    stored_budgets,
)
from robustbench_pcl.report.model_section import Budget
from robustbench_pcl.report.number_evidence import Strips, number_evidence, shown_numbers
from robustbench_pcl.report.render import fill, render
from robustbench_pcl.report.results import Evidence
from robustbench_pcl.report.summary import (
    CAPTION,
    SummaryRow,
    findings,
    has_devices,
    other_count,
    summary_rows,
    title_of,
    with_seeds,
)
from robustbench_pcl.report.table import Section, Table, report_table
from robustbench_pcl.report.table_figures import table_figures, training_figures
from robustbench_pcl.store.diagnoses import Diagnosis

PAPER = "Deeply Supervised Discriminative Learning for Adversarial Defense (Mustafa et al.)"
BESIDE_PUBLISHED = "Prototype Conformity Loss: measured beside published"
MEASURED = "Prototype Conformity Loss: what was measured"

TEMPLATES = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.globals |= {
    "other_count": other_count,
    "show_interval": show_interval,
    "show_measured": show_measured,
    "show_published": show_published,
}


def full_page(
    evidence: Evidence,
    numbers: Sequence[int] = (),
    datasets: Sequence[str] = (),
    *,
    models: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
    interval: bool = False,
    strips: Strips | None = None,
) -> str:
    """The page for what was measured, with the figures that the evidence allows.

    Args:
        evidence: all records there are.
        numbers: of the paper's tables; by default all with a measurement, and the paper's figures
            with them.
        datasets: sections to show; by default all with a measurement.
        models: by name, beneath the paper's rows, to show everything stored about and to draw over
            eps; by default what is stored about every model that was attacked, unless tables are
            named.
        scale: of the recipes; by default the most faithful one measured.
        seed: of the recipes' training; any by default.
        interval: show each measured number's interval.
        strips: finds the images that an attack fooled first; None for no pictures.

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
    targets = {entry.cell.target for each in tables for s in each.sections for entry in s.entries}
    shown = targets if numbers else set(models)
    return page(
        [*tables, *described],
        figures,
        _commands(tables, figures, models),
        evidence=evidence,
        summary=summary_rows(evidence, datasets, scale, seed, targets=shown),
        models=asked,
        diagnosed=diagnosed,
        interval=interval,
        strips=strips,
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
    evidence: Evidence,
    summary: Sequence[SummaryRow] = (),
    models: Sequence[Sequence[Budget]] = (),
    diagnosed: Sequence[Sequence[Diagnosis]] = (),
    interval: bool = False,
    strips: Strips | None = None,
) -> str:
    """The page as HTML, with style and drawings inside it.

    Args:
        tables: from top to bottom; those of numbers that have none are only named.
        figures: shown beneath the tables.
        commands: reproduce all of it.
        evidence: all records there are.
        summary: the table on top.
        models: everything stored about a model, or some that are compared, one part each.
        diagnosed: what was diagnosed, for each of these parts.
        interval: show each measured number's interval.
        strips: finds the images that an attack fooled first; None for no pictures.
    """
    numbers = [table for table in tables if isinstance(table, Table)]
    filled = [table for table in numbers if any(each.scale for each in table.sections)]
    sections = [section for table in filled for section in table.sections]
    behind = number_evidence(evidence, shown_numbers(summary, filled, models), strips)
    linked = {each.id: place for place, each in enumerate(behind, 1)}
    promised = any(_is_beside_published(table) for table in filled)
    codes = dict.fromkeys(
        [row.verdict for row in summary if row.verdict]
        + [each.verdict for each in behind if each.verdict]
    )
    verdicts = [explanation(code) for code in sorted(codes)]
    return _filled(
        title=BESIDE_PUBLISHED if promised else MEASURED,
        lead=f"What pclbench measured{f', beside what {PAPER} prints' if promised else ''}.",
        facts=_facts([section for table in numbers for section in table.sections]),
        findings=list(findings(summary)),
        summary=_summary(summary) if summary else None,
        figures=figures,
        tables=[
            {
                "number": table.number,
                "title": table.title,
                "html": fill("html", "table", table=table, interval=interval, linked=linked),
            }
            for table in filled
        ],
        described=[
            {"number": table.number, "title": table.title, "html": render(table, "html")}
            for table in tables
            if isinstance(table, DescribedTable)
        ],
        models=[
            {"title": title(part), "html": render_models(part, "html", diagnoses, linked)}
            for part, diagnoses in zip_longest(models, diagnosed, fillvalue=())
        ],
        unmeasured=[_unmeasured(table) for table in numbers if table not in filled],
        verdicts=verdicts,
        names={each.code: each.name for each in verdicts},
        linked=linked,
        evidence=behind,
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
        figures: beneath the tables.
        environments: where the numbers were made.
        commands: reproduce all of it.
        **parts: ``title``, ``lead``, ``facts``, and what else the template has, if there is any.
    """
    none = ("tables", "described", "models", "diagnoses", "unmeasured", "verdicts")
    return TEMPLATES.get_template("page.html").render(
        figures=list(_drawn(figures)),
        environments=_environments(environments),
        commands=list(dict.fromkeys(commands)),
        **{
            **dict.fromkeys((*none, "findings", "independent", "evidence"), ()),
            **{"summary": None, "linked": {}, "names": {}},
            **parts,
        },
    )


def _drawn(figures: Sequence[PageFigure]) -> Iterator[dict[str, str]]:
    """Figures with anchors that do not depend on what else is on the page."""
    taken: Counter[str] = Counter()
    for place, figure in enumerate(figures, 1):
        numbered = re.match(r"Figure (\d+)\.", figure.title)
        words = numbered[1] if numbered else re.sub(r"[^a-z0-9]+", "-", figure.title.lower())
        anchor = f"figure-{words.strip('-')}"
        taken[anchor] += 1
        yield {
            "title": figure.title,
            "anchor": anchor if taken[anchor] == 1 else f"{anchor}-{taken[anchor]}",
            "svg": figure.drawing.svg(f"f{place}-"),
            "caption": figure.caption,
        }


def _is_beside_published(table: Table) -> bool:
    """Whether a published number stands beside a measured one that is meant to compare."""
    return table.has_published and any(each.scale not in (None, "demo") for each in table.sections)


def _unmeasured(table: Table) -> dict[str, Any]:
    """A table without a number, as the page names it."""
    return {
        "anchor": f"table-{table.number}",
        "title": f"Table {table.number}. {table.title}",
        "commands": table.commands,
    }


def _summary(rows: Sequence[SummaryRow]) -> dict[str, Any]:
    """The table on top, as its template takes it."""
    return {
        "caption": CAPTION,
        "seeds": bool(with_seeds(rows)),
        "devices": has_devices(rows),
        "rows": [
            {
                **vars(row),
                "title": title_of(row.dataset),
                "budget": show_budget(row.eps, None).removeprefix("eps = "),
            }
            for row in rows
        ],
    }


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
                "words": (
                    f"{result.attack} leaves {percent(str(result.measured))} where "
                    f"{percent(str(result.claimed))} are claimed"
                ),
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
