"""``pclbench run``, ``ablate`` and ``demo``: what tables, figures or a suite need, and they."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Ensemble, Format
from robustbench_pcl.cli.files import PICTURES
from robustbench_pcl.cli.options import (
    Attacks,
    DatasetArgument,
    DatasetsOption,
    DeviceOption,
    Home,
    Seeds,
)
from robustbench_pcl.cli.output import print_measurements, print_tables, say, write
from robustbench_pcl.cli.work import Shortcuts, Work, carry_out
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.configuration import Scale
    from robustbench_pcl.pipeline.artefacts import AnyTask
    from robustbench_pcl.pipeline.tasks import Measure
    from robustbench_pcl.pipeline.workspace import Workspace
    from robustbench_pcl.recipe import AnyModel

ABLATION = 11
"""The table that tells where the loss acts best."""
DEMO_TABLES = (3, 11, 12, 13)
DEMO_FIGURES = (1, 5, 6, 7)


@dataclass(frozen=True, kw_only=True)
class _Reproduction(Work, Shortcuts, Seeds, Attacks):
    """A command whose models the paper names."""

    def further(self, recipes: "Iterable[AnyModel]") -> "list[Measure]":
        """The options' attacks on some models, each model once, with its own seed."""
        from robustbench_pcl.pipeline.tasks import Measure

        once = {(recipe.name, recipe.id("")): recipe for recipe in recipes}
        return [
            Measure(recipe, recipe, attack, self.images, recipe.seed, self.mode)
            for recipe, attack in self.attacks(list(once.values()))
        ]

    def show_tables(
        self, numbers: "dict[int, tuple[str, ...]]", workspace: "Workspace", scale: "Scale"
    ) -> None:
        """Print tables, each of its data sets."""
        from robustbench_pcl.report.results import load_evidence
        from robustbench_pcl.report.table import report_table

        evidence = load_evidence(workspace.paths, workspace.pass_over)
        tables = [
            report_table(number, evidence, datasets, scale, list(self.seeds))
            for number, datasets in numbers.items()
        ]
        print_tables(tables, self.form)


