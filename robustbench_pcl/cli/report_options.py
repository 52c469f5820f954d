"""What ``pclbench report`` can be asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.choices import Format, Scale, column_names, dataset_names, offered
from robustbench_pcl.cli.files import ForceOption, OutputOption
from robustbench_pcl.cli.options import FormatOption, Home

INCOMPLETE = 3
"""The exit code where a stored file is left out and --strict is given."""
StrictOption = Annotated[
    bool,
    typer.Option("--strict", help=f"Exit with {INCOMPLETE} where a stored file is left out."),
]
PublishedOption = Annotated[
    bool,
    typer.Option(
        "--published", help="The numbers that came with pclbench, instead of those in --home."
    ),
]
OVER_EPS, OVER_STEPS, CERTIFIED = "eps", "steps", "certified"
"""Figures of models, which are not the paper's: accuracy over the budget, accuracy over a long
training's steps, and two-sided numbers."""
OF_MODELS = (OVER_EPS, OVER_STEPS, CERTIFIED)


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Home):
    """Which numbers are shown, and in which form."""

    published: PublishedOption = False
    table: Annotated[
        int | None, typer.Option(help="Number of a table in the paper.", show_default=False)
    ] = None
    figure: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|eps|steps|certified",
            help="A figure of the paper (Figure 7 also of any --model), or of --model: accuracy "
            "over eps, over training steps, or certified bounds; SVG, or PNG or PDF by the name "
            "of --output.",
            show_default=False,
        ),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A model of your own or a recipe; may be repeated.",
            show_default=False,
        ),
    ] = None
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this data set; may be repeated.",
            show_default="all measured",
            autocompletion=offered(dataset_names),
        ),
    ] = None
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns",
            metavar="LABEL",
            help='Only these columns of the table: "White-box PGD", PGD; may be repeated.',
            show_default="all",
            autocompletion=column_names,
        ),
    ] = None
    form: FormatOption = Format.text
    interval: Annotated[
        bool, typer.Option("--interval", help="With 95 % intervals; csv and json always have them.")
    ] = False
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="One HTML page with all tables and figures; without --output in "
            "HOME/results/report.html (of --published: published.html), with -o - printed.",
        ),
    ] = False
    summary: Annotated[
        bool,
        typer.Option(
            "--summary",
            help="For each model, what the paper claims, and what PGD and strongest leave.",
        ),
    ] = False
    bib: Annotated[
        bool,
        typer.Option(
            "--bib",
            help="The publications that the LaTeX of a table or a model cites, or all, for BibTeX.",
        ),
    ] = False
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write page, tables and all evidence into a new folder: docs/bundle.md.",
            show_default=False,
        ),
    ] = None
    with_weights: Annotated[
        bool,
        typer.Option("--with-weights", help="In a bundle: the models and the adversarial sets."),
    ] = False
    with_sets: Annotated[
        bool, typer.Option("--with-sets", help="In a bundle: the adversarial sets.")
    ] = False
    output: OutputOption = None
    force: ForceOption = False
    scale: Annotated[
        Scale | None,
        typer.Option(
            help="Only recipes at this scale.", show_default="the most faithful one measured"
        ),
    ] = None
    seed: Annotated[
        list[int] | None,
        typer.Option(
            help="Only recipes with this seed; a table shows the mean and spread of several.",
            show_default="any",
        ),
    ] = None

    strict: StrictOption = False
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", help="Print the JSON schema of what --format json prints: docs/json.md."
        ),
    ] = False
