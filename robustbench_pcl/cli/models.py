"""``pclbench models``: the family of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.console import Format, FormatOption, first_line, print_rows
from robustbench_pcl.cli.options import DatasetOption

if TYPE_CHECKING:
    from robustbench_pcl.models.summary import Layer

app = typer.Typer(help="List models and show their layers.", no_args_is_help=True)


@app.command("list")
def list_models(form: FormatOption = Format.table) -> None:
    """List the models there are."""
    from robustbench_pcl.models import MODELS

    print_rows([{"name": name, "what": first_line(MODELS[name])} for name in MODELS], form)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The model.")],
    dataset: DatasetOption = "cifar10",
    form: FormatOption = Format.table,
) -> None:
    """Print a model's layers as Table 1 does, with the features that losses act on."""
    from robustbench_pcl.data.catalogue import dataset_spec
    from robustbench_pcl.models.classifier import build_classifier
    from robustbench_pcl.models.summary import layers_of
    from robustbench_pcl.recipes.bases import TAPS

    spec = dataset_spec(dataset)
    model = build_classifier(name, spec.shape, len(spec.classes), taps=TAPS)
    total = sum(value.numel() for value in model.parameters())
    shape = "x".join(map(str, spec.shape))
    print_rows(
        [_row(layer) for layer in layers_of(model, spec.shape)],
        form,
        title=f"{name} on {spec.title} ({shape}): {total:,} parameters",
    )


def _row(layer: Layer) -> dict[str, str | int]:
    taken = "" if layer.branch is None else f"{layer.branch} -> {layer.features}".lstrip()
    return {
        "layer": layer.number,
        "modules": layer.modules,
        "output": "x".join(map(str, layer.output)),
        "parameters": layer.parameters,
        "tap": taken,
    }
