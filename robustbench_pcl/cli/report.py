"""``pclbench report``: the paper's tables and figures, measured beside published."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_pcl.cli.choices import Format, read_scale
from robustbench_pcl.cli.files import PAGES, SUFFIXES, read_form
from robustbench_pcl.cli.output import (
    print_document,
    print_tables,
    say,
    say_left_out,
    write,
    write_figure,
)
from robustbench_pcl.cli.report_options import (
    CERTIFIED,
    INCOMPLETE,
    OF_MODELS,
    OVER_EPS,
    OVER_STEPS,
    ReportOptions,
)
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.report.described import DescribedTable
    from robustbench_pcl.report.results import Evidence
    from robustbench_pcl.report.table import Table
    from robustbench_pcl.store.records import Paths


@dataclass(frozen=True, kw_only=True)
class Report(ReportOptions):
    """Show measured numbers beside those of the paper.

    Nothing is trained or attacked: what is missing is shown as missing, with the command that
    measures it. Tables 1, 2 and 10 describe the code itself. --model shows all that is stored of a
    model, budget by budget, and compares two. Without any of these, list what there is and how
    much of it is measured. Where nothing is measured in --home yet, as in a fresh checkout, its
    results/published is shown, and that is said.
    """

    def __call__(self) -> int:
        """Print or write what is asked for; the exit code."""
        from robustbench_pcl.paper.tables import published_numbers
        from robustbench_pcl.report.described import TITLES, described_table

        if self.schema:
            from robustbench_pcl.report.schema import json_schema

            write(json.dumps(json_schema(), indent=2) + "\n", self.output, force=self.force)
            return 0
        if self.bundle is not None or self.with_weights or self.with_sets:
            return self._code(self._write_bundle())
        if self.figure is not None and (self.table is not None or self.page):
            other = "--page" if self.page else "--table"
            raise UserError("A figure is written by itself.", f"Leave {other} out.")
        if self.page and self.output is not None and self.output.suffix not in ("", *PAGES):
            cure = "Name a file that ends in .html."
            raise UserError(f"A page cannot be written as {self.output.name}.", cure)
        if self.form not in (Format.text, Format.html) and (self.figure is not None or self.page):
            what = "The page is HTML" if self.page else "A figure is a picture"
            cure = "Leave --format out; end the name after --output with .svg, .png or .pdf."
            raise UserError(f"{what}, not {self.form}.", cure)
        if self.figure in OF_MODELS and not self.model:
            cure = f"Name a model: pclbench report --figure {self.figure} --model ours."
            raise UserError(f"The figure {self.figure} is of one model or some.", cure)
        if self.figure not in (None, *OF_MODELS) and self.model:
            check_takes_models(read_figure(self.figure))
        self._check_latex()
        if self.table in TITLES and not self.page:
            if self.dataset or self.scale or self.seed or self.interval or self.model:
                raise UserError(
                    f"Table {self.table} describes the code, not measurements.",
                    "Leave --dataset, --scale, --seed, --model and --interval out.",
                )
            self._show_table(described_table(self.table).only(self.columns or ()))
            return 0
        if self.table is not None and self.table not in published_numbers():
            known = ", ".join(map(str, sorted({*TITLES, *published_numbers()})))
            raise UserError(
                f"There is no table {self.table} in the paper.", f"Known: --table {known}."
            )
        if len(set(self.seed or ())) > 1 and (self.table is None or self.page):
            cause = "Only a table shows the mean and spread of several seeds."
            raise UserError(cause, "Name a table with --table 3, or one --seed.")
        left_out = self._show_stored()
        if not self.published and not self.home.is_dir():
            say(f"There is no folder {self.home}, so nothing is stored in it: check --home.")
        return self._code(left_out)

    def _check_latex(self) -> None:
        """Refuse --columns and --bib where they mean nothing."""
        if self.columns and (self.table is None or self.page):
            raise UserError("Columns are a table's.", "Name it: --table 3 --columns PGD.")
        if not self.bib:
            return
        if self.figure is not None or self.page:
            other = "--page" if self.page else "--figure"
            raise UserError("Publications are written by themselves.", f"Leave {other} out.")
        if self.form is not Format.text or (self.output and self.output.suffix in SUFFIXES):
            cure = "Leave --format out, and name a file that ends in .bib: -o refs.bib."
            raise UserError("Publications are written for BibTeX alone.", cure)

    def _show_table(self, table: "Table | DescribedTable") -> None:
        """Print or write a table, or the publications that it cites."""
        if self.bib:
            from robustbench_pcl.report.render import render

            self._write_bibliography(render(table, "latex", interval=self.interval))
            return
        print_tables(
            [table], self.form, interval=self.interval, output=self.output, force=self.force
        )

    def _write_bibliography(self, latex: str) -> None:
        """Print or write the publications that LaTeX's text cites."""
        from robustbench_pcl.paper.references import bibliography, cited

        write(bibliography(cited(latex)), self.output, force=self.force)

    def _paths(self) -> "Paths":
        """Where the numbers lie that are shown."""
        from robustbench_pcl.store.published import published_instead, published_paths
        from robustbench_pcl.store.records import Paths

        if self.published:
            return published_paths()
        published = published_instead(Paths(self.home))
        if published is None:
            return Paths(self.home)
        own = "pclbench run" if self.table is None else f"pclbench run --table {self.table}"
        say(f"Nothing is measured here yet, so these are published numbers. To measure: {own}")
        return published

    def _code(self, left_out: Sequence[UserError]) -> int:
        """The exit code."""
        return INCOMPLETE if left_out and self.strict else 0

    def _show_stored(self) -> Sequence[UserError]:
        """Print or write a table, a figure, the page or the overview from what is stored.

        Returns:
            Why files were left out.
        """
        from robustbench_pcl.report.results import load_evidence
        from robustbench_pcl.report.table import report_table

        if self.summary and (self.page or self.table is not None or self.figure is not None):
            cure = "Leave --page, --table and --figure out."
            raise UserError("The summary is written by itself.", cure)
        left_out: list[UserError] = []
        paths = self._paths()
        evidence = load_evidence(paths, left_out.append)
        say_left_out(left_out)
        names, scale, models = self.dataset or [], read_scale(self.scale), self.model or []
        seeds = self.seed or []
        seed = next(iter(seeds), None)
        if self.page:
            from robustbench_pcl.report.page import full_page
            from robustbench_pcl.report.strips import stored_strips

            numbers = [] if self.table is None else [self.table]
            page = full_page(
                evidence,
                numbers,
                names,
                scale=scale,
                seed=seed,
                models=models,
                interval=self.interval,
                strips=stored_strips(paths),
            )
            name = "published.html" if self.published else "report.html"
            own = self.home / "results" / name
            write(page, self.output or own, force=self.force or self.output is None)
        elif self.table is not None:
            columns = self.columns or []
            self._show_table(
                report_table(
                    self.table, evidence, names, scale, seeds, models=models, columns=columns
                )
            )
        elif self.figure is not None and self.figure not in OF_MODELS:
            from robustbench_pcl.report.figures import report_figure

            number = read_figure(self.figure)
            drawn = report_figure(number, evidence, names, models=models, scale=scale, seed=seed)
            write_figure(drawn, self.output, force=self.force)
        elif self.summary:
            from robustbench_pcl.report.summary import render_summary, summary_rows

            form = read_form(self.form, self.output)
            rows = summary_rows(evidence, names, scale, seed, targets=models)
            write(render_summary(rows, form.value), self.output, force=self.force)
        elif self.model:
            self._show_models(evidence, self.model)
        elif self.bib:
            from robustbench_pcl.paper.references import bibliography, references

            write(bibliography(references()), self.output, force=self.force)
        elif self.output is not None:
            cure = "Name one with --table 3, or ask for --page."
            raise UserError("There is no table to write.", cure)
        else:
            from robustbench_pcl.report.text import overview, overview_text

            lines = overview(evidence, names, scale=scale, seed=seed)
            if self.form is Format.text:
                write(overview_text(lines))
            else:
                print_document("overview", lines, self.form)
        return left_out

    def _write_bundle(self) -> Sequence[UserError]:
        """Write what is asked for, and what it rests on, into a folder.

        Returns:
            Why files were left out.
        """
        from robustbench_pcl.evidence.bundle import write_bundle
        from robustbench_pcl.evidence.manifest import Selection

        if self.bundle is None:
            raise UserError("Weights and sets go into a bundle.", "Name its folder: --bundle DIR.")
        said = {
            **{"--figure": self.figure, "--output": self.output, "--page": self.page},
            **{"--interval": self.interval, "--format": self.form is not Format.text},
            **{"--columns": self.columns, "--bib": self.bib},
        }
        for option in (name for name, given in said.items() if given):
            cause = f"{option} means nothing for a bundle, which has page, tables and intervals."
            raise UserError(cause, f"Leave {option} out.")
        selection = Selection(
            tables=() if self.table is None else (self.table,),
            models=tuple(self.model or ()),
            datasets=tuple(self.dataset or ()),
            scale=read_scale(self.scale),
            seeds=tuple(self.seed or ()),
        )
        left_out: list[UserError] = []
        digest = write_bundle(
            self._paths(),
            self.bundle,
            selection,
            weights=self.with_weights,
            sets=self.with_sets or self.with_weights,
            say=say,
            passed_over=left_out.append,
        )
        say_left_out(left_out)
        say(f"Wrote {self.bundle}. The SHA-256 of its manifest, by which it can be cited:")
        write(f"{digest}\n")
        return left_out

    def _show_models(self, evidence: "Evidence", models: Sequence[str]) -> None:
        """Print or write all that is stored of some models, or draw it over eps."""
        if self.figure == OVER_STEPS:
            self._show_trajectories(evidence, models)
            return
        from robustbench_pcl.report.figures import model_figure
        from robustbench_pcl.report.model_formats import render_models
        from robustbench_pcl.report.model_report import newest_diagnoses, stored_budgets

        which = (self.dataset or [], read_scale(self.scale), next(iter(self.seed or ()), None))
        if self.figure == CERTIFIED:
            from robustbench_pcl.report.certificate_figure import certificate_figure
            from robustbench_pcl.report.certified import stored_certificates

            found = stored_certificates(evidence.certificates, models, *which)
            write_figure(certificate_figure(found), self.output, force=self.force)
            return
        if self.figure is None:
            diagnoses = newest_diagnoses(evidence, models, *which)
            diagnosed = {each.target.recipe.name for each in diagnoses}
            budgets = stored_budgets(evidence, models, *which, unmeasured=diagnosed)
            if self.bib:
                self._write_bibliography(render_models(budgets, "latex", diagnoses))
                return
            form = read_form(self.form, self.output)
            text = render_models(budgets, form.value, diagnoses)
            write(text, self.output, force=self.force)
        else:
            drawn = model_figure(stored_budgets(evidence, models, *which))
            write_figure(drawn, self.output, force=self.force)

    def _show_trajectories(self, evidence: "Evidence", models: Sequence[str]) -> None:
        """Draw long trainings over their steps."""
        from robustbench_pcl.report.trajectory import trajectory_figure

        scale, seed = read_scale(self.scale), next(iter(self.seed or ()), None)
        names = self.dataset or []
        drawn = trajectory_figure(evidence, models, names, scale, seed)
        write_figure(drawn, self.output, force=self.force)


def check_takes_models(number: int) -> None:
    """Refuse --model for a figure of the paper that is not one of accuracy over the budget.

    Raises:
        UserError: it is not, or there is no such figure.
    """
    from robustbench_pcl.paper.figures import SweepFigure, paper_figure

    if not isinstance(paper_figure(number), SweepFigure):
        others = " or --figure ".join(("7", *OF_MODELS))
        cure = f"Leave --model out, or write --figure {others}."
        raise UserError(f"Figure {number} of the paper has models of its own.", cure)


def read_figure(text: str) -> int:
    """The number of a figure in the paper.

    Raises:
        UserError: it is none.
    """
    try:
        return int(text)
    except ValueError as error:
        cure = f"Write --figure 7, or --figure {OVER_EPS} --model NAME."
        raise UserError(f"{text!r} is no figure's number.", cure) from error
