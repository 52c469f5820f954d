"""The options that commands share, in groups that a command inherits; each is defined once.

Types are written out, not postponed: typer reads an inherited field where its command is defined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from robustbench_pcl.cli.choices import (
    Budget,
    Format,
    Loss,
    Norm,
    Scale,
    TargetClass,
    attack_names,
    dataset_names,
    offered,
    read_scale,
)
from robustbench_pcl.cli.output import say
from robustbench_pcl.environment import require_one_process
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl import configuration
    from robustbench_pcl.attacks.base import Attack
    from robustbench_pcl.pipeline.workspace import Workspace
    from robustbench_pcl.recipe import AnyModel

DEFAULT_DATASET = "cifar10"
DATASET_HELP = "Data set: see pclbench data list."
DatasetOption = Annotated[
    str, typer.Option(help=DATASET_HELP, autocompletion=offered(dataset_names))
]
DatasetArgument = Annotated[
    str,
    typer.Argument(metavar="DATASET", help=DATASET_HELP, autocompletion=offered(dataset_names)),
]
FormatOption = Annotated[Format, typer.Option("--format", help="Format of the output.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
ScaleOption = Annotated[
    Scale | None,
    typer.Option(help="Sizes used.", show_default="paper with an accelerator, else quick"),
]
DatasetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        help="Only this data set; may be repeated.",
        show_default="the paper's",
        autocompletion=offered(dataset_names),
    ),
]
EpsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Budget, pixels in [0, 1]: 0.03 or 8/255; may be repeated.",
        show_default="the paper's for the data set",
    ),
]
FilesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--file",
        "-o",
        help="Also draw it (.svg, .png, .pdf), or write it (.html, .md, .tex, .csv, .json); may be "
        "repeated.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter, as key=value; may be repeated.", show_default=False),
]


@dataclass(frozen=True, kw_only=True)
class Home:
    """Where artefacts lie."""

    home: Annotated[
        Path, typer.Option(help="Folder with checkpoints/ and results/.", envvar="PCLBENCH_HOME")
    ] = Path()


@dataclass(frozen=True, kw_only=True)
class Place(Home):
    """Where artefacts lie, and what makes new ones: one process, or all of torchrun's together."""

    together: ClassVar[bool] = False
    device: DeviceOption = "auto"
    data_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder with torchvision's data files.",
            envvar="PCLBENCH_DATA",
            show_default=False,
        ),
    ] = None

    def workspace(self) -> "Workspace":
        """The folder and the device, with progress on the terminal."""
        from robustbench_pcl.pipeline.workspace import Workspace
        from robustbench_pcl.progress import TerminalProgress

        if not self.together:
            require_one_process()
        return Workspace(
            self.home, device=self.device, data_root=self.data_root, progress=TerminalProgress()
        )


@dataclass(frozen=True, kw_only=True)
class Sized:
    """How large recipes are."""

    scale: ScaleOption = None

    @property
    def size(self) -> "configuration.Scale":
        """The scale; without one, paper where there is an accelerator, else quick."""
        from robustbench_pcl.environment import has_accelerator

        return read_scale(self.scale) or ("paper" if has_accelerator() else "quick")


