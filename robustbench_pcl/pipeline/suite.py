"""A user's own suite: which models, which attacks, which data, in one TOML file.

``docs/suites.md`` has a whole example.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from robustbench_pcl.configuration import Description, Mode, Scalar, Scale, Seed, explained
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.tasks import Measure
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.load import load_attack, load_recipe
from robustbench_pcl.recipes.presets import add_recipes

_CURE = "See docs/suites.md for a whole example."


class AttackEntry(Description):
    """One ``[[attack]]``: its name, and any of its parameters."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    name: str


class Suite(Description):
    """A suite file.

    Attributes:
        datasets: names of data sets.
        targets: recipes that are measured.
        sources: recipes that adversarial images are also made on.
        attack: the attacks; what one leaves out is as ``pclbench attack`` has it.
        scale: of every recipe.
        seed: of every recipe and attack.
        recipes: recipes of the suite's own, in the form of ``presets.toml``.
    """

    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    sources: tuple[str, ...] = ()
    attack: Annotated[tuple[AttackEntry, ...], Field(min_length=1)]
    scale: Scale = "quick"
    seed: Seed = 0
    recipes: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def measures(self, *, images: int | None = None, mode: Mode = "fast") -> list[Measure]:
        """Clean, white-box and black-box accuracy of every target.

        Args:
            images: how many test images; the scale's own number if None.
            mode: how adversarial sets are made.

        Raises:
            UserError: a data set, recipe, attack or parameter is unknown, or a value is wrong.
        """
        found: list[Measure] = []
        for dataset in self.datasets:
            attacks = [
                load_attack(entry.name, dataset, self.scale, entry.model_extra or {})
                for entry in self.attack
            ]
            sources = [self._recipe(name, dataset) for name in self.sources]
            for target in (self._recipe(name, dataset) for name in self.targets):
                others = [source for source in sources if source != target]
                found.append(Measure(target, images=images))
                found += [
                    Measure(target, source, attack, images, self.seed, mode)
                    for source in (target, *others)
                    for attack in attacks
                ]
        return found

    def _recipe(self, name: str, dataset: str) -> Recipe:
        return load_recipe(name, dataset, self.scale, self.seed)


def load_suite(path: Path) -> Suite:
    """Read a suite file; its own recipes are then names like any other.

    Raises:
        UserError: it cannot be read, is not TOML, or says something that no suite has.
    """
    try:
        suite = Suite.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}.", _CURE) from error
    except ValidationError as error:
        raise explained(error, str(path), _CURE) from error
    add_recipes(suite.recipes, str(path))
    try:
        suite.measures()
    except UserError as error:
        raise UserError(f"{path}: {error.cause}", error.cure) from error
    return suite
