"""``pclbench transfer``: black-box accuracy of targets on a source's adversarial set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_pcl.cli.console import Format, FormatOption, print_rows
from robustbench_pcl.cli.options import (
    DataRootOption,
    DatasetOption,
    DeviceOption,
    EpsOption,
    ExactOption,
    HomeOption,
    ImagesOption,
    ScaleOption,
    SeedOption,
    open_bench,
    read_attack,
    read_recipe,
    read_scale,
)

if TYPE_CHECKING:
    from robustbench_pcl.store.records import Measurement


def transfer(
    *,
    source: Annotated[
        list[str], typer.Option(help="Crafted on this model; may be repeated.", show_default=False)
    ],
    target: Annotated[
        list[str], typer.Option(help="Measured on this model; may be repeated.", show_default=False)
    ],
    dataset: DatasetOption = "cifar10",
    attack: Annotated[str, typer.Option(help="fgsm, bim, cw, mim or pgd.")] = "pgd",
    eps: EpsOption = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another parameter: steps=40.", show_default=False),
    ] = None,
    scale: ScaleOption = None,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    exact: ExactOption = False,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    home: HomeOption = Path(),
    form: FormatOption = Format.table,
) -> None:
    """Craft on source models, measure on target models (a transfer attack).

    Each source's images are crafted and stored once, whatever the number of
    targets. Several sources and targets make a matrix.
    """
    from robustbench_pcl.cli.working import measured, show_measurements
    from robustbench_pcl.jobs.tables import transfer_jobs

    part = read_attack(attack, dataset, eps, parameters or [])
    bench = open_bench(home, device, data_root, images, seed, exact=exact)
    sizes = read_scale(scale)
    sources, targets = (
        [read_recipe(name, dataset, sizes, seed, bench) for name in names]
        for names in (source, target)
    )
    measurements = measured(transfer_jobs(sources, targets, part), bench)
    if form is Format.table and len(sources) * len(targets) > 1:
        print_rows(_matrix(measurements, len(targets)), form)
    else:
        show_measurements(measurements, form)


def _matrix(measurements: Sequence[Measurement], columns: int) -> list[dict[str, Any]]:
    """Accuracies in per cent, a source a row, a target a column."""
    rows = []
    for start in range(0, len(measurements), columns):
        row = measurements[start : start + columns]
        source = row[0].source
        rows.append(
            {"from / on": source.recipe.name if source else ""}
            | {entry.target.recipe.name: f"{100 * entry.accuracy:.1f} %" for entry in row}
            | {"n": row[0].n}
        )
    return rows
