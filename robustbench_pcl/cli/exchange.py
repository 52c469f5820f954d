"""``pclbench attack --from`` and ``export``: images and results, from other tools and for them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from robustbench_pcl.cli.choices import Norm, dataset_names, offered
from robustbench_pcl.cli.files import ForceOption, writing
from robustbench_pcl.cli.options import DATASET_HELP, Attacks, Place
from robustbench_pcl.cli.output import print_measurements, say
from robustbench_pcl.cli.work import carry_out, check_external
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.cli.make import Attack
    from robustbench_pcl.pipeline.workspace import Workspace
    from robustbench_pcl.recipe import AnyModel

OF_MAKING = {field.name for field in fields(Attacks)} - {"eps", "norm"}
OF_MAKING |= {"exact", "images", "workers", "executor", "dry_run"}
OF_MAKING |= {"only", "limit_time", "keep_going"}
"""Options that say how images are made; those of a file are there already."""


def measure_imported(
    file: Path, models: "Sequence[AnyModel]", workspace: "Workspace", options: "Attack"
) -> None:
    """Measure models on the images of a file, and on the clean ones if it has the first of them.

    Nothing is trained before the file is known to be what it should be.

    Args:
        file: that another tool wrote.
        models: of one data set.
        workspace: where the images are stored.
        options: of the command.

    Raises:
        UserError: an option means nothing here, or the file is not what it should be.
    """
    from robustbench_pcl.pipeline.tasks import Measure
    from robustbench_pcl.pipeline.training import trainings

    for field in fields(options):
        if field.name in OF_MAKING and getattr(options, field.name) != field.default:
            flag = "--set" if field.name == "settings" else f"--{field.name.replace('_', '-')}"
            cause = f"{flag} means nothing for images of a file, which already exist."
            raise UserError(cause, f"Leave {flag} or --from out.")
    if len(options.eps or ()) > 1:
        cause = "The images of a file have one budget, not several."
        raise UserError(cause, "Give --eps once: the budget that they were made with.")
    norm: Literal["linf", "l2"] = "l2" if options.norm is Norm.l2 else "linf"
    dataset = models[0].dataset
    images = workspace.import_images(file, dataset, options.eps[0] if options.eps else None, norm)
    first = images.spec.data == workspace.dataset(dataset).record("test")
    clean = [Measure(model, images=images.spec.n) for model in models]
    check_external(clean, workspace)
    needed = [training for model in models for training in trainings(model)]
    carry_out([*needed, *clean] if first else needed, workspace)
    measured = [workspace.make(task) for task in clean] if first else []
    measured += [workspace.judge(model, images) for model in models]
    print_measurements(measured, options.form, workspace.paths)
    say(f"Stored as adversarial set {images.spec.id}.")


@dataclass(frozen=True, kw_only=True)
class Export(Place):
    """Write adversarial images or per-image results for other tools.

    One row per image: index, label, predictions, whether it is robust, what fooled it, and how far
    it was changed; .h5 and .npz hold the images, too. docs/export.md describes every column.
    """

    what: Annotated[
        str | None,
        typer.Argument(
            metavar="SET_OR_MEASUREMENT",
            help="Id (pclbench attack --format json prints it) or file.",
            show_default=False,
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(help="Instead of an ID: every measurement of this model.", show_default=False),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            help=f"With --target. {DATASET_HELP}",
            show_default="all",
            autocompletion=offered(dataset_names),
        ),
    ] = None
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file: .h5, .npz, .csv or .jsonl.")
    ]
    force: ForceOption = False

    def __call__(self) -> None:
        """Find what is named and write it."""
        from robustbench_pcl.pipeline.export import all_of_target, one_stored
        from robustbench_pcl.progress import counted
        from robustbench_pcl.report.image_files import write_per_image

        if (self.what is None) == (self.target is None) or (self.dataset and not self.target):
            raise UserError(
                "One thing is written: a set, a measurement, or all measurements of a model.",
                "Write pclbench export ID -o FILE, or pclbench export --target NAME -o FILE.",
            )
        workspace = self.workspace()
        if self.target is not None:
            found = all_of_target(workspace, self.target, self.dataset)
        else:
            found = [one_stored(workspace, self.what or "")]
        with writing(self.output, force=self.force) as place:
            rows = write_per_image(found, place)
        say(f"Wrote {self.output}: {counted(rows, 'row')}.")
