"""Artefacts that travel: into an archive, out of one, and from one workspace into another.

What is taken in was verified before. It lies in its place only when it is whole: models before
their sets, and sets before what was measured on them, so that an interruption leaves nothing that
rests on what is not there.
"""

from __future__ import annotations

import filecmp
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import ACCURACY
from robustbench_pcl.evidence.archive import pack, refused, unpack
from robustbench_pcl.evidence.bundle import selector
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.inventory import TRAVELLING, About, Inventory, Item, take_stock
from robustbench_pcl.evidence.manifest import Manifest, Selection, record_of
from robustbench_pcl.evidence.records import check_records
from robustbench_pcl.evidence.rendered import environments
from robustbench_pcl.evidence.sets import check_sets
from robustbench_pcl.evidence.stored import Files, Judged, models_in, read_stored
from robustbench_pcl.progress import Progress, tracked
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.atomic import passing_folder, replacing, require_writable
from robustbench_pcl.store.checkpoints import Checkpoint, load_arrays, weights_digest
from robustbench_pcl.store.embeddings import Embedding, PublishedEmbedding
from robustbench_pcl.store.formats import check_format
from robustbench_pcl.store.records import Paths, StoredRecord, TrainingRecord
from robustbench_pcl.version import __version__

CIRCUMSTANCES = frozenset(
    {"created", "environment", "seconds", "forward_passes", "backward_passes"}
)
"""What two machines say differently of one number: when, where, and what it cost."""
MOST_SHOWN = 5
"""Files that a message names."""


def chosen(
    inventory: Inventory,
    selection: Selection,
    ids: Sequence[str] = (),
    *,
    sets: bool = True,
) -> list[Item]:
    """What of a workspace is to travel, and all that it rests on, in the order of making.

    Args:
        inventory: of the workspace.
        selection: by table, model, data set, scale and seed; nothing named means all of it.
        ids: further items, by id or file; with nothing else named, only these.
        sets: with the adversarial images.

    Raises:
        UserError: there is no such thing, or nothing is stored of what is selected.
    """
    named, wanted = [inventory.one(text) for text in ids], selector(selection)
    for item in named:
        if item.kind not in TRAVELLING:
            cure = "Checkpoints, sets, and what was measured travel: pclbench store list."
            raise UserError(f"{item.name} is no artefact that is whole.", cure)
    if selection != Selection():
        artefacts = inventory.of(*TRAVELLING)
        named += [item for item in artefacts if item.models and wanted(item.models[0])]
    elif not ids:
        named = inventory.of(*TRAVELLING)
    found = inventory.with_all_above(named)
    found = [item for item in found if sets or item.kind != "set"]
    if not found:
        cause = f"Nothing is stored in {inventory.paths.root} of what is asked for."
        raise UserError(cause, "See what there is: pclbench store list.")
    return found


def export_archive(
    items: Sequence[Item], archive: Path, selection: Selection, progress: Progress
) -> int:
    """Write items into one archive; the same content is always the same bytes.

    What is damaged is left out, and said.

    Returns:
        How many there are in it.

    Raises:
        UserError: the archive cannot be written.
    """
    for item in items:
        if item.damage:
            progress.say(f"Left out {item.name}: {item.damage}.")
    whole = [item for item in items if not item.damage]
    shown = tracked(whole, "computing digests", len(whole), progress)
    about = [item.about for item in whole if isinstance(item.about, StoredRecord)]
    manifest = Manifest(
        pclbench=__version__,
        selection=selection,
        environments=environments(about),
        files={item.name: record_of(item.path) for item in shown},
    )
    pack(archive, manifest, {item.name: item.path for item in whole}, progress)
    return len(whole)


@dataclass
class Taken:
    """What became of artefacts that were to be taken in.

    Attributes:
        added: how many of each kind are new here.
        known: how many were here already.
        left_out: which were not taken, and why, a sentence each.
    """

    added: Counter[str] = field(default_factory=Counter)
    known: int = 0
    left_out: list[str] = field(default_factory=list)