@dataclass(frozen=True, kw_only=True)
class Seeds(Sized):
    """Which recipes of those of one name."""

    seed: Annotated[
        list[int] | None,
        typer.Option(
            help="Seed of training and of attacks; may be repeated.",
            min=0,
            max=2**64 - 1,
            show_default="0",
        ),
    ] = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Each seed once."""
        return tuple(dict.fromkeys(self.seed or [0]))


@dataclass(frozen=True, kw_only=True)
class Models(Seeds):
    """Models that a command talks about, each named by a recipe, a checkpoint or its code."""

    dataset: Annotated[
        str | None,
        typer.Option(
            help=DATASET_HELP,
            show_default="that of a checkpoint's file, else cifar10",
            autocompletion=offered(dataset_names),
        ),
    ] = None

    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights of your own model (my_model.py:Net, torchvision:resnet18): safetensors, "
            "a state_dict, or DEFAULT for torchvision's.",
            show_default="the model loads its own",
        ),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(
            help="Mean of the normalisation that your code does outside the model: a number, or "
            "one per channel.",
            show_default="none",
        ),
    ] = None
    std: Annotated[
        str | None, typer.Option(help="Its standard deviation.", show_default="none")
    ] = None
    output: Annotated[
        str | None,
        typer.Option(
            help="The part of your model's output that is the logits: logits, 0, ...",
            show_default="all of it",
        ),
    ] = None
    name: Annotated[
        str | None, typer.Option(help="Name of your model.", show_default="my-model-net")
    ] = None

    def models(
        self, names: Sequence[str], workspace: "Workspace", seed: int = 0
    ) -> "list[AnyModel]":
        """What some names stand for; data set and scale are those of stored models among them.

        Args:
            names: of recipes, checkpoints' files, or what makes a model of the user's own.
            workspace: where they are found.
            seed: of recipes.

        Raises:
            UserError: a name is unknown, a file is no checkpoint, one of another data set or scale
                than what was asked for, or the user's own model cannot be loaded.
        """
        from robustbench_pcl.pipeline.models import find_model, is_source, open_stored

        own = list(dict.fromkeys(filter(is_source, names)))
        self._check_own(names, own)
        dataset = self.dataset
        scale = self.scale and read_scale(self.scale)
        for name in names:
            model = open_stored(workspace, name, self.dataset)
            if model is not None:
                dataset, scale = dataset or model.dataset, scale or model.scale
        if own and ":" in own[0] and dataset is None:
            cure = "Name it, such as --dataset cifar10; pclbench data list shows all names."
            raise UserError(f"The data set of {own[0]} is not known.", cure)
        dataset, scale = dataset or DEFAULT_DATASET, scale or self.size
        mine = {name: self._own(name, workspace, dataset, scale) for name in own}
        return [
            mine.get(name) or find_model(workspace, name, dataset, scale, seed) for name in names
        ]

    def _check_own(self, names: Sequence[str], sources: Sequence[str]) -> None:
        """Refuse options about models of the user's own where it is not plain which is meant."""
        fields = ("weights", "mean", "std", "output", "name")
        given = [f"--{name}" for name in fields if getattr(self, name) is not None]
        if given and not sources:
            cause = f"{given[0]} needs the code of a model, and {' and '.join(names)} names none."
            cure = "Name a file and a class in it, my_model.py:Net, or torchvision:resnet18."
            raise UserError(cause, cure)
        if len(sources) > 1:
            raise UserError(
                f"{' and '.join(sources)} are two models of your own, and options tell of one.",
                f"Attack one first, under a name: pclbench attack {sources[0]} --name my-net",
            )

    def _own(
        self, source: str, workspace: "Workspace", dataset: str, scale: "configuration.Scale"
    ) -> "AnyModel":
        """The user's own model."""
        from robustbench_pcl.pipeline.models import add_external
        from robustbench_pcl.recipe import read_origin

        said = {"weights": self.weights, "mean": self.mean, "std": self.std, "output": self.output}
        given = {key: value for key, value in said.items() if value is not None}
        origin = read_origin(source, source=source, **given)
        return add_external(workspace, origin, dataset, name=self.name or "", scale=scale)


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """Attacks that a command runs: each name with each budget."""

    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="pgd, auto (AutoAttack), strongest, ... or your own; may be repeated. They are "
            "listed by: pclbench attacks list.",
            show_default="pgd",
            autocompletion=offered(attack_names),
        ),
    ] = None
    eps: EpsOption = None
    norm: Annotated[
        Norm | None, typer.Option(help="Norm of the budget.", show_default="the attack's own")
    ] = None
    loss: Annotated[
        Loss | None, typer.Option(help="Loss to maximise.", show_default="the attack's own")
    ] = None
    adaptive: Annotated[
        bool,
        typer.Option(
            "--adaptive", help="Maximise the joint loss, prototypes included: --loss joint."
        ),
    ] = False
    restarts: Annotated[
        int | None, typer.Option(help="Starts of each attack.", min=1, show_default="one")
    ] = None
    target_class: Annotated[
        TargetClass | None,
        typer.Option(help="Attack towards this wrong class.", show_default="towards any"),
    ] = None
    budget: Annotated[
        Budget | None, typer.Option(help="How much strongest may compute.", show_default="standard")
    ] = None
    settings: SetOption = None

    @property
    def asked_for(self) -> bool:
        """Whether any option says something about attacks."""
        return bool(self.attack or self.eps or self.settings or self._parameters())

    def _parameters(self) -> dict[str, str]:
        """The parameters of attacks that have an option of their own, as far as they are given."""
        loss = Loss.joint if self.adaptive else self.loss
        said = {
            "norm": self.norm,
            "loss": loss,
            "restarts": self.restarts,
            "target_class": self.target_class,
            "budget": self.budget,
        }
        return {key: str(value) for key, value in said.items() if value is not None}

    def attacks(self, recipes: "Sequence[AnyModel]") -> "list[tuple[AnyModel, Attack]]":
        """Each attack on each model, complete for the model's data set and scale.

        The joint loss is left to models that have one.

        Args:
            recipes: of the models, at least one.

        Raises:
            UserError: options contradict each other, a name or value is wrong, or no model has the
                joint loss that is asked for.
        """
        from robustbench_pcl.attacks import ATTACKS
        from robustbench_pcl.recipes.load import load_attack

        if self.adaptive and self.loss not in (None, Loss.joint):
            cause = f"--adaptive maximises the joint loss, not {self.loss}."
            raise UserError(cause, "Leave one out.")
        given, options = read_settings(self.settings), self._parameters()
        for key in [*options, *(["eps"] if self.eps else [])]:
            if key in given:
                flag = "--adaptive" if key == "loss" and self.adaptive else f"--{_flag(key)}"
                raise UserError(f"{flag} and --set {key} say the same thing.", "Leave one out.")
        names = dict.fromkeys(self.attack or ["pgd"])
        known = {name: {*ATTACKS[name].model_fields} for name in names}
        for key in options:
            if not any(key in fields for fields in known.values()):
                cause = f"{' and '.join(names)} has nothing that --{_flag(key)} could say."
                raise UserError(cause, f"See pclbench attacks show {next(iter(names))}.")
        budgets = [{"eps": eps} for eps in dict.fromkeys(self.eps or ())] or [{}]
        found: list[tuple[AnyModel, Attack]] = []
        blind: list[AnyModel] = []
        for name, budget in product(names, budgets):
            own = {key: value for key, value in options.items() if key in known[name]}
            for recipe in recipes:
                said = {**given, **own, **budget}
                attack = load_attack(name, recipe.dataset, recipe.scale, said)
                knows = recipe.feature_layers or attack.dump().get("loss") != Loss.joint
                if knows:
                    found.append((recipe, attack))
                else:
                    blind.append(recipe)
        without = " and ".join(dict.fromkeys(recipe.name for recipe in blind))
        if not found:
            raise UserError(
                f"There is no loss on features of {without} for an attack to know.",
                "Leave --adaptive and the joint loss out, or attack a model that has one: "
                "pclbench attack ours --adaptive.",
            )
        if blind:
            say(f"Not attacked, since there is no joint loss: {without}.")
        return found


def _flag(key: str) -> str:
    """A parameter's name as an option."""
    return key.replace("_", "-")


def read_layers(text: str | None) -> tuple[int, ...] | None:
    """Layer numbers from ``3,4,5``.

    Raises:
        UserError: it is not a list of numbers.
    """
    if text is None:
        return None
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        cause = f"--layers {text!r} is not a list of numbers."
        raise UserError(cause, "Write --layers 3,4,5.") from error


def read_settings(texts: Sequence[str] | None, flag: str = "--set") -> dict[str, str]:
    """Values by key from ``key=value``; ``-`` and ``_`` are one letter in a key.

    Raises:
        UserError: there is no ``=`` in one, or two have one key.
    """
    given: dict[str, str] = {}
    for text in texts or ():
        key, separator, value = (part.strip() for part in text.partition("="))
        key = key.replace("-", "_")
        if not separator:
            raise UserError(f"{flag} {text!r} has no value.", f"Write {flag} {key}=VALUE.")
        if key in given:
            raise UserError(f"{flag} {key} is given twice.", "It has one value: leave one out.")
        given[key] = value
    return given
