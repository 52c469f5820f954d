"""``pclbench ablate``: the layers of Table 11."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.options import (
    DataRootOption,
    DeviceOption,
    ExactOption,
    HomeOption,
    ImagesOption,
    ScaleOption,
    SeedOption,
)
from robustbench_pcl.cli.run import run


def ablate(
    *,
    dataset: Annotated[str, typer.Argument(help="Data set: see pclbench data list.")],
    scale: ScaleOption = None,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    exact: ExactOption = False,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    home: HomeOption = Path(),
) -> None:
    """Train with the loss at different layers and attack each (Table 11).

    The same as pclbench run --table 11 --dataset NAME.
    """
    run(
        table=[11],
        dataset=[dataset],
        scale=scale,
        images=images,
        seed=seed,
        exact=exact,
        device=device,
        data_root=data_root,
        home=home,
    )
