"""Verifying a bundle or a workspace: all that can be recomputed is, without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from robustbench_pcl.environment import pick_device
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.manifest import (
    MANIFEST,
    Listing,
    read_manifest,
    read_published,
    record_of,
    walk,
)
from robustbench_pcl.evidence.records import check_records
from robustbench_pcl.evidence.rendered import check_rendered
from robustbench_pcl.evidence.sets import check_sets
from robustbench_pcl.evidence.stored import FOLDERS, Files, Stored, read_stored
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.formats import PUBLISHED

if TYPE_CHECKING:
    from robustbench_pcl.evidence import answers
else:
    answers = LazyModule("robustbench_pcl.evidence.answers")


KINDS = (
    *(FOLDERS.measurements, FOLDERS.trainings, FOLDERS.diagnoses, FOLDERS.certificates),
    *(FOLDERS.adversarial_sets, FOLDERS.embeddings),
)
"""The folders of what was made from checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """How to verify.

    Attributes:
        share: of the images that are classified again, above 0 and at most 1.
        seed: of their choice.
        device: that classifies them.
        data_root: folder with torchvision's data files; PCLBENCH_DATA if None.
        progress: the progress reporter.
    """

    share: float = 1.0
    seed: int = 0
    device: str = "auto"
    data_root: Path | None = None
    progress: Progress = field(default_factory=Progress)

    def bundle(self, folder: Path, digest: str = "") -> Verification:
        """Verify a bundle.

        Args:
            folder: of the bundle.
            digest: what its manifest's is said to be elsewhere; "" where that is not known.

        Raises:
            UserError: there is no manifest that can be read.
        """
        manifest, own = read_manifest(folder)
        found = Verification(folder, own)
        if digest:
            found.compare(MANIFEST, "its SHA-256", digest, own)
        files = _check_files(found, manifest, MANIFEST)
        stored = self._verify(found, files)
        check_rendered(found, files, stored, manifest)
        return found

    def published(self, folder: Path, digest: str = "") -> Verification:
        """Verify published evidence: as a bundle, which has pages instead of strips.

        Args:
            folder: that ``pclbench store publish`` wrote.
            digest: what that of its list is said to be elsewhere; "" where that is not known.

        Raises:
            UserError: there is no list that can be read.
        """
        listing, own = read_published(folder)
        found = Verification(folder, own, f"{FOLDERS.results.as_posix()}/")
        if digest:
            found.compare(PUBLISHED, "its SHA-256", digest, own)
        files = _check_files(found, listing, PUBLISHED)
        stored = self._verify(found, files)
        ids = [each.id for each in stored.measurements.values()]
        strips = {f"{FOLDERS.strips.as_posix()}/{identity}.png" for identity in ids}
        found.checked["strips"] += len(strips & files.keys())
        for name in sorted(files.keys() - stored.made - strips):
            found.wrong(name, "the file", "no part of published evidence", "there")
        return found

    def workspace(self, folder: Path) -> Verification:
        """Verify what is stored in a workspace, which has no manifest.

        Raises:
            UserError: there is no such folder.
        """
        return self.look_into(folder)[0]

    def look_into(self, folder: Path) -> tuple[Verification, Stored]:
        """Verify a workspace; what was found, and what could be read.

        Raises:
            UserError: there is no such folder.
        """
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}.", "Check the path that you gave.")
        found = Verification(folder)
        return found, self._verify(found, _stored_files(found))

    def _verify(self, found: Verification, files: Files) -> Stored:
        """Records, weights, sets, and what the weights say of the images."""
        stored = read_stored(found, files, self.data_root, self.progress)
        check_records(found, stored)
        check_sets(found, stored, self.progress)
        sample = answers.Sample(self.share, self.seed)
        device = pick_device(self.device)
        answers.classify_again(found, stored, sample, device, self.progress)
        return stored


def _stored_files(found: Verification) -> Files:
    """The files of a workspace; what is none is not looked into, and that is said."""
    files: dict[str, Path] = {}
    links, temporary = [], []
    for folder in (FOLDERS.checkpoints, *KINDS):
        if not (found.folder / folder).is_dir():
            continue
        for inside, path in walk(found.folder / folder):
            name = f"{folder.as_posix()}/{inside}"
            if path is None:
                links.append(name)
            elif PurePosixPath(name).name.startswith("."):
                temporary.append(name)
            else:
                files[name] = path
    if links:
        found.skip(f"Links and devices ({len(links):,}), such as {links[0]}: none is followed.")
    if temporary:
        found.skip(
            f"Temporary files ({len(temporary):,}) of runs that go on or were killed, such as "
            f"{temporary[0]}: nothing rests on them."
        )
    return files


def _check_files(found: Verification, listing: Listing, own: str) -> Files:
    """Hold the files against their list.

    Args:
        found: where findings go.
        listing: of the files.
        own: the name of the list's file.

    Returns:
        Those to look into: HDF5 that was changed is not, since it may do harm.
    """
    files, there = {}, dict(walk(found.folder))
    there.pop(own, None)
    for inside in sorted(there.keys() | listing.files.keys()):
        name, path, known = found.inside + inside, there.get(inside), listing.files.get(inside)
        if path is None:
            what = "a link or a device" if inside in there else "gone"
            found.wrong(name, "the file", "there", what)
            continue
        record = record_of(path)
        if known is None:
            found.wrong(name, "the file", f"none, since {own} names none", "there")
        elif found.compare(name, "its SHA-256", known.sha256, record.sha256):
            found.compare(name, "its size", known.size, record.size)
        if found.sound(name) or path.suffix != ".h5":
            files[name] = path
        found.checked["files"] += 1
    return files
