"""Which format what is stored has, and whether this version reads it."""

from __future__ import annotations

import os
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetensors import SafetensorError, safe_open

from robustbench_pcl.errors import UserError, shortened
from robustbench_pcl.store.hdf5 import open_hdf5
from robustbench_pcl.store.reading import (
    cannot_read,
    check_file,
    parse_json,
    read_bounded,
)

if TYPE_CHECKING:
    from robustbench_pcl.store.records import Paths

FORMAT: Literal[2] = 2
"""Of everything that is stored. Artefacts that name no format are those of pclbench 0.1."""
PUBLISHED = "published.json"
"""Lists the files of a folder of published evidence, by which such a folder is known."""
LOOKED_AT = 5
"""Artefacts of each kind that tell a workspace's format."""
LARGEST_RECORD = 2**24
"""Bytes of a record; a certificate of 50,000 images has 2 million."""
LARGEST_FILE = 2**40
"""Bytes of any stored file."""
DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError)
"""What reading the format of a damaged file raises."""
_DAMAGED = object()


def check_format(paths: Paths) -> None:
    """Check that most of what is stored has this version's format, by a few artefacts of each kind.

    A single file of another format is no reason to refuse a workspace, and neither is a damaged
    one: who opens it for its content reports that.

    Raises:
        UserError: most of it was stored by an older or a newer version, or this user may not see
            it. Nothing is changed.
    """
    found = [
        _format_of(path)
        for folder, suffix in (
            (paths.measurements, "json"),
            (paths.trainings, "json"),
            (paths.diagnoses, "json"),
            (paths.certificates, "json"),
            (paths.checkpoints, "safetensors"),
            (paths.embeddings, "safetensors"),
            (paths.adversarial_sets, "h5"),
        )
        for path in islice(listed(folder).glob(f"[!.]*.{suffix}"), LOOKED_AT)
    ]
    others = [each for each in found if each not in (FORMAT, _DAMAGED)]
    if len(others) > found.count(FORMAT):
        raise other_format(paths.root, others[0])


def listed(folder: Path) -> Path:
    """A folder that can be listed, if it is there: ``glob`` takes any other for an empty one."""
    try:
        os.scandir(folder).close()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_read(folder, error) from error
    return folder


def results_of(root: Path) -> Path:
    """The folder of a workspace's results; published evidence is nothing but results."""
    return root if os.path.isfile(root / PUBLISHED) else root / "results"  # noqa: PTH113, no error


def _format_of(path: Path) -> object:
    """The format that a file says it has; None where it names none, ``_DAMAGED`` where it is."""
    try:
        check_file(path, LARGEST_FILE, "stored file", path.parent.parent)
        if path.suffix == ".json":
            return parse_json(read_bounded(path, LARGEST_RECORD, "record"), "").get("format")
        if path.suffix == ".h5":
            with open_hdf5(path) as contents:
                return contents.attributes.get("format")
        with safe_open(path, framework="numpy") as file:
            return parse_json(file.metadata()["pclbench"], "").get("format")
    except (UserError, *DAMAGE):
        return _DAMAGED


def other_format(place: Path, found: object) -> UserError:
    """The error for artefacts of another format than this version reads and writes.

    Args:
        place: the file or folder.
        found: the format it says it has; None where none is named.
    """
    shown = "1" if found is None else shortened(str(found))
    if found is None or (isinstance(found, Integral) and found < FORMAT):
        maker, cure = "pclbench 0.1", "use pclbench 0.1 for it"
    else:
        maker, cure = "a newer pclbench", "update: pip install --upgrade pclbench"
    return UserError(
        f"{place} has format {shown}, made by {maker}; this one reads format {FORMAT}.",
        f"pclbench does not change it: name another folder with --home NEW, or {cure}.",
    )
