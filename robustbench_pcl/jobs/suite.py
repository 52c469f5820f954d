"""A user's own suite: which models, which attacks, which data, in one TOML file.

``docs/suites.md`` has a whole example.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from robustbench_pcl.attacks.parts import build_attack
from robustbench_pcl.errors import UserError
from robustbench_pcl.jobs.plan import Measure
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.specs.base import Part, Scalar, Spec
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.specs.units import parse_eps


class AttackEntry(Spec):
    """One ``[[attack]]``: its name, and any of its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    name: str

    def part(self) -> Part:
        """The attack, checked.

        Raises:
            UserError: there is no such attack or parameter, or a value is wrong for it.
        """
        parameters: dict[str, Scalar] = dict(self.model_extra or {})
        if isinstance(parameters.get("eps"), str | float | int):
            parameters["eps"] = parse_eps(parameters["eps"])
        part = Part(name=self.name, parameters=parameters)
        build_attack(part)
        return part


class Suite(Spec):
    """A suite file.

    Attributes:
        datasets: names in the catalogue.
        targets: recipes that are measured.
        sources: recipes that adversarial images are also crafted on.
        attack: the attacks.
        scale: of every recipe.
        seed: of every recipe and attack.
    """

    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    sources: tuple[str, ...] = ()
    attack: Annotated[tuple[AttackEntry, ...], Field(min_length=1)]
    scale: Scale = "quick"
    seed: int = 0

    def measures(self) -> list[Measure]:
        """Clean, white-box and black-box accuracy of every target.

        Raises:
            UserError: a data set, recipe, attack or parameter is unknown.
        """
        attacks = [entry.part() for entry in self.attack]
        found: list[Measure] = []
        for dataset in self.datasets:
            sources = [self._recipe(name, dataset) for name in self.sources]
            for target in (self._recipe(name, dataset) for name in self.targets):
                found.append(Measure(target))
                others = [source for source in sources if source != target]
                found += [
                    Measure(target, source, attack)
                    for source in (target, *others)
                    for attack in attacks
                ]
        return found

    def _recipe(self, name: str, dataset: str) -> Recipe:
        return named_recipe(name, dataset, self.scale, self.seed)


def load_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        UserError: it cannot be read, is not TOML, or says something that no suite has.
    """
    cure = "See docs/suites.md for a whole example."
    try:
        return Suite.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}.", cure) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}.", cure) from error
