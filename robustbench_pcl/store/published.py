"""Published evidence: a folder of records alone, which came with this package or its repository.

It has what a workspace has under ``results/``, as JSON and PNG, and ``published.json``, which lists
every file with its digest. ``pclbench store publish`` writes it (:mod:`~.evidence.published`).
"""

from __future__ import annotations

from pathlib import Path

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.formats import listed
from robustbench_pcl.store.records import Paths

PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE / "published", PACKAGE.parent / "results" / "published")
"""Where it lies in an installed package, and in a checkout."""


def published_paths() -> Paths:
    """The published evidence of the installed package, or of the checkout that is running.

    Raises:
        UserError: there is none.
    """
    for paths in map(Paths, PLACES):
        if is_published(paths) and has_numbers(paths):
            return paths
    raise UserError(
        "No published numbers came with this pclbench.",
        "They are in its repository: name that folder with --home PATH/results/published.",
    )


def published_instead(paths: Paths) -> Paths | None:
    """What is shown of a workspace in which nothing is measured: its ``results/published``.

    Returns:
        None where something is measured, and where nothing is published there.

    Raises:
        UserError: this user may not see what is there.
    """
    published = Paths(paths.results / "published")
    shown = is_published(published) and not has_numbers(paths) and has_numbers(published)
    return published if shown else None


def is_published(paths: Paths) -> bool:
    """Whether a folder is published evidence, and no workspace."""
    return paths.results == paths.root


def has_numbers(paths: Paths) -> bool:
    """Whether anything that a report shows is there; no file is opened.

    Raises:
        UserError: this user may not see it.
    """
    folders = (paths.measurements, paths.diagnoses, paths.certificates, paths.embeddings)
    return any(any(listed(folder).glob("[!.]*.*")) for folder in folders)


def require_workspace(paths: Paths) -> None:
    """Refuse to make anything new among published evidence.

    Raises:
        UserError: the folder is published evidence.
    """
    if is_published(paths):
        raise UserError(
            f"{paths.root} holds published numbers, and nothing new is made there.",
            "Name another folder with --home DIR.",
        )
