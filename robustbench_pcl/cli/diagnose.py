"""``pclbench diagnose`` and ``explain``: does a number hold, and what does a code mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Format, code_names, offered, recipe_names
from robustbench_pcl.cli.files import PICTURES, SUFFIXES, ForceOption, require_known
from robustbench_pcl.cli.options import Attacks, FilesOption, FormatOption, Models
from robustbench_pcl.cli.output import print_document, say, write
from robustbench_pcl.cli.work import Work, carry_out
from robustbench_pcl.errors import UserError, unknown_name

if TYPE_CHECKING:
    from robustbench_pcl.diagnosis.codes import Explanation
    from robustbench_pcl.store.diagnoses import Diagnosis

WIDTH = 80


@dataclass(frozen=True, kw_only=True)
class Diagnose(Work, Models, Attacks):
    """Say whether a model's accuracy under an attack holds, and if not, why.

    The attack is held against others that find what it may miss: other losses and precisions,
    larger steps, more starts, noise, search without gradients, images of other models. The model is
    trained first if it is not stored; the diagnosis is stored, and report prints its code beside
    the model's numbers.
    """

    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A recipe's name, a checkpoint's file, or a model of your own: my_model.py:Net, "
            "torchvision:resnet18, or the name that it was stored under.",
            autocompletion=offered(recipe_names),
        ),
    ]
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Another model, whose adversarial images are tried on this one; may be repeated.",
            show_default=False,
            autocompletion=offered(recipe_names),
        ),
    ] = None
    file: FilesOption = None
    force: ForceOption = False

    def __call__(self) -> None:
        """Diagnose it with each attack, budget and seed, and print what was found."""
        from robustbench_pcl.pipeline import diagnosing

        require_known(self.file or ())
        workspace = self.workspace()
        tasks: list[diagnosing.Diagnose] = []
        for seed in self.seeds:
            target, *sources = self.models([self.target, *(self.source or ())], workspace, seed)
            tasks += [
                diagnosing.Diagnose(target, attack, self.images, seed, tuple(sources))
                for _, attack in self.attacks([target])
            ]
        if len(tasks) > 1 and any(path.suffix in PICTURES for path in self.file or ()):
            cause = f"A picture shows one diagnosis, and these are {len(tasks)}."
            raise UserError(cause, "Name one attack, one --eps and one --seed, or a page: .html.")
        done = carry_out(tasks, workspace, self)
        if done is not None:
            self._show([workspace.make(task) for task in done.of(tasks)])
            done.settle()

    def _show(self, diagnoses: "Sequence[Diagnosis]") -> None:
        """Print them, and write the files that are asked for."""
        from robustbench_pcl.report.diagnosis_formats import render_diagnoses

        write(render_diagnoses(diagnoses, self.form.value))
        for path in self.file or ():
            if path.suffix in PICTURES:
                from robustbench_pcl.cli.output import write_figure
                from robustbench_pcl.report.diagnosis_figure import diagnosis_figure

                write_figure(diagnosis_figure(diagnoses[0]), path, force=self.force)
            elif SUFFIXES[path.suffix] is not Format.html:
                form = SUFFIXES[path.suffix].value
                write(render_diagnoses(diagnoses, form), path, force=self.force)
            else:
                from robustbench_pcl.report.page import diagnosis_page

                write(diagnosis_page(diagnoses), path, force=self.force)


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Explain a code: its meaning, its evidence, what to do, and the literature.

    Without a code, list all of them.
    """

    code: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE",
            help="Such as PCL103 or 103, or a verdict's name, such as saturated.",
            show_default=False,
            autocompletion=offered(code_names),
        ),
    ] = None
    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print it."""
        from robustbench_pcl.diagnosis.codes import explanations

        known = explanations()
        if self.code is None:
            rows = [{"code": each.code, "name": each.name} for each in known.values()]
            print_document("codes", rows, self.form)
            if self.form is Format.text:
                say("What one means: pclbench explain PCL103")
            return
        names = {each.name: code for code, each in known.items()}
        wanted = self.code.strip()
        found = known.get(wanted.upper()) or known.get(names.get(wanted.lower(), ""))
        found = found or known.get(f"PCL{wanted}")  # as tables show it
        if found is None:
            raise unknown_name("code", wanted, known)
        if self.form is Format.text:
            print(_explained(found), end="")
        else:
            print_document("explanation", [found.content()], self.form)


def _explained(found: "Explanation") -> str:
    """An explanation for a terminal, 80 columns wide."""
    parts = {"Evidence": found.evidence, "What to do": found.cures, "Literature": found.literature}
    blocks = [
        f"{found.code} {found.name}",
        fill(found.meaning, WIDTH),
        *(
            "\n".join([title, *(_item(words) for words in items)])
            for title, items in parts.items()
            if items
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def _item(words: str) -> str:
    return fill(words, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
