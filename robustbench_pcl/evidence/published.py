"""Publishing: the records of a workspace, in a folder that a repository or a package can carry.

Neither weights nor adversarial sets are in it: records name them by their digests, and a strip
shows a few of the images. What names a folder of somebody's machine is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.bundle import choose
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.manifest import (
    FileRecord,
    Listing,
    Selection,
    read_published,
    record_of,
    walk,
    write_listing,
)
from robustbench_pcl.evidence.records import check_records
from robustbench_pcl.evidence.stored import FOLDERS, Stored, name_of
from robustbench_pcl.evidence.travel import same_result
from robustbench_pcl.progress import Progress, tracked
from robustbench_pcl.report.strips import strip
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import PublishedEmbedding
from robustbench_pcl.store.formats import PUBLISHED, check_format
from robustbench_pcl.store.reading import PassedOver
from robustbench_pcl.store.records import (
    Measurement,
    Paths,
    StoredRecord,
    TrainingRecord,
    find_record,
    load_records,
    save_record,
)

MACHINE_PATH = re.compile(r"(?:^|[\s\"'(=:,])(?:/[^\s/]+/[^\s/]|~/|[A-Za-z]:\\|\\\\\w|file://)")
"""A folder of one machine in a text: /home/anna/x, ~/x, C:\\x, \\\\server\\x."""
Record = TypeVar("Record", bound=StoredRecord)


@dataclass
class Published:
    """What became of the records of a workspace.

    Attributes:
        added: how many of each kind are new in the folder, strips among them.
        known: how many records were there already.
        without_strip: how many accuracies under attack have no strip.
        digest: SHA-256 of the list of files.
    """

    added: Counter[str] = field(default_factory=Counter)
    known: int = 0
    without_strip: int = 0
    digest: str = ""


def publish(
    paths: Paths,
    folder: Path,
    selection: Selection,
    progress: Progress,
    passed_over: PassedOver | None = None,
) -> Published:
    """Add what is selected of a workspace to a folder of published evidence.

    The same evidence makes the same bytes, and the second time it changes nothing. A result that is
    there already, of another day or machine, stays as it is.

    Args:
        paths: of the workspace.
        folder: not there, empty, or published evidence.
        selection: what of the workspace; nothing named means all that is measured.
        progress: the progress reporter.
        passed_over: is told why a file of the workspace is left out; None to raise that.

    Raises:
        UserError: nothing is stored of what is selected; the folder holds something else, or was
            changed; a record contradicts one that is there, or names a folder of a machine.
    """
    check_format(paths)
    files, target, done = _files(folder), Paths(folder, folder), Published()
    chosen = choose(paths, selection, passed_over)
    coming: list[StoredRecord] = [
        *_with_starts(paths, chosen.trainings),
        *chosen.measurements,
        *(each.published() for each in chosen.embeddings),
        *chosen.diagnoses,
        *chosen.certificates,
    ]
    new = [record for record in map(_released, coming) if _is_new(target, record, files)]
    done.known = len(coming) - len(new)
    _check_together(target, new)
    for record in tracked(new, "publishing records", len(new), progress):
        path = save_record(_place(target, type(record)), record.file_name, record)
        files[path.relative_to(folder).as_posix()] = record_of(path)
        done.added[record.what] += 1
    measured = chosen.measurements
    for each in tracked(measured, "publishing strips", len(measured), progress):
        _add_strip(paths, target, each, files, done)
    done.digest = write_listing(folder / PUBLISHED, Listing(files=files))
    return done


def _files(folder: Path) -> dict[str, FileRecord]:
    """The files that are published in a folder, with their digests.

    Raises:
        UserError: it holds something else, or one of them was changed.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return {}
    if not (folder / PUBLISHED).exists():
        cause = f"{folder} holds something other than published numbers."
        raise UserError(cause, "Name a new folder, or one that pclbench store publish wrote.")
    listing, _ = read_published(folder)
    there = dict(walk(folder))
    for name, known in listing.files.items():
        path = there.get(name)
        if path is None or record_of(path) != known:
            raise UserError(
                f"{folder / name} is not as it was published.",
                f"Bring it back, or publish into a new folder. All of it: pclbench verify {folder}",
            )
    return dict(listing.files)


