"""``pclbench certify``: between how many images withstand every perturbation, and the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Format, offered, recipe_names
from robustbench_pcl.cli.files import PICTURES, SUFFIXES, ForceOption, require_known
from robustbench_pcl.cli.options import EpsOption, FilesOption, Models
from robustbench_pcl.cli.output import write, write_figure
from robustbench_pcl.cli.work import Work, carry_out
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.report.certified import TwoSided


@dataclass(frozen=True, kw_only=True)
class Certify(Work, Models):
    """Compute lower and upper bounds on the robust accuracy within eps.

    For each image, bounds give a radius within which nothing fools the model, and attacks the
    smallest perturbation that does; what lies between is not known. The model is trained first if
    it is not stored; the certificate is stored, and report shows it beside the model's numbers.
    """

    target: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Recipes' names, checkpoints' files, or a model of your own: my_model.py:Net, "
            "torchvision:resnet18, or the name that it was stored under.",
            autocompletion=offered(recipe_names),
        ),
    ]
    eps: EpsOption = None
    file: FilesOption = None
    force: ForceOption = False

    def __call__(self) -> None:
        """Certify each model, and print what is known within each budget."""
        from robustbench_pcl.configuration import parse_eps
        from robustbench_pcl.data.datasets import dataset_spec
        from robustbench_pcl.pipeline.certifying import REACH, Certify
        from robustbench_pcl.pipeline.tasks import Measure
        from robustbench_pcl.report.certified import two_sided

        require_known(self.file or ())
        budgets = tuple(dict.fromkeys(map(parse_eps, self.eps or ())))
        if 0 in budgets:
            raise UserError(
                "With eps 0, no pixel may change.", "Give a larger eps, such as 0.03 or 8/255."
            )
        workspace, tasks = self.workspace(), list[Certify]()
        for seed in self.seeds:
            for model in self.models(self.target, workspace, seed):
                usual = dataset_spec(model.dataset).eps
                largest = min(REACH * max(usual, *budgets), 1.0) if budgets else None
                tasks.append(Certify(model, self.images, largest))
        clean = [Measure(task.target, images=self.images) for task in tasks]
        done = carry_out([*clean, *tasks], workspace, self)
        if done is not None:
            self._show([two_sided(workspace.make(task), budgets) for task in done.of(tasks)])
            done.settle()

    def _show(self, found: "Sequence[TwoSided]") -> None:
        """Print them, and write the files that are asked for."""
        from robustbench_pcl.report.certificate_formats import render_certificates

        write(render_certificates(found, self.form.value))
        for path in self.file or ():
            if path.suffix in PICTURES:
                from robustbench_pcl.report.certificate_figure import certificate_figure

                write_figure(certificate_figure(found), path, force=self.force)
            elif SUFFIXES[path.suffix] is not Format.html:
                form = SUFFIXES[path.suffix].value
                write(render_certificates(found, form), path, force=self.force)
            else:
                from robustbench_pcl.report.page import certificate_page

                write(certificate_page(found), path, force=self.force)
