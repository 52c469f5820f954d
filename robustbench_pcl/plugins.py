"""Modules from outside the package, which add their own attacks, losses, ... when imported."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path

from robustbench_pcl.errors import UserError, in_one_line

GROUP = "pclbench.plugins"
"""The entry points of installed packages that name a plugin's module."""
VARIABLE = "PCLBENCH_PLUGINS"
"""The environment variable that names plugins, separated by commas."""

LOADED: dict[str, Path] = {}
"""The modules that :func:`load` imported, and the folder in which each was looked for first."""


def load_all(named: Iterable[str]) -> None:
    """Import every plugin of a command: installed, in the environment, and named.

    Args:
        named: modules, as ``--plugin`` names them.

    Raises:
        UserError: one cannot be imported.
    """
    load_installed()
    for module in (*os.environ.get(VARIABLE, "").split(","), *named):
        if module.strip():
            load(module.strip())


def load(module: str, folder: Path | None = None) -> None:
    """Import a plugin; one that is imported already is left as it is.

    Args:
        module: its name, as ``import`` takes it.
        folder: where it is looked for before anywhere else, and what it imports after anywhere
            else: a ``torch.py`` there is not taken for torch. The current folder if None.

    Raises:
        UserError: there is no such module, or it cannot be imported.
    """
    if module in LOADED:
        return
    place = (folder or Path()).resolve()
    if str(place) not in sys.path:
        sys.path.append(str(place))
    if not _there(module):
        raise UserError(
            f"There is no plugin {module!r}.",
            f"Give the name of a .py file in {place} without .py, or of an installed module.",
        )
    if error := _failure(module, place):
        cure = f'To see where: python -c "import {module}"'
        raise UserError(
            f"The plugin {module} cannot be imported: {in_one_line(error)}.",
            error.cure if isinstance(error, UserError) else cure,
        ) from error
    LOADED[module] = place


def load_installed() -> None:
    """Import the plugins that installed packages name as entry points.

    Raises:
        UserError: one cannot be imported; the message says whose it is.
    """
    for entry in entry_points(group=GROUP):
        if error := _failure(entry.module):
            package = entry.dist.name if entry.dist else entry.name
            raise UserError(
                f"The plugin {entry.module} of the installed package {package} cannot be "
                f"imported: {in_one_line(error)}.",
                f"Update the package, or take it away: pip uninstall {package}",
            ) from error


def _there(module: str) -> bool:
    """Whether ``module`` is a module's name, and its first part can be imported."""
    first, *others = module.split(".")
    names = all(part.isidentifier() for part in (first, *others)) and others != ["py"]
    return names and importlib.util.find_spec(first) is not None


def _failure(module: str, place: Path | None = None) -> BaseException | None:
    """Import a module, from a folder if it is there; what it raised, if it raised anything."""
    try:
        if place is not None:
            _import_from(place, module.partition(".")[0])
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        return error
    return None


def _import_from(place: Path, name: str) -> None:
    """Import a module from a folder, whatever else has its name; nothing if it is not there."""
    spec = PathFinder.find_spec(name, [str(place)])
    if name in sys.modules or spec is None or spec.loader is None:
        return
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
