"""``pclbench check``: whether stored numbers meet requirements, for CI."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Scale, dataset_names, offered, read_scale, recipe_names
from robustbench_pcl.cli.files import ForceOption
from robustbench_pcl.cli.options import DATASET_HELP, Home
from robustbench_pcl.cli.output import say_left_out, write
from robustbench_pcl.cli.report_options import INCOMPLETE, PublishedOption, StrictOption
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.report.requirements import Requirement

NOT_MET = 1
"""The exit code where a requirement does not hold."""


class CheckFormat(StrEnum):
    """How answers are written."""

    text = "text"
    json = "json"
    sarif = "sarif"


@dataclass(frozen=True, kw_only=True)
class Check(Home):
    """Compare stored numbers with requirements; exit code 1 where one does not hold.

    A requirement is TARGET.QUANTITY, an operator and a number, such as "ours-pgd.strongest >= 45";
    docs/ci.md has all forms. Nothing is trained or attacked: what is not measured does not hold,
    and the command that measures it is printed. Published numbers count with --published only.
    """

    published: PublishedOption = False
    require: Annotated[
        list[str] | None,
        typer.Option(
            help='Such as "ours.pgd.low >= 45"; may be repeated. Quantities: clean, worst-case, '
            "certified and attacks by name; of each also .low, .high, .n and .verdict.",
            show_default=False,
        ),
    ] = None
    requirements: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Requirements, one a line; # for comments.", show_default=False
        ),
    ] = None
    table: Annotated[
        int | None,
        typer.Option(
            help="Of the paper: its models and its largest budget are meant.", show_default=False
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            help="The target of requirements that name none.",
            show_default=False,
            autocompletion=offered(recipe_names),
        ),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            help=DATASET_HELP,
            show_default="the one that was measured",
            autocompletion=offered(dataset_names),
        ),
    ] = None
    scale: Annotated[
        Scale | None,
        typer.Option(
            help="Only recipes at this scale.", show_default="the most faithful one measured"
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Only recipes with this seed.", show_default="any")
    ] = None
    eps: Annotated[
        str | None,
        typer.Option(
            help="Budget, pixels in [0, 1]: 0.03 or 8/255.",
            show_default="the table's largest, or the paper's for the data set",
        ),
    ] = None
    form: Annotated[CheckFormat, typer.Option("--format", help="Format of the output.")] = (
        CheckFormat.text
    )
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file.", show_default="print"),
    ] = None
    force: ForceOption = False
    strict: StrictOption = False

    def __call__(self) -> int:
        """Print or write each requirement with what was measured; the exit code."""
        from robustbench_pcl.configuration import parse_eps
        from robustbench_pcl.data.datasets import dataset_spec
        from robustbench_pcl.report.required import answer, doubts
        from robustbench_pcl.report.requirement_formats import render_answers
        from robustbench_pcl.report.results import load_evidence
        from robustbench_pcl.report.selection import Selection
        from robustbench_pcl.store.published import published_paths
        from robustbench_pcl.store.records import Paths

        selection = Selection(
            table=self.table,
            dataset=self.dataset and dataset_spec(self.dataset).name,
            scale=read_scale(self.scale),
            seed=self.seed,
            eps=None if self.eps is None else parse_eps(self.eps),
        )
        asked = self._asked()
        left_out: list[UserError] = []
        paths = published_paths() if self.published else Paths(self.home)
        evidence = load_evidence(paths, left_out.append)
        say_left_out(left_out)
        answers = [answer(requirement, evidence, selection) for requirement in asked]
        text = render_answers(answers, doubts(answers, evidence), self._form().value)
        write(text, self.output, force=self.force)
        if not all(each.status == "holds" for each in answers):
            return NOT_MET
        return INCOMPLETE if left_out and self.strict else 0

    def _form(self) -> CheckFormat:
        """The format that --format or the end of the file's name says."""
        said = self.output.suffix[1:] if self.output is not None else ""
        return CheckFormat(said) if said in ("json", "sarif") else self.form

    def _asked(self) -> "list[Requirement]":
        """The requirements of the command line, then those of the file."""
        from robustbench_pcl.report.requirements import SUCH_AS, read_requirement, read_requirements

        if not self.require and self.requirements is None:
            cure = f'Give --require "...", or --requirements FILE. {SUCH_AS}'
            raise UserError("There is no requirement.", cure)
        model = self.model or ""
        asked = [read_requirement(text, model) for text in self.require or ()]
        if self.requirements is not None:
            asked += read_requirements(self.requirements, model)
        return asked
