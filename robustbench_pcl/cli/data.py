"""``pclbench data``: which images there are, and where they come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_pcl.cli.choices import Format, dataset_names, offered
from robustbench_pcl.cli.options import FormatOption
from robustbench_pcl.cli.output import print_rows, say
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.data.datasets import DatasetSpec

NOT_HERE = "not here"
NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Of the data set.", autocompletion=offered(dataset_names)),
]
OptionalNameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Of the data set; all if left out.",
        autocompletion=offered(dataset_names),
    ),
]


@dataclass(frozen=True, kw_only=True)
class ListData:
    """List the data sets, and which of them are on this machine."""

    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per data set."""
        from robustbench_pcl.data.datasets import DATASETS

        rows = [_row(spec) for spec in DATASETS.values()]
        print_rows(rows, self.form, title="Data sets")
        if any(row["where"] == NOT_HERE for row in rows):
            say(
                "What is not here is looked for when it is first used. "
                "To add a copy of your own: pclbench data add NAME FILE"
            )


@dataclass(frozen=True, kw_only=True)
class AddData:
    """Put a data set into the cache, in place of what was there."""

    name: NameArgument
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Zip, tar.gz or folder with <split>/<class>/<id>.png, or the four IDX files; "
            "if left out, the data set is looked for again, on this machine and on the network.",
        ),
    ] = None
    data_root: Annotated[
        Path | None, typer.Option(help="Folder with files in torchvision's layout.")
    ] = None

    def __call__(self) -> None:
        """Read it and say what was found."""
        from robustbench_pcl.data import loader

        found = (
            loader.fetch(self.name, self.data_root)
            if self.file is None
            else loader.add(self.name, self.file)
        )
        counts = f"{len(found.train):,} training and {len(found.test):,} test images"
        note = f" ({found.provenance.note})" if found.provenance.note else ""
        say(f"{found.spec.title}: {counts} from {found.provenance.source}{note}.")


@dataclass(frozen=True, kw_only=True)
class VerifyData:
    """Read cached images again, and compare them with their digests."""

    name: OptionalNameArgument = None
    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per data set that is intact."""
        from robustbench_pcl.data.dataset import verify
        from robustbench_pcl.data.datasets import DATASETS, dataset_spec

        wanted = [dataset_spec(self.name)] if self.name else list(DATASETS.values())
        found = [dataset for spec in wanted if (dataset := verify(spec))]
        if self.name and not found:
            raise UserError(
                f"{dataset_spec(self.name).title} is not in the cache.",
                f"Add it: pclbench data add {self.name} [FILE]",
            )
        rows = [
            {
                "name": dataset.spec.name,
                "train_digest": dataset.train.digest,
                "test_digest": dataset.test.digest,
            }
            for dataset in found
        ]
        print_rows(rows, self.form, title="Intact")


@dataclass(frozen=True, kw_only=True)
class DataPath:
    """Print the folder where data sets are cached, or that of one of them."""

    name: OptionalNameArgument = None

    def __call__(self) -> None:
        """Print it."""
        from robustbench_pcl.data.dataset import cache_root
        from robustbench_pcl.data.datasets import dataset_spec

        print(cache_root() / dataset_spec(self.name).name if self.name else cache_root())


def _row(spec: "DatasetSpec") -> dict[str, Any]:
    from robustbench_pcl.data.dataset import read_info

    where, note = NOT_HERE, ""
    train, test = spec.train_images, spec.test_images
    try:
        if info := read_info(spec):
            where, note = info.provenance.source, info.provenance.note
            train, test = info.train.count, info.test.count
    except UserError as error:  # one broken data set must not hide the others
        where, note = "broken", error.cure
    return {
        "name": spec.name,
        "title": spec.title,
        "shape": "x".join(map(str, spec.shape)),
        "train": train,
        "test": test,
        "where": where,
        "note": note,
    }
