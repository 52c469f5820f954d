"""``pclbench attack``: white-box robust accuracy of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.console import Format, FormatOption
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
from robustbench_pcl.errors import UserError


def attack(
    *,
    target: Annotated[str, typer.Argument(help="A recipe's name, or a checkpoint's file.")],
    dataset: DatasetOption = "cifar10",
    attack: Annotated[
        list[str] | None,
        typer.Option(help="fgsm, bim, cw, mim or pgd; may be repeated.", show_default="pgd"),
    ] = None,
    eps: EpsOption = None,
    loss: Annotated[
        str | None,
        typer.Option(help="What to maximise: cross-entropy, margin or joint.", show_default=False),
    ] = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Maximise the joint loss, prototypes included.")
    ] = False,
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
    """Attack a model with full knowledge of it, and measure what is left.

    The model is trained first if it is not stored. An image that the model has
    wrong is not attacked, and one that is adversarial takes no further step;
    tables, transfer and --exact take all steps for all images. Adversarial
    images are kept in results/adversarial_sets: nothing is crafted twice.
    """
    from robustbench_pcl.cli.working import measured, show_measurements
    from robustbench_pcl.jobs.plan import Measure

    if adaptive and loss not in (None, "joint"):
        raise UserError(f"--adaptive maximises the joint loss, not {loss}.", "Leave one out.")
    chosen = "joint" if adaptive else loss
    given = [*(parameters or []), *([f"loss={chosen}"] if chosen else [])]
    parts = [read_attack(name, dataset, eps, given) for name in attack or ["pgd"]]
    bench = open_bench(home, device, data_root, images, seed, exact=exact)
    recipe = read_recipe(target, dataset, read_scale(scale), seed, bench)
    if chosen == "joint" and not recipe.taps:
        raise UserError(
            f"{recipe.name} has no loss on features for an attack to know.",
            "Leave --adaptive out, or attack a recipe that has: pclbench attack ours --adaptive.",
        )
    jobs = [
        Measure(recipe),
        *(Measure(recipe, recipe, part, until_fooled=not exact) for part in parts),
    ]
    show_measurements(measured(jobs, bench), form)