@dataclass(frozen=True, kw_only=True)
class Run(_Reproduction):
    """Plan what tables, figures or a suite still need, do it, and show them.

    What is stored is never made again, so the command may be stopped and repeated, and two tables
    share their models and adversarial images. With --attack, --eps, --loss, --adaptive or --set,
    all that is attacked white-box is attacked by that, too: a table's worst case counts it.
    """

    table: Annotated[
        list[int] | None,
        typer.Option(help="A table of the paper; may be repeated.", show_default=False),
    ] = None
    figure: Annotated[
        list[int] | None,
        typer.Option(help="A figure of the paper; may be repeated.", show_default=False),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="In Figure 7: a recipe or a model of your own instead of ours; may be repeated.",
            show_default=False,
        ),
    ] = None
    suite: Annotated[
        Path | None,
        typer.Option(help="A suite of your own: docs/suites.md.", show_default=False),
    ] = None
    dataset: DatasetsOption = None
    ensembles: Annotated[
        list[Ensemble] | None,
        typer.Option(
            "--with",
            help="Also attack by this, at the table's largest eps; may be repeated.",
            show_default=False,
        ),
    ] = None

    def __call__(self) -> None:
        """Do it and show it."""
        if bool(self.table or self.figure) == bool(self.suite):
            raise UserError(
                "Give tables and figures of the paper, or a suite.",
                "Write --table 3, --figure 7, or --suite my.toml.",
            )
        if self.ensembles and not self.table:
            raise UserError("Only tables are measured --with another attack.", "Write --table 3.")
        if self.model:
            self._check_models()
        if self.suite is not None:
            self._run_suite(self.suite)
        else:
            self._run_paper()

    def _check_models(self) -> None:
        """Refuse --model where no figure, or one that has models of its own, is asked for."""
        from robustbench_pcl.cli.report import check_takes_models

        if not self.figure:
            raise UserError("--model is for Figure 7.", "Write --figure 7, or leave --model out.")
        for number in self.figure:
            check_takes_models(number)

    def _run_suite(self, path: Path) -> None:
        """Do what a suite asks for, and print it."""
        from robustbench_pcl.pipeline.diagnosing import Diagnose
        from robustbench_pcl.pipeline.suite import load_suite
        from robustbench_pcl.pipeline.tasks import Measure

        if self.dataset or self.scale or self.seed or self.asked_for:
            raise UserError(
                "A suite says its own data sets, scale, seed and attacks.",
                f"Leave those options out, and write them in {path}.",
            )
        suite, workspace = load_suite(path), self.workspace()
        parts = suite.tasks(workspace, images=self.images, mode=self.mode)
        tasks = [task for _, asked in parts for task in asked]
        done = carry_out(tasks, workspace, self)
        if done is None:
            return
        if self.form is not Format.text:
            measures = [task for task in done.of(tasks) if isinstance(task, Measure)]
            found = [workspace.make(task) for task in measures]
            print_measurements(found, self.form, workspace.paths)
            done.settle()
            return
        for part, asked in parts:
            known = done.of(asked)
            if part.title and known:
                write(f"{part.title}\n\n")
            measures = [task for task in known if isinstance(task, Measure)]
            if measures:
                found = [workspace.make(task) for task in measures]
                print_measurements(found, self.form, workspace.paths)
            for task in known:
                if isinstance(task, Diagnose):
                    said = workspace.make(task)
                    words = f"{task.target.name}: {said.code} {said.verdict}. {said.sentence}"
                    write(fill(words, 80, subsequent_indent="  ") + "\n")
        done.settle()

    def _run_paper(self) -> None:
        """Do what tables and figures need; print the tables, draw the figures beside results."""
        from robustbench_pcl.paper.figures import paper_figure
        from robustbench_pcl.paper.tables import published
        from robustbench_pcl.pipeline.models import find_model
        from robustbench_pcl.pipeline.planner import figure_tasks, table_tasks

        workspace = self.workspace()
        scale, wanted = self.size, tuple(dict.fromkeys(self.dataset or ()))
        tables = {number: wanted or published(number).datasets for number in self.table or ()}
        figures = {number: wanted or paper_figure(number).datasets for number in self.figure or ()}
        tasks = [
            task
            for number, datasets in tables.items()
            for name in datasets
            for seed in self.seeds
            for task in table_tasks(number, name, scale, seed, images=self.images, mode=self.mode)
        ]
        for number, datasets in figures.items():
            for name in datasets:
                for seed in self.seeds:
                    models = [
                        find_model(workspace, model, name, scale, seed)
                        for model in self.model or ()
                    ]
                    tasks += figure_tasks(
                        number,
                        name,
                        scale,
                        seed,
                        models=models,
                        images=self.images,
                        mode=self.mode,
                    )
        if self.asked_for:
            tasks += self._further_attacks(tasks)
        if self.ensembles:
            tasks += self._ensembles(tables, scale)
        done = carry_out(tasks, workspace, self)
        if done is None:
            return
        here = {number: done.found(names) for number, names in tables.items()}
        if tables:
            self.show_tables({key: names for key, names in here.items() if names}, workspace, scale)
        drawn = {number: done.found(names) for number, names in figures.items()}
        if figures:
            self._draw({key: names for key, names in drawn.items() if names}, workspace, scale)
        done.settle()

    def _ensembles(self, tables: "dict[int, tuple[str, ...]]", scale: "Scale") -> "list[Measure]":
        """What --with asks for, on all that the tables attack white-box."""
        from robustbench_pcl.pipeline.planner import ensemble_tasks

        tasks = [
            task
            for number, datasets in tables.items()
            for name in datasets
            for ensemble in dict.fromkeys(self.ensembles or ())
            for seed in self.seeds
            for task in ensemble_tasks(
                number, name, ensemble.value, scale, seed, images=self.images, mode=self.mode
            )
        ]
        if not tasks:
            raise UserError("Nothing of that is attacked white-box.", "Leave --with out.")
        return tasks

    def _further_attacks(self, tasks: "Iterable[AnyTask]") -> "list[Measure]":
        """The options' attacks on all that is attacked white-box."""
        from robustbench_pcl.pipeline.tasks import Measure

        measures = (task for task in tasks if isinstance(task, Measure) and task.attack)
        attacked = [measure.target for measure in measures if measure.white_box]
        if not attacked:
            cure = "Leave --attack, --eps, --loss, --adaptive and --set out."
            raise UserError("Nothing of that is attacked white-box.", cure)
        return self.further(attacked)

    def _draw(
        self, numbers: "dict[int, tuple[str, ...]]", workspace: "Workspace", scale: "Scale"
    ) -> None:
        """Draw figures, each of its data sets, into files beside the results."""
        from robustbench_pcl.report.figures import report_figure
        from robustbench_pcl.report.results import load_evidence

        evidence = load_evidence(workspace.paths, workspace.pass_over)
        models, seed = self.model or (), self.seeds[0]
        for number, datasets in numbers.items():
            try:
                figure = report_figure(
                    number, evidence, datasets, models=models, scale=scale, seed=seed
                )
            except UserError as error:  # a figure that compares, of which a part failed
                say(str(error))
                continue
            name = "-".join((f"figure{number:02}", *models))
            for suffix in PICTURES:
                path = workspace.paths.results / f"{name}{suffix}"
                write(figure.drawing.file(suffix), path, force=True)
            say(f"{figure.title}. {figure.caption}")


