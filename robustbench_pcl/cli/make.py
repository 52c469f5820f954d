"""``pclbench train``, ``attack`` and ``transfer``: make what is named, and print its accuracy."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

import typer

from robustbench_pcl.cli.choices import (
    Format,
    Precision,
    attack_names,
    loss_names,
    offered,
    recipe_names,
)
from robustbench_pcl.cli.exchange import measure_imported
from robustbench_pcl.cli.options import (
    Attacks,
    DatasetArgument,
    Models,
    Seeds,
    SetOption,
    read_layers,
    read_settings,
)
from robustbench_pcl.cli.output import (
    home_option,
    print_document,
    print_matrices,
    print_measurements,
    print_rows,
    say,
)
from robustbench_pcl.cli.work import Shortcuts, Tasks, Work, carry_out
from robustbench_pcl.environment import processes
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.attacks.base import Attack as AttackConfiguration
    from robustbench_pcl.configuration import Mode
    from robustbench_pcl.pipeline.training import Train as Training
    from robustbench_pcl.pipeline.workspace import Workspace
    from robustbench_pcl.recipe import AnyModel, Recipe, TrainingPrecision
    from robustbench_pcl.store.checkpoints import Checkpoint
    from robustbench_pcl.store.records import Measurement


STRONGEST = "strongest"
"""The attack that ends with the worst case over all that is stored."""


@dataclass(frozen=True, kw_only=True)
class Train(Tasks, Seeds):
    """Train one recipe; what it starts from is trained first.

    An interrupted training continues where it stopped. A finished one is not repeated.
    """

    together: ClassVar[bool] = True

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
            help="Train this recipe (vgg19, madry, ...), changed by the other options.",
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
        typer.Option(help="Precision of training.", show_default="the scale's"),
    ] = None
    devices: Annotated[
        int,
        typer.Option(
            help="Divide each batch among this many GPUs of this machine (without GPUs: "
            "processes), or as many as torchrun started (docs/how-to/cluster.md).",
            min=1,
        ),
    ] = 1

    def __call__(self) -> int:
        """Train it with each seed, and print its clean accuracy and where it lies."""
        from robustbench_pcl.pipeline import tasks

        recipes = [self._recipe(seed) for seed in self.seeds]
        workspace = self.workspace()
        if not self.dry_run and any(
            workspace.find(tasks.Train(recipe)) is None for recipe in recipes
        ):
            from robustbench_pcl.training.build import build_model

            build_model(recipes[0])  # layers that it lacks are refused before hours of work
        if (self.devices > 1 or processes() > 1) and not self.dry_run:
            trainings = [tasks.Train(recipe) for recipe in recipes]
            ended = self._train_on_devices(trainings, workspace)
            if ended is not None:
                return ended
        wanted = [task(recipe) for recipe in recipes for task in (tasks.Train, tasks.Measure)]
        done = carry_out(wanted, workspace, self)
        if done is None:
            return 0
        recipes = [recipe for recipe in recipes if done.of([tasks.Measure(recipe)])]
        self._show([(workspace.train(each), workspace.measure(each)) for each in recipes])
        for recipe in recipes:
            say(f"Stored in {workspace.train(recipe).path}")
        done.settle()
        return 0

    def _show(self, trained: "Sequence[tuple[Checkpoint, Measurement]]") -> None:
        """Print a row per checkpoint, with its clean accuracy."""
        if self.form in (Format.json, Format.csv):
            from robustbench_pcl.report.results import trained_row
            from robustbench_pcl.store.records import Paths, TrainingRecord, find_record

            folder, rows = Paths(self.home).trainings, []
            for checkpoint, clean in trained:
                name = f"{checkpoint.record.checkpoint}-{checkpoint.record.weights}"
                training = find_record(folder, name, TrainingRecord)
                rows.append(trained_row(training, clean, str(checkpoint.path)))
            print_document("trainings", rows, self.form)
            return
        from robustbench_pcl.report.formatting import per_cent, show_measured

        print_rows(
            [
                {
                    "recipe": measured.target.recipe.name,
                    "dataset": measured.target.recipe.dataset,
                    "scale": measured.target.recipe.scale,
                    "clean accuracy": f"{show_measured(per_cent(measured.accuracy))} %",
                    "n": measured.n,
                    "id": measured.target.checkpoint,
                    **({"seed": measured.target.recipe.seed} if len(trained) > 1 else {}),
                }
                for _, measured in trained
            ],
            self.form,
        )

    def _train_on_devices(self, trainings: "list[Training]", workspace: "Workspace") -> int | None:
        """Be one of the processes that train together, or start them.

        Returns:
            The exit code where others, or the first of them, have done or do the rest.

        Raises:
            UserError: they cannot train together.
        """
        from robustbench_pcl.pipeline import tasks
        from robustbench_pcl.pipeline.planner import missing
        from robustbench_pcl.pipeline.training import train_along
        from robustbench_pcl.training import distributed

        if self.executor != "local" or (self.workers or 1) > 1:
            raise UserError(
                "--devices divides one training on this machine; --workers and --executor give "
                "each training one device.",
                "Leave one of them out.",
            )
        lacking = [task for task in missing(trainings, workspace) if isinstance(task, tasks.Train)]
        distributed.check(self.devices, self.device, [task.recipe for task in lacking])
        if not distributed.started():
            # This very command; -P: nothing is imported from the current folder.
            command = [sys.executable, "-P", "-m", "robustbench_pcl", *sys.argv[1:]]
            return distributed.start(self.devices, command) if lacking else None
        with distributed.joined(self.devices, self.device) as rank:
            if rank > 0:
                train_along(workspace)
                return 0
            carry_out(trainings, workspace)
        return None

    def _recipe(self, seed: int) -> "Recipe":
        from robustbench_pcl.recipes.load import trained_with

        return trained_with(
            self.dataset,
            self.size,
            seed,
            base=self.recipe,
            loss=self.loss,
            layers=read_layers(self.layers),
            adv_train=self.adv_train,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            precision=cast("TrainingPrecision | None", self.precision and self.precision.value),
            set=read_settings(self.settings),
        )


@dataclass(frozen=True, kw_only=True)
class Attack(Work, Shortcuts, Models, Attacks):
    """Attack a model white-box, and measure its robust accuracy.

    The model is trained first if it is not stored. An image that the model has wrong is not
    attacked, and one that is adversarial takes no further step; transfer, run and --exact take all
    steps for all images. Adversarial images are kept in results/adversarial_sets: nothing is made
    twice.
    """

    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A recipe's name, a checkpoint's file, or a model of your own: my_model.py:Net, "
            "torchvision:resnet18, or the name that it was stored under.",
            autocompletion=offered(recipe_names),
        ),
    ]
    file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Measure on adversarial images of another tool: HDF5, .npz, .npy, .pt or "
            ".safetensors (docs/export.md).",
            show_default=False,
        ),
    ] = None

    def __call__(self) -> None:
        """Measure clean accuracy and that under each attack."""
        from robustbench_pcl.pipeline.tasks import Measure

        workspace = self.workspace()
        models = {seed: self.models([self.target], workspace, seed)[0] for seed in self.seeds}
        if self.file is not None:
            measure_imported(self.file, list(models.values()), workspace, self)
            return
        attacks = self.attacks(list({id(model): model for model in models.values()}.values()))
        mode: Mode = "exact" if self.exact else "early-stop"
        tasks: list[Measure] = []
        for seed, model in models.items():
            tasks.append(Measure(model, images=self.images))
            tasks += [
                Measure(model, model, attack, self.images, seed, mode)
                for recipe, attack in attacks
                if recipe is model
            ]
        done = carry_out(tasks, workspace, self)
        if done is None:
            return
        measured = done.of(tasks)
        known = [(task.target, task.attack) for task in measured]
        cases = [
            workspace.worst_case(recipe, attack.dump()["eps"], attack.norm, images=self.images)
            for recipe, attack in known
            if attack is not None and attack.name == STRONGEST and (recipe, None) in known
        ]
        found = [workspace.make(task) for task in measured]
        print_measurements(found, self.form, workspace.paths, cases)
        said: dict[str, list[str]] = {}
        for recipe, attack in known:
            if attack is not None:
                where = _where_it_counts(recipe, attack, home_option(workspace.paths.root))
                said.setdefault(where, []).append(attack.label)
        for where, labels in said.items():
            say(f"{'; '.join(labels)}: {where}")
        done.settle()


def _where_it_counts(recipe: "AnyModel", attack: "AttackConfiguration", home: str) -> str:
    """Which tables take the white-box accuracy of a model, or what fills those that name it."""
    from robustbench_pcl.paper.tables import published, published_numbers
    from robustbench_pcl.recipe import ExternalModel

    where = f"--dataset {recipe.dataset} --scale {recipe.scale}{home}"
    if isinstance(recipe, ExternalModel):
        command = f"pclbench report --table 3 {where} --model {recipe.name}"
        return f"its row below Table 3: {command}"
    asking, counting, naming = [], [], []
    eps = attack.dump().get("eps") if attack.norm == "linf" else None
    for number in published_numbers():
        cells = [position.cell for position in published(number).positions(recipe.dataset)]
        cells = [cell for cell in cells if cell.white_box and cell.target == recipe.name]
        if cells:
            naming.append(number)
        budgets = [cell.attack.eps for cell in cells if cell.attack and cell.attack.eps]
        if any(cell.attack_for(recipe.scale) == attack for cell in cells):
            asking.append(number)
        elif isinstance(eps, float) and eps <= max(budgets, default=0):
            counting.append(number)
    for numbers, place in ((asking, ""), (counting, "the worst case of ")):
        if numbers:
            tables = f"Table{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
            return f"in {place}{tables}: pclbench report --table {numbers[0]} {where}"
    if naming:
        command = f"pclbench run --table {naming[0]} {where}"
        return f"in no table. What Table {naming[0]} asks for: {command}"
    return f"in no table, because no table has the model {recipe.name}."


@dataclass(frozen=True, kw_only=True)
class Transfer(Work, Shortcuts, Models, Attacks):
    """Attack source models, and measure target models on their adversarial images.

    Each source's adversarial images are made and stored once, whatever the number of targets.
    Several sources and targets make a matrix, one for each attack.
    """

    source: Annotated[
        list[str],
        typer.Option(
            help="Model that is attacked, named as in pclbench attack; may be repeated.",
            autocompletion=offered(recipe_names),
        ),
    ]
    target: Annotated[
        list[str],
        typer.Option(
            help="Model that is measured on the images; may be repeated.",
            autocompletion=offered(recipe_names),
        ),
    ]

    def __call__(self) -> None:
        """Measure every target on the images of every source."""
        from robustbench_pcl.pipeline.tasks import Measure

        workspace, tasks = self.workspace(), list[Measure]()
        for seed in self.seeds:
            recipes = self.models([*self.source, *self.target], workspace, seed)
            sources, targets = recipes[: len(self.source)], recipes[len(self.source) :]
            tasks += [
                Measure(target, source, attack, self.images, seed, self.mode)
                for source, attack in self.attacks(sources)
                for target in targets
            ]
        done = carry_out(tasks, workspace, self)
        if done is None:
            return
        measurements = [workspace.make(task) for task in done.of(tasks)]
        if self.form is Format.text and len(measurements) > 1:
            print_matrices(measurements)
        else:
            print_measurements(measurements, self.form, workspace.paths)
        done.settle()
