"""Archives of artefacts: written so that the same content is the same bytes, read as a stranger's.

The first member is the manifest, which names every other with its size and SHA-256.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import ValidationError

from robustbench_pcl.configuration import explained
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.findings import printable
from robustbench_pcl.evidence.inventory import NAMED, PLACES
from robustbench_pcl.evidence.manifest import MOST_FILES, FileRecord, Manifest, record_of
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.atomic import replacing
from robustbench_pcl.store.formats import LARGEST_FILE, LARGEST_RECORD
from robustbench_pcl.store.reading import check_file, parse_json

CONTENTS = "contents.json"
"""The manifest's name in an archive."""
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
DAMAGE = (
    *(OSError, EOFError, LookupError, OverflowError, RuntimeError, ValueError),
    *(struct.error, zlib.error, zipfile.BadZipFile, tarfile.TarError),
)
"""What zipfile, tarfile and gzip raise on what they cannot read."""
PIECE, LARGEST_PIECE = 2**20, 2**25
"""Bytes that are read at once: as a rule, and at most, as for a zip's list of its members."""
MOST_EXPANSION, SLACK = 200, 2**26
"""Records shrink to a tenth, weights and images hardly; what expands more is a trap."""
LONGEST_NAME = 200
"""Bytes of a file's name: systems take 255, and a temporary name is longer than the name."""
PLAIN = re.compile(r"[\w+=,()\[\]~@-][\w+=.,()\[\]~@-]*")
"""A file's name that every system takes, and that is not hidden."""
CURE = "Nothing of it was taken in. Have it written again: pclbench store export ARCHIVE."

Add = Callable[[str, int, IO[bytes]], None]
"""Put a member of that name and size into an archive."""
Entry = tuple[str, int, Callable[[], IO[bytes]]]
"""Name, size, and what opens the content of a member."""


def pack(archive: Path, manifest: Manifest, files: Mapping[str, Path], progress: Progress) -> None:
    """Write an archive in one step.

    Args:
        archive: its name ends in one of :data:`SUFFIXES`.
        manifest: of the files.
        files: those that the manifest names.
        progress: the progress reporter.

    Raises:
        UserError: the name ends otherwise, it cannot be written, or a file changed meanwhile.
    """
    if not archive.name.endswith(SUFFIXES):
        cause = f"{archive.name} does not say what kind of archive it is to be."
        raise UserError(cause, f"Name a file that ends in {', '.join(SUFFIXES)}.")
    content = (json.dumps(manifest.content(), indent=1, sort_keys=True) + "\n").encode()
    total = sum(record.size for record in manifest.files.values())
    with (
        replacing(archive) as temporary,
        _writing(archive.name, temporary) as add,
        progress.task(f"writing {archive.name}", max(total, 1)) as advance,
    ):
        add(CONTENTS, len(content), io.BytesIO(content))
        for name, record in sorted(manifest.files.items()):
            with files[name].open("rb") as stream:
                add(name, record.size, stream)
            if record_of(files[name]) != record:
                cure = "Something works in this workspace: give the command again when it is done."
                raise UserError(f"{files[name]} changed while it was read.", cure)
            advance(record.size, "")


