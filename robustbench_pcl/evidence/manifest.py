"""A bundle's manifest, and the list of what is published: which files, with their digests."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from robustbench_pcl.configuration import Description, Scale, explained
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.formats import PUBLISHED

MANIFEST = "bundle.json"
LARGEST = 2**26
"""Bytes of a manifest or a record that are read at most."""
MOST_FILES = 100_000


class Selection(Description):
    """What of a workspace is wanted; nothing named means all of it.

    Attributes:
        tables: numbers of the paper's.
        models: by name, beneath the tables' own.
        datasets: by name.
        scale: of the recipes.
        seeds: of the recipes' trainings.
    """

    tables: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    scale: Scale | None = None
    seeds: tuple[int, ...] = ()


class FileRecord(Description):
    """What one file holds.

    Attributes:
        sha256: of its bytes, hexadecimal.
        size: in bytes.
    """

    sha256: str
    size: int


class Listing(Description):
    """The files of a folder; the time of its writing is no part of it.

    Attributes:
        format: of the folder.
        files: every file but the list itself, by its path in the folder.
    """

    format: Literal[1] = 1
    files: Mapping[str, FileRecord]


class Manifest(Listing):
    """What a bundle holds.

    Attributes:
        pclbench: the version that wrote it.
        selection: what of a workspace it shows.
        environments: where its numbers were made, each once.
    """

    pclbench: str
    selection: Selection
    environments: tuple[Environment, ...]


List = TypeVar("List", bound=Listing)


def write_listing(path: Path, listing: Listing) -> str:
    """Write a bundle's manifest or what is published; return its digest."""
    content = (json.dumps(listing.content(), indent=1, sort_keys=True) + "\n").encode()
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """A bundle's manifest, and its digest.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path, what = folder / MANIFEST, f"There is no bundle in {folder}"
    cure = "Fetch the bundle again, or write it: pclbench report --bundle DIR."
    return _read_listing(path, Manifest, "a bundle's manifest", what, cure)


def read_published(folder: Path) -> tuple[Listing, str]:
    """The list of what is published in a folder, and its digest.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path, what = folder / PUBLISHED, f"There are no published numbers in {folder}"
    cure = "Fetch the folder again, or write it: pclbench store publish DIR."
    return _read_listing(path, Listing, "a list of what is published", what, cure)


def _read_listing(
    path: Path, kind: type[List], called: str, absent: str, cure: str
) -> tuple[List, str]:
    """A list of files, and the digest of its own file."""
    what = f"{path} is not {called}"
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise UserError(f"{what}: it is no file of at most {LARGEST:,} bytes.", cure)
        content = path.read_bytes()
        listing = kind.model_validate(json.loads(content))
    except OSError as error:
        raise UserError(f"{absent}: no {path.name} can be read.", cure) from error
    except ValidationError as error:
        raise explained(error, what, cure) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what}: it is no JSON.", cure) from error
    return listing, hashlib.sha256(content).hexdigest()


def record_of(path: Path) -> FileRecord:
    """What a file holds; it is read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(sha256=digest, size=path.stat().st_size)


def walk(folder: Path) -> Iterator[tuple[str, Path | None]]:
    """All that lies in a folder but folders: path in it, and the file; None for what is no file.

    Links are not followed, since they may lead anywhere; pipes and devices are not opened.

    Raises:
        UserError: there are more files than a bundle can have.
    """
    found, waiting = 0, [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            found += 1
            if found > MOST_FILES:
                cause = f"{folder} holds more than {MOST_FILES:,} files."
                raise UserError(cause, "Name the folder of a bundle.")
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                waiting.append(path)
            else:
                yield path.relative_to(folder).as_posix(), path if stat.S_ISREG(mode) else None