def import_archive(
    archive: Path, paths: Paths, progress: Progress, *, keep_mine: bool = False
) -> Taken:
    """Take in the artefacts of an archive; nothing of it is seen before all of it is verified.

    Args:
        archive: that :func:`export_archive` wrote, somewhere.
        paths: of the workspace.
        progress: the progress reporter.
        keep_mine: leave out what is here with other content, and what rests on that.

    Raises:
        UserError: the archive is refused, or something is here with other content.
    """
    check_format(paths)
    with passing_folder(paths.results) as folder:
        files, digest = unpack(archive, folder, progress)
        wrong = _unsound(Verification(folder, digest), files, progress)
        for name, why in wrong.items():
            raise refused(archive, f"{name}: {why}")
        theirs = take_stock(Paths(folder))
        for item in theirs.items:  # verified a moment ago: the disk fails
            if item.damage:
                raise refused(archive, f"{item.name}: {item.damage}")
        return _take_in(theirs, Taken(), paths, progress, keep_mine=keep_mine)


def merge(other: Paths, paths: Paths, progress: Progress, *, keep_mine: bool = False) -> Taken:
    """Take in the artefacts of another workspace, which stays as it is.

    What is damaged there or does not hold is left out with what rests on it; so is what is not
    finished.

    Args:
        other: the other workspace.
        paths: of the one that takes in.
        progress: the progress reporter.
        keep_mine: as of :func:`import_archive`.

    Raises:
        UserError: there is no such workspace, it is the same one, or something is here with other
            content.
    """
    if other.root.exists() and paths.root.exists() and other.root.samefile(paths.root):
        raise UserError(f"{other.root} is this workspace itself.", "Name another folder.")
    check_format(other)
    check_format(paths)
    theirs = take_stock(other, progress)
    taken = Taken()
    whole = {item.name: item.path for item in theirs.of(*TRAVELLING) if not item.damage}
    if not whole:
        raise UserError(f"Nothing is stored in {other.root}.", "Check its name.")
    wrong = {item.name: item.damage for item in theirs.of(*TRAVELLING) if item.damage}
    wrong |= _unsound(Verification(other.root), whole, progress)
    taken.left_out += [f"{name}: {why}" for name, why in wrong.items()]
    unfinished = theirs.of("partial", "parts")
    taken.left_out += [f"{item.name}: it is not finished" for item in unfinished]
    require_writable(paths.results)
    return _take_in(_without(theirs, wrong), taken, paths, progress, keep_mine=keep_mine)


def _unsound(found: Verification, files: Files, progress: Progress) -> dict[str, str]:
    """Which files do not hold, and why: read without trust, each against itself and the others."""
    stored = read_stored(found, files, None, progress)
    check_records(found, stored)
    check_sets(found, stored, progress)
    wrong: dict[str, str] = {}
    for finding in found.findings:
        said = f"{finding.what}: {finding.found}; expected: {finding.expected}"
        wrong.setdefault(finding.file, said)
    return wrong


def _without(inventory: Inventory, names: Mapping[str, str]) -> Inventory:
    """An inventory without some items and what rests on them."""
    gone = {
        each.name for item in inventory.items if item.name in names for each in _on(inventory, item)
    }
    return Inventory(inventory.paths, [item for item in inventory.items if item.name not in gone])


def _on(inventory: Inventory, item: Item) -> list[Item]:
    """An item and what rests on it."""
    return [item, *inventory.below(item)]


