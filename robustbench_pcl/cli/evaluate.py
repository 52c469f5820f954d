"""``pclbench attack`` and ``pclbench transfer``: what is left of models under attack."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Format, offered, recipe_names
from robustbench_pcl.cli.options import Attacks, Models
from robustbench_pcl.cli.output import print_matrices, print_measurements, say
from robustbench_pcl.cli.work import Work, carry_out

if TYPE_CHECKING:
    from robustbench_pcl.attacks.base import Attack as AttackConfiguration
    from robustbench_pcl.configuration import Mode
    from robustbench_pcl.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Attack(Work, Models, Attacks):
    """Attack a model with full knowledge of it, and measure what is left.

    The model is trained first if it is not stored. An image that the model has wrong is not
    attacked, and one that is adversarial takes no further step; transfer, run and --exact take all
    steps for all images. Adversarial images are kept in results/adversarial_sets: nothing is made
    twice.
    """

    target: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, or a checkpoint's file.",
            autocompletion=offered(recipe_names),
        ),
    ]

    def __call__(self) -> None:
        """Measure clean accuracy and that under each attack."""
        from robustbench_pcl.pipeline.tasks import Measure

        workspace = self.workspace()
        recipes = self.models([self.target], workspace)
        attacks = self.attacks(recipes)
        mode: Mode = "exact" if self.exact else "early-stop"
        tasks = [
            Measure(recipes[0], images=self.images),
            *(
                Measure(recipe, recipe, attack, self.images, self.seed, mode)
                for recipe, attack in attacks
            ),
        ]
        if carry_out(tasks, workspace, self):
            print_measurements([workspace.make(task) for task in tasks], self.form)
            said: dict[str, list[str]] = {}
            for recipe, attack in attacks:
                said.setdefault(_where_it_counts(recipe, attack), []).append(attack.label)
            for where, labels in said.items():
                say(f"{'; '.join(labels)}: {where}")


def _where_it_counts(recipe: "Recipe", attack: "AttackConfiguration") -> str:
    """Which tables take the white-box accuracy of a model, or what fills those that name it."""
    from robustbench_pcl.paper.tables import published, published_numbers

    asking, naming = [], []
    for number in published_numbers():
        cells = [position.cell for position in published(number).positions(recipe.dataset)]
        cells = [cell for cell in cells if cell.white_box and cell.target == recipe.name]
        if cells:
            naming.append(number)
        if any(cell.attack_for(recipe.scale) == attack for cell in cells):
            asking.append(number)
    where = f"--dataset {recipe.dataset} --scale {recipe.scale}"
    if asking:
        numbers = f"Table{'s' * (len(asking) > 1)} {', '.join(map(str, asking))}"
        return f"in {numbers}: pclbench report --table {asking[0]} {where}"
    if naming:
        command = f"pclbench run --table {naming[0]} {where}"
        return f"in no table. What Table {naming[0]} asks for: {command}"
    return f"in no table, since none attacks {recipe.name}."


@dataclass(frozen=True, kw_only=True)
class Transfer(Work, Models, Attacks):
    """Attack source models, and measure what target models make of the images.

    Each source's adversarial images are made and stored once, whatever the number of targets.
    Several sources and targets make a matrix, one for each attack.
    """

    source: Annotated[
        list[str],
        typer.Option(
            help="Attacked: a recipe's name, or a checkpoint's file; may be repeated.",
            autocompletion=offered(recipe_names),
        ),
    ]
    target: Annotated[
        list[str],
        typer.Option(
            help="Measured on its images, named alike; may be repeated.",
            autocompletion=offered(recipe_names),
        ),
    ]

    def __call__(self) -> None:
        """Measure every target on the images of every source."""
        from robustbench_pcl.pipeline.tasks import Measure

        workspace = self.workspace()
        recipes = self.models([*self.source, *self.target], workspace)
        sources, targets = recipes[: len(self.source)], recipes[len(self.source) :]
        tasks = [
            Measure(target, source, attack, self.images, self.seed, self.mode)
            for source, attack in self.attacks(sources)
            for target in targets
        ]
        if not carry_out(tasks, workspace, self):
            return
        measurements = [workspace.make(task) for task in tasks]
        if self.form is Format.text and len(tasks) > 1:
            print_matrices(measurements)
        else:
            print_measurements(measurements, self.form)