def _with_starts(paths: Paths, trainings: Iterable[TrainingRecord]) -> list[TrainingRecord]:
    """Trainings, and those that they began with."""
    stored = load_records(paths.trainings, TrainingRecord, lambda _: None)  # said by `choose`
    found, waiting = dict[str, TrainingRecord](), list(trainings)
    while waiting:
        each = waiting.pop()
        found[each.file_name] = each
        start = each.recipe.start and each.recipe.start.id(each.data.digest)
        waiting += [one for one in stored if one.checkpoint == start and one.file_name not in found]
    return [found[name] for name in sorted(found)]


def _released(record: Record) -> Record:
    """A record that says nothing of anybody's machine but its processor and its versions.

    Raises:
        UserError: it names a folder, in a place where that means something.
    """
    content = record.content()
    released = _without_folders(content)
    for text in _texts(released):
        if MACHINE_PATH.search(text):
            cause = f"The {record.what} {record.file_name} names a folder of a machine: {text}"
            cure = "Leave it out: --table, --model, --dataset and --scale say what is published."
            raise UserError(cause, cure)
    return record if released == content else type(record).model_validate(released)


def _without_folders(value: Any) -> Any:
    """Plain JSON without the folders that the code of external models was in: no id covers them."""
    if isinstance(value, dict):
        folder = {"folder": ""} if {"code", "folder"} <= value.keys() else {}
        return {**{key: _without_folders(inner) for key, inner in value.items()}, **folder}
    return [_without_folders(inner) for inner in value] if isinstance(value, list) else value


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _place(paths: Paths, kind: type[StoredRecord]) -> Path:
    """The folder of a kind of records."""
    return {
        TrainingRecord: paths.trainings,
        Measurement: paths.measurements,
        PublishedEmbedding: paths.embeddings,
        Diagnosis: paths.diagnoses,
        Certificate: paths.certificates,
    }[kind]


def _is_new(target: Paths, record: StoredRecord, files: Container[str]) -> bool:
    """Whether a record is not published yet; one that a killed process wrote is not.

    Raises:
        UserError: another one has its name.
    """
    place = _place(target, type(record))
    there = find_record(place, record.file_name, type(record))
    if there is not None and not same_result(there, record):
        what = f"the {record.what} {record.file_name}, which is in {target.root},"
        raise _disagree(f"{what} says otherwise")
    return f"{place.name}/{record.file_name}.json" not in files


def _check_together(target: Paths, new: Iterable[StoredRecord]) -> None:
    """Hold new records against each other and those that are published.

    Raises:
        UserError: two disagree.
    """
    stored = Stored()
    kept: dict[type[StoredRecord], dict[str, Any]] = {
        Measurement: stored.measurements,
        TrainingRecord: stored.trainings,
        Diagnosis: stored.diagnoses,
        Certificate: stored.certificates,
    }
    for kind, records in kept.items():
        place = _place(target, kind)
        there = load_records(place, kind)
        for record in (*there, *(each for each in new if isinstance(each, kind))):
            records[name_of(place / f"{record.file_name}.json", target)] = record
    found = Verification(target.root, PUBLISHED, f"{FOLDERS.results.as_posix()}/")
    check_records(found, stored)
    if found.findings:
        raise _disagree(str(found.findings[0]))


def _disagree(what: str) -> UserError:
    return UserError(
        f"Nothing was published, since records disagree: {what}.",
        "Publish these numbers into another folder, or leave them out: --table, --model, --dataset "
        "and --scale say what is published.",
    )


def _add_strip(
    paths: Paths,
    target: Paths,
    measurement: Measurement,
    files: dict[str, FileRecord],
    done: Published,
) -> None:
    """Publish the strip of an accuracy under an attack on the model itself, if it can be drawn."""
    source, path = measurement.source, target.strips / f"{measurement.id}.png"
    name = path.relative_to(target.root).as_posix()
    if source is None or source.key != measurement.target.key or name in files:
        return
    picture = strip(paths, measurement)
    if picture is None:
        done.without_strip += 1
        return
    write_bytes(path, picture)
    files[name] = record_of(path)
    done.added["strip"] += 1