@dataclass(frozen=True, kw_only=True)
class Ablate(_Reproduction):
    """Train with the loss at different layers and attack each (Table 11).

    With --attack, --eps, --loss, --adaptive or --set they are attacked by that instead.
    """

    dataset: DatasetArgument

    def __call__(self) -> None:
        """Do it, and print Table 11, or one row per model and attack."""
        from robustbench_pcl.pipeline.planner import table_tasks
        from robustbench_pcl.pipeline.tasks import Measure

        scale = self.size
        tasks = [
            task
            for seed in self.seeds
            for task in table_tasks(
                ABLATION, self.dataset, scale, seed, images=self.images, mode=self.mode
            )
        ]
        if self.asked_for:
            measures = [task for task in tasks if isinstance(task, Measure)]
            clean = [measure for measure in measures if measure.attack is None]
            tasks = [*clean, *self.further(measure.target for measure in measures)]
        workspace = self.workspace()
        done = carry_out(tasks, workspace, self)
        if done is None:
            return
        if self.asked_for:
            found = [workspace.make(task) for task in done.of(tasks)]
            print_measurements(found, self.form, workspace.paths)
        else:
            self.show_tables({ABLATION: (self.dataset,)}, workspace, scale)
        done.settle()


@dataclass(frozen=True, kw_only=True)
class Demo(Home):
    """Train, attack, transfer, ablate and report on digits; needs no network.

    Widths, epochs, iterations and images are shrunk, and the footnotes say so.
    """

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page.", show_default="HOME/results/demo.html"),
    ] = None
    device: DeviceOption = "cpu"

    def __call__(self) -> None:
        """Do it, print its tables and write the page."""
        from robustbench_pcl.pipeline.planner import figure_tasks, table_tasks
        from robustbench_pcl.pipeline.workspace import Workspace
        from robustbench_pcl.progress import TerminalProgress
        from robustbench_pcl.report.page import full_page
        from robustbench_pcl.report.results import load_evidence
        from robustbench_pcl.report.strips import stored_strips
        from robustbench_pcl.report.table import report_table

        workspace = Workspace(self.home, device=self.device, progress=TerminalProgress())
        tables = [task for each in DEMO_TABLES for task in table_tasks(each, "digits", "demo")]
        figures = [task for each in DEMO_FIGURES for task in figure_tasks(each, "digits", "demo")]
        carry_out([*tables, *figures], workspace)
        evidence = load_evidence(workspace.paths, workspace.pass_over)
        shown = [report_table(number, evidence, ["digits"], "demo") for number in DEMO_TABLES]
        print_tables(shown, Format.text)
        page = self.output or workspace.paths.results / "demo.html"
        strips = stored_strips(workspace.paths)
        text = full_page(evidence, (), ["digits"], scale="demo", strips=strips)
        write(text, page, force=self.output is None)
        say(f"The page: {page.resolve()}")
