"""``pclbench train``: one recipe to one checkpoint."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.console import Format, FormatOption, print_rows, say
from robustbench_pcl.cli.options import (
    DataRootOption,
    DeviceOption,
    HomeOption,
    ScaleOption,
    SeedOption,
    open_bench,
    read_layers,
    read_precision,
    read_scale,
)
from robustbench_pcl.errors import UserError


class AdversarialTrainingChoice(StrEnum):
    """What Algorithm 1 can train against."""

    fgsm = "fgsm"
    pgd = "pgd"


def train(
    *,
    dataset: Annotated[str, typer.Argument(help="Data set: see pclbench data list.")],
    loss: Annotated[
        str,
        typer.Option(
            help="cross-entropy, pcl (Eq. 5-10), pcl-authors (their code's), center, contrastive, "
            "triplet or deep-softmax."
        ),
    ] = "cross-entropy",
    adv_train: Annotated[
        AdversarialTrainingChoice | None,
        typer.Option(help="Also train on adversarial images (Algorithm 1).", show_default="no"),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Layers of Table 1 the loss acts on.", show_default="the loss's own"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe by name instead (vgg19, madry, ...).", show_default=False),
    ] = None,
    scale: ScaleOption = None,
    seed: SeedOption = 0,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs.", min=1, show_default="the recipe's")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="the recipe's")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="mixed (bfloat16 where the device computes it) or float32.",
            show_default="the scale's",
        ),
    ] = None,
    device: DeviceOption = "auto",
    data_root: DataRootOption = None,
    home: HomeOption = Path(),
    form: FormatOption = Format.table,
) -> None:
    """Train one recipe; what it starts from is trained first.

    A training that was interrupted goes on where it was, a finished one is
    found and not repeated.
    """
    from robustbench_pcl.cli.working import work
    from robustbench_pcl.data.catalogue import dataset_spec
    from robustbench_pcl.jobs.plan import Train
    from robustbench_pcl.recipes.named import composed_recipe, named_recipe, rescheduled
    from robustbench_pcl.training.assemble import build_model

    dataset_spec(dataset)
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise UserError(
            f"--learning-rate {learning_rate:g} is not a positive number.",
            "Write --learning-rate 0.05, or leave it out.",
        )
    sizes = read_scale(scale)
    if recipe is not None:
        if loss != "cross-entropy" or adv_train or layers:
            raise UserError(
                "--recipe already says loss, layers and adversarial training.",
                "Leave --loss, --layers and --adv-train out, or --recipe.",
            )
        wanted = named_recipe(recipe, dataset, sizes, seed)
    else:
        adversarial = adv_train.value if adv_train else None
        wanted = composed_recipe(
            dataset, sizes, seed, loss=loss, adversarial=adversarial, layers=read_layers(layers)
        )
    wanted = rescheduled(wanted, epochs, learning_rate, read_precision(precision))
    build_model(wanted)  # layers that the model does not have are refused before hours of work
    bench = open_bench(home, device, data_root, seed=seed)
    work([Train(wanted)], bench)
    checkpoint = bench.train(wanted)
    clean = bench.measure(wanted)
    row = {
        "recipe": wanted.name,
        "dataset": dataset,
        "scale": wanted.scale,
        "clean accuracy": f"{100 * clean.accuracy:.1f} %",
        "n": clean.n,
        "id": checkpoint.record.checkpoint,
    }
    if form is Format.table:
        print_rows([row], form)
        say(f"Stored in {checkpoint.path}")
    else:
        print_rows([{**row, "checkpoint": str(checkpoint.path)}], form)