def _take_in(
    theirs: Inventory, taken: Taken, paths: Paths, progress: Progress, *, keep_mine: bool
) -> Taken:
    """Put what is new into its place, in the order of making."""
    mine = take_stock(paths, progress)
    here = {item.name: item for item in mine.items}
    coming = [item for item in theirs.of(*TRAVELLING) if item.about is not None]
    known = {item.name for item in coming if item.name in here and _same(here[item.name], item)}
    sized = {_images_of(item): item for item in reversed(mine.of("set", "measurement"))}
    clashes = {
        item.name: why
        for item in coming
        if item.name not in known and (why := _clash(item, here.get(item.name), sized))
    }
    if clashes and not keep_mine:
        first, *others = clashes.items()
        also = ", ".join(name for name, _ in others[:MOST_SHOWN])
        more = f"; so {'does' if len(others) == 1 else 'do'} {len(others)} more: {also}"
        raise UserError(
            f"Nothing was taken in: {': '.join(first)}{more if others else ''}.",
            "Leave them out, and what rests on them, with --keep-mine; or first remove yours: "
            "pclbench store prune ID.",
        )
    taken.left_out += [f"{name}: {why}" for name, why in clashes.items()]
    kept = _without(theirs, clashes)
    new = [item for item in kept.of(*TRAVELLING) if item.name not in known and item.about]
    taken.known = len(known)
    for item in tracked(new, "putting artefacts in their places", len(new), progress):
        with replacing(paths.root / item.name) as temporary:
            shutil.copyfile(item.path, temporary)
        taken.added[item.kind] += 1
    return taken


def _images_of(item: Item) -> str | None:
    """The id of the adversarial set that an item is, or was made from."""
    return item.id if item.kind == "set" else item.set_id


def _clash(theirs: Item, mine: Item | None, sized: Mapping[str | None, Item]) -> str:
    """Why an artefact cannot lie beside what is here; "" if it can.

    Ids of sets do not cover pixels, so two of one id may be two results, as of two devices.

    Args:
        theirs: the artefact.
        mine: what is here in its place.
        sized: for each set, something here that says how far its images are from the clean ones.
    """
    if mine is not None:
        return f"here it is damaged ({mine.damage})" if mine.damage else "here it says otherwise"
    images = _images_of(theirs)
    other = sized.get(images) if images else None
    if other is not None and not _on_the_same_images(theirs, other):
        return f"{other.name}, which is here, rests on other images"
    return ""


def _on_the_same_images(item: Item, other: Item) -> bool:
    """Whether two things that name one adversarial set say the same of its perturbations."""
    for name in ("largest_linf", "largest_l2", "mean_l2"):
        one, two = getattr(item.record, name, None), getattr(other.record, name, None)
        if one is None or two is None:
            continue  # not kept by an older pclbench
        if not math.isclose(one, two, rel_tol=ACCURACY, abs_tol=ACCURACY):
            return False
    return True


def _same(mine: Item, theirs: Item) -> bool:
    """Whether two artefacts of one name are one result, whenever and wherever it was made."""
    if mine.damage:
        return False
    if filecmp.cmp(mine.path, theirs.path, shallow=False):
        return True
    here, there = mine.about, theirs.about
    if isinstance(here, StoredRecord) and isinstance(there, StoredRecord):
        return same_result(here, there)
    try:
        return here is not None and there is not None and _content(here) == _content(there)
    except UserError:  # mine is damaged where only its content tells
        return False


def same_result(here: StoredRecord, there: StoredRecord) -> bool:
    """Whether two records of one name are one result, whenever and wherever it was made."""
    if isinstance(here, TrainingRecord) and isinstance(there, TrainingRecord):
        return here.data.digest == there.data.digest
    if isinstance(here, PublishedEmbedding) and isinstance(there, PublishedEmbedding):
        return here.record.content_digest == there.record.content_digest
    if isinstance(here, Judged) and isinstance(there, Judged):
        return _number(here) == _number(there)
    return False


def _content(about: About) -> list[object]:
    """All numbers of weights, points or images, as digests that were computed now."""
    if isinstance(about, Checkpoint):
        return [about.record.checkpoint, weights_digest(load_arrays(about.path))]
    if isinstance(about, Embedding):
        return [about.spec.id, weights_digest(about.arrays())]
    assert isinstance(about, AdversarialSet)
    about.verify()
    columns = [column.tolist() for _, column in sorted(about.columns.items())]
    return [about.spec.id, about.summary.images_digest, about.stages, *columns]


def _number(record: Judged) -> dict[str, object]:
    """What a record says, whatever its models are called, and when, where and how fast."""
    content = record.content(exclude=("data", "target", "source", "sources", *CIRCUMSTANCES))
    return {**content, "data": record.data.digest, "models": [m.key for m in models_in(record)]}
