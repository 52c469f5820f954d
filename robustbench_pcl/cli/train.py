"""``pclbench train``: one recipe to one checkpoint."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import typer

from robustbench_pcl.cli.choices import (
    Format,
    Precision,
    attack_names,
    loss_names,
    offered,
    recipe_names,
)
from robustbench_pcl.cli.options import (
    DatasetArgument,
    FormatOption,
    Place,
    Seeded,
    SetOption,
    read_layers,
    read_settings,
)
from robustbench_pcl.cli.output import print_rows, say
from robustbench_pcl.cli.work import carry_out

if TYPE_CHECKING:
    from robustbench_pcl.recipe import TrainingPrecision


@dataclass(frozen=True, kw_only=True)
class Train(Place, Seeded):
    """Train one recipe; what it starts from is trained first.

    A training that was interrupted goes on where it was, a finished one is found and not repeated.
    """

    dataset: DatasetArgument
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross-entropy, pcl (Eq. 5-10), pcl-authors (their code's), center, contrastive, "
            "triplet, deep-softmax or your own.",
            show_default="cross-entropy",
            autocompletion=offered(loss_names),
        ),
    ] = None
    adv_train: Annotated[
        str | None,
        typer.Option(
            help="Also train on adversarial images (Algorithm 1): fgsm or pgd.",
            show_default="no",
            autocompletion=offered(attack_names),
        ),
    ] = None
    layers: Annotated[
        str | None,
        typer.Option(help="Layers that the loss acts on, as 3,4,5.", show_default="the loss's own"),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Start from this recipe (vgg19, madry, ...) and change what else is said.",
            show_default=False,
            autocompletion=offered(recipe_names),
        ),
    ] = None
    settings: SetOption = None
    epochs: Annotated[
        int | None, typer.Option(help="Epochs.", min=1, show_default="the recipe's")
    ] = None
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="the recipe's")
    ] = None
    precision: Annotated[
        Precision | None,
        typer.Option(help="How it computes.", show_default="the scale's"),
    ] = None
    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Train it, and print its clean accuracy and where it lies."""
        from robustbench_pcl.pipeline import tasks
        from robustbench_pcl.recipes.load import trained_with

        recipe = trained_with(
            self.dataset,
            self.size,
            self.seed,
            base=self.recipe,
            loss=self.loss,
            layers=read_layers(self.layers),
            adv_train=self.adv_train,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            precision=cast("TrainingPrecision | None", self.precision and self.precision.value),
            set=read_settings(self.settings),
        )
        workspace = self.workspace()
        training = tasks.Train(recipe)
        if workspace.find(training) is None:
            from robustbench_pcl.training.build import build_model

            build_model(recipe)  # layers that the model lacks are refused before hours of work
        carry_out([training, tasks.Measure(recipe)], workspace)
        checkpoint, clean = workspace.train(recipe), workspace.measure(recipe)
        row = {
            "recipe": recipe.name,
            "dataset": recipe.dataset,
            "scale": recipe.scale,
            "clean accuracy": f"{100 * clean.accuracy:.1f} %",
            "n": clean.n,
            "id": checkpoint.record.checkpoint,
        }
        if self.form in (Format.json, Format.csv):
            row["checkpoint"] = str(checkpoint.path)
        print_rows([row], self.form)
        say(f"Stored in {checkpoint.path}")
