"""``pclbench data``: which images there are, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_pcl.cli.console import Format, FormatOption, print_rows, say
from robustbench_pcl.data.catalogue import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.data.dataset import Dataset
    from robustbench_pcl.data.spec import DatasetSpec

NOT_HERE = "not here"

app = typer.Typer(help="List, add and verify data sets.", no_args_is_help=True)


def _complete(start: str) -> list[str]:
    return [name for name in DATASETS if name.startswith(start)]


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="of the data set", autocompletion=_complete)
]
OptionalNameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="of the data set; all if left out", autocompletion=_complete
    ),
]


@app.command("list")
def list_datasets(form: FormatOption = Format.table) -> None:
    """List the data sets, and which of them are on this machine."""
    rows = [_row(spec) for spec in DATASETS.values()]
    print_rows(rows, form, title="Data sets")
    if any(row["where"] == NOT_HERE for row in rows):
        say(
            "What is not here is looked for when it is first used. "
            "To add a copy of your own: pclbench data add NAME FILE"
        )


@app.command()
def add(
    name: NameArgument,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="zip, tar.gz or folder with <split>/<class>/<id>.png or the four IDX files; "
            "if left out, the data set is looked for again, on this machine and on the network",
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="folder with files in torchvision's layout")
    ] = None,
) -> None:
    """Put a data set into the cache, in place of what was there."""
    from robustbench_pcl.data import loading

    dataset = loading.fetch(name, data_root) if file is None else loading.add(name, file)
    counts = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
    note = f" ({dataset.provenance.note})" if dataset.provenance.note else ""
    say(f"{dataset.spec.title}: {counts} from {dataset.provenance.source}{note}.")


@app.command()
def verify(name: OptionalNameArgument = None, form: FormatOption = Format.table) -> None:
    """Read cached images again, and compare them with their digests."""
    from robustbench_pcl.data import cache

    wanted = [dataset_spec(name)] if name else list(DATASETS.values())
    found = [dataset for spec in wanted if (dataset := cache.verify(spec))]
    if name and not found:
        raise UserError(
            f"{dataset_spec(name).title} is not in the cache.",
            f"Add it: pclbench data add {name} [FILE]",
        )
    print_rows([_intact_row(dataset) for dataset in found], form, title="Intact")


@app.command()
def path(name: OptionalNameArgument = None) -> None:
    """Print the folder where data sets are cached, or that of one of them."""
    from robustbench_pcl.data import cache

    print(cache.folder_of(dataset_spec(name)) if name else cache.cache_root())


def _row(spec: DatasetSpec) -> dict[str, Any]:
    from robustbench_pcl.data import cache

    where, note = NOT_HERE, ""
    train, test = spec.train_images, spec.test_images
    try:
        if info := cache.read_info(spec):
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


def _intact_row(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.spec.name,
        "train_digest": dataset.train.digest,
        "test_digest": dataset.test.digest,
    }
