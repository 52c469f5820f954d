"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.specs.names import SCALES, TRAINING_PRECISIONS, Scale, TrainingPrecision

if TYPE_CHECKING:
    from robustbench_pcl.jobs.bench import Bench
    from robustbench_pcl.specs.base import Part
    from robustbench_pcl.specs.recipe import Recipe

DatasetOption = Annotated[str, typer.Option(help="Data set: see pclbench data list.")]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        help=f"Sizes: {', '.join(SCALES)}.",
        show_default="paper with an accelerator, else quick",
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of training and of attacks.", min=0)]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
ImagesOption = Annotated[
    int | None,
    typer.Option(help="Test images, the first ones.", min=1, show_default="the scale's number"),
]
ExactOption = Annotated[
    bool,
    typer.Option("--exact", help="Attack the plain model in float32, all steps: no shortcuts."),
]
HomeOption = Annotated[
    Path, typer.Option(help="Folder with checkpoints/ and results/.", envvar="PCLBENCH_HOME")
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder with torchvision's data files.", envvar="PCLBENCH_DATA", show_default=False
    ),
]
EpsOption = Annotated[
    str | None,
    typer.Option(
        help="L-infinity budget, pixels in [0, 1]: 0.03 or 8/255.",
        show_default="the paper's for the data set",
    ),
]


def read_scale(name: str | None) -> Scale:
    """The scale of that name; without one, ``paper`` where there is an accelerator.

    Raises:
        UserError: there is no such scale.
    """
    for scale in SCALES:
        if name == scale:
            return scale
    if name is not None:
        raise unknown_name("scale", name, SCALES)
    import torch

    return "paper" if torch.cuda.is_available() else "quick"


def read_precision(name: str | None) -> TrainingPrecision | None:
    """The precision of that name.

    Raises:
        UserError: there is no such precision.
    """
    for precision in TRAINING_PRECISIONS:
        if name == precision:
            return precision
    if name is not None:
        raise unknown_name("precision", name, TRAINING_PRECISIONS)
    return None


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
        raise UserError(
            f"--layers {text!r} is not a list of numbers.", "Write --layers 3,4,5."
        ) from error


def read_attack(name: str, dataset: str, eps: str | None, parameters: list[str]) -> Part:
    """An attack with its budget and ``key=value`` parameters.

    Raises:
        UserError: a name or value is wrong; attacks without an eps refuse one.
    """
    from robustbench_pcl.attacks import ATTACKS
    from robustbench_pcl.attacks.parts import build_attack, resolved
    from robustbench_pcl.data.catalogue import dataset_spec
    from robustbench_pcl.specs.base import Part, Scalar
    from robustbench_pcl.specs.units import parse_eps

    spec = dataset_spec(dataset)
    given: dict[str, Scalar] = {}
    for text in parameters:
        key, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"{text!r} is not a parameter.", "Write --set steps=40.")
        given[key.strip().replace("-", "_")] = _scalar(value)
    known = resolved(ATTACKS[name]()).parameters
    if eps is not None and "eps" not in known:
        raise UserError(
            f"{name} has no L-infinity budget.",
            f"Leave --eps out; see pclbench attacks show {name}.",
        )
    budget: dict[str, Scalar] = {}
    if "eps" in known:
        budget["eps"] = spec.eps if eps is None else parse_eps(eps)
    elif "c" in known:
        budget["c"] = spec.carlini_wagner_c
    part = Part(name=name, parameters={**budget, **given})
    build_attack(part)
    return part


def read_recipe(text: str, dataset: str, scale: Scale, seed: int, bench: Bench) -> Recipe:
    """A model that a command talks about: a recipe's name, or a checkpoint's file.

    Raises:
        UserError: neither.
    """
    from robustbench_pcl.recipes.named import named_recipe

    if "." in text or "/" in text:
        recipe = bench.open(Path(text))
        if recipe.dataset != dataset:
            raise UserError(
                f"{text} was trained on {recipe.dataset}, not on {dataset}.",
                f"Add --dataset {recipe.dataset}.",
            )
        return recipe
    return named_recipe(text, dataset, scale, seed)


def open_bench(
    home: Path,
    device: str,
    data_root: Path | None = None,
    images: int | None = None,
    seed: int = 0,
    *,
    exact: bool = False,
) -> Bench:
    """The bench of a command, watched on the terminal."""
    from robustbench_pcl.jobs.bench import Bench
    from robustbench_pcl.progress import TerminalProgress

    return Bench(
        home,
        device=device,
        data_root=data_root,
        images=images,
        seed=seed,
        exact=exact,
        progress=TerminalProgress(),
    )


def _scalar(text: str) -> int | float | str:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