@contextmanager
def _writing(name: str, path: Path) -> Iterator[Add]:
    """What puts members into an archive; no time and no owner gets into it."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        if name.endswith(".zip"):
            packed = stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED))

            def add(name: str, size: int, stream: IO[bytes]) -> None:
                info = zipfile.ZipInfo(name)  # of 1980
                info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, size
                info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                with packed.open(info, "w") as target:
                    shutil.copyfileobj(stream, target, PIECE)

        else:
            outer: Any = file
            if not name.endswith(".tar"):
                outer = stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
            tar = stack.enter_context(
                tarfile.open(fileobj=outer, mode="w", format=tarfile.PAX_FORMAT)
            )

            def add(name: str, size: int, stream: IO[bytes]) -> None:
                info = tarfile.TarInfo(name)  # of 1970, nobody's
                info.size = size
                tar.addfile(info, stream)

        yield add


def unpack(archive: Path, folder: Path, progress: Progress) -> tuple[dict[str, Path], str]:
    """Write an archive's files into an empty folder, each one held against the manifest.

    Links, devices and folders are refused, and so is what the manifest does not name, what it names
    otherwise, what is there twice, what has no place in a workspace, and what expands without end.

    Returns:
        The files by name, and the manifest's SHA-256.

    Raises:
        UserError: the archive is refused, or the disk does not take it.
    """
    check_file(archive, LARGEST_FILE, "archive")
    most = archive.stat().st_size * MOST_EXPANSION + SLACK
    room = shutil.disk_usage(folder).free
    try:
        with archive.open("rb") as file, _entries(archive, file, most) as entries:
            manifest, digest = _read_contents(archive, next(entries, None))
            total = sum(record.size for record in manifest.files.values())
            _require(archive, total <= most, "it expands to far more bytes than its own")
            if total > room:
                cause = f"{archive} needs {total:,} bytes, and {folder} has room for {room:,}."
                raise UserError(cause, "Make room there, or name another folder with --home DIR.")
            with progress.task(f"unpacking {archive.name}", max(total, 1)) as advance:
                for name in _unpacked(archive, entries, manifest.files, folder):
                    advance(manifest.files[name].size, "")
    except DAMAGE as error:
        if isinstance(error, UserError):
            raise
        raise refused(archive, f"it is damaged ({' '.join(str(error).split())})") from error
    return {name: folder / name for name in manifest.files}, digest


def _unpacked(
    archive: Path, entries: Iterator[Entry], files: Mapping[str, FileRecord], folder: Path
) -> Iterator[str]:
    """Write each member; yield its name once it is what the manifest says."""
    missing = dict(files)
    for name, size, opened in entries:
        shown = printable(name)
        _require(archive, name not in files or name in missing, f"{shown} is in it twice")
        known = missing.pop(name, None)
        if known is None:
            raise refused(archive, f"its manifest does not name {shown}")
        digest, written = hashlib.sha256(), 0
        with replacing(folder / name) as path, opened() as source, path.open("wb") as target:
            while piece := source.read(PIECE):
                written += len(piece)
                _require(archive, written <= known.size, f"{shown} is larger than it should be")
                digest.update(piece)
                target.write(piece)
        same = (written, digest.hexdigest()) == (known.size, known.sha256) and size == written
        _require(archive, same, f"{shown} is not what the manifest says")
        yield name
    _require(archive, not missing, f"{printable(next(iter(missing), ''))} is missing")


def _read_contents(archive: Path, first: Entry | None) -> tuple[Manifest, str]:
    """The manifest, all of whose names have a place in a workspace, and its SHA-256."""
    if first is None or first[0] != CONTENTS:
        raise refused(archive, f"it does not begin with {CONTENTS}")
    _require(archive, first[1] <= LARGEST_PIECE, "its manifest is too large")
    with first[2]() as stream:
        content = stream.read(first[1])
    what = f"{CONTENTS} in {archive} is not a manifest"
    try:
        manifest = Manifest.model_validate(parse_json(content, what, CURE))
    except ValidationError as error:
        raise explained(error, what, CURE) from error
    _require(archive, len(manifest.files) <= MOST_FILES, f"it has more than {MOST_FILES:,} files")
    for name, record in manifest.files.items():
        shown = printable(name)
        _require(archive, has_place(name), f"{shown} has no place in a workspace")
        small = record.size <= LARGEST_RECORD or not name.endswith(".json")
        _require(archive, small, f"{shown} is too large for a record")
    folded = {name.casefold() for name in manifest.files}
    _require(archive, len(folded) == len(manifest.files), "two names in it differ by case only")
    return manifest, hashlib.sha256(content).hexdigest()


def has_place(name: str) -> bool:
    """Whether a path is that of an artefact in a workspace, in its plainest form."""
    pure = PurePosixPath(name)
    place = PLACES.get(pure.parent.as_posix())
    return (
        place is not None
        and name == f"{pure.parent}/{pure.name}"
        and pure.suffix in place.suffixes
        and len(pure.name.encode()) <= LONGEST_NAME
        and PLAIN.fullmatch(pure.name) is not None
        and NAMED.search(pure.stem) is not None
    )


@contextmanager
def _entries(archive: Path, file: IO[bytes], most: int) -> Iterator[Iterator[Entry]]:
    """The members of a zip or tar, in order.

    Raises:
        UserError: it is neither, or a member is no plain file.
    """
    head = file.read(512)
    file.seek(0)
    with ExitStack() as stack:
        bounded: Any = _Bounded(file, most)
        if head.startswith(b"PK"):
            yield _of_zip(archive, stack.enter_context(zipfile.ZipFile(bounded)))
            return
        if head.startswith(b"\x1f\x8b"):
            unzipped = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))
            bounded = _Bounded(unzipped, most)
        elif head[257:262] != b"ustar":
            raise refused(archive, "it is neither a tar nor a zip archive")
        tar = stack.enter_context(tarfile.open(fileobj=bounded, mode="r:"))
        yield _of_tar(archive, tar)


def _of_zip(archive: Path, packed: zipfile.ZipFile) -> Iterator[Entry]:
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG) and not info.is_dir() and not info.flag_bits & 1
        known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        whole = info.filename == info.orig_filename
        _require(archive, plain and known and whole, _no_file(info.filename))
        yield info.filename, info.file_size, partial(packed.open, info)


def _of_tar(archive: Path, tar: tarfile.TarFile) -> Iterator[Entry]:
    for info in tar:
        plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse()
        _require(archive, plain, _no_file(info.name))
        yield info.name, info.size, partial(_opened, tar, info)


def _opened(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    assert stream is not None  # it is a plain file
    return stream


def _no_file(name: str) -> str:
    return f"{printable(name)} in it is a link, a device, a folder or otherwise no plain file"


class _Bounded:
    """A stream for tarfile and zipfile that never gives more than its file can hold.

    Args:
        stream: that can be read.
        most: bytes from its beginning.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, most: int) -> None:
        self._stream, self._most = stream, most

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes; without a number, the rest."""
        asked = LARGEST_PIECE if size < 0 else size
        if asked > LARGEST_PIECE or self._stream.tell() > self._most:
            raise ValueError("it announces more than it can hold")
        return self._stream.read(asked)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        if whence == 0 and offset > self._most:
            raise ValueError("it announces more than it can hold")
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """Whether places can be gone to."""
        return True


def refused(archive: Path, why: str) -> UserError:
    """The error for an archive of which nothing is taken in."""
    return UserError(f"{archive} is refused: {why}.", CURE)


def _require(archive: Path, holds: bool, why: str) -> None:
    if not holds:
        raise refused(archive, why)
