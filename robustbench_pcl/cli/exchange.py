"""``pclbench export``: what is stored of each image, for other tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.choices import dataset_names, offered
from robustbench_pcl.cli.options import DATASET_HELP, Place
from robustbench_pcl.cli.output import say
from robustbench_pcl.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Export(Place):
    """Write adversarial images or per-image results for other tools.

    One row per image: index, label, predictions, whether it is robust, what felled it, and how far
    it was changed; .h5 and .npz hold the images, too. docs/export.md describes every column.
    """

    what: Annotated[
        str | None,
        typer.Argument(
            metavar="SET_OR_MEASUREMENT",
            help="Its id, which --format json prints, or its file.",
            show_default=False,
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(help="Or every measurement of this model.", show_default=False),
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

    def __call__(self) -> None:
        """Find what is named and write it."""
        from robustbench_pcl.pipeline.export import all_of_target, one_stored
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
        rows = write_per_image(found, self.output)
        say(f"Wrote {self.output}: {rows:,} rows.")
