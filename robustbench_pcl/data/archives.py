"""The files in a zip or tar archive or a folder, without extracting any; MNIST's IDX files in them.

Archives come from strangers. Nothing is written to disk, so names such as ``../../x`` lead
nowhere; what is read is bounded in number and in size.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

import numpy as np

from robustbench_pcl.data.dataset import Images, RawDataset
from robustbench_pcl.errors import UserError, shortened
from robustbench_pcl.store.reading import cannot_read, check_file

MAX_MEMBERS = 150_000
MAX_BYTES = 2**30
MAX_MEMBER_BYTES = 256 * 2**20
MAX_FILE_BYTES = 2**40
MAX_NAME = 4096
MAX_DIRECTORY_BYTES = 2**25
"""Of a zip archive's table of contents, which zipfile reads as a whole."""
MAX_HEADER_BYTES = 2**20
"""Of what a tar archive says of one file."""

# What zipfile, tarfile and gzip raise on damaged, encrypted or exotic input.
DAMAGE = (
    OSError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)

CLASSIC_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE, MAX_DIMENSIONS = 8, 4


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: with forward slashes, relative to the archive's root.
        size: uncompressed, in bytes.
        open: gives its content as a stream; only until the next member is asked for.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]

    def read(self, most: int = MAX_MEMBER_BYTES) -> bytes:
        """The whole content.

        Args:
            most: bytes that it may have.

        Raises:
            UserError: damaged, or larger.
        """
        if self.size > most:
            raise UserError(
                f"{shortened(self.name, 80)} has {self.size:,} bytes, more than the {most:,} that "
                "such a file of the data set may have.",
                "Give an archive with nothing but the data set in it.",
            )
        try:
            with self.open() as stream:
                return stream.read(self.size)
        except DAMAGE as error:
            raise _damaged(self.name, error) from error


def members(path: Path) -> Iterator[Member]:
    """Go through the files of an archive or folder, without hidden ones and those outside its root.

    Args:
        path: zip, tar, gzipped tar, or a folder.

    Raises:
        UserError: not there, none of these, damaged, beyond the limits, or with one file twice.
    """
    read = _reader_of(path)
    total, names = 0, set[PurePosixPath]()
    try:
        for member in read(path):
            total += member.size
            if len(member.name) > MAX_NAME:
                raise ValueError(f"a name in it has {len(member.name):,} characters")
            if total > MAX_BYTES or member.size > MAX_MEMBER_BYTES:
                raise _too_large(path)
            name = PurePosixPath(member.name)
            if name in names:
                raise ValueError(f"{shortened(member.name, 80)} is in it twice")
            names.add(name)
            if len(names) > MAX_MEMBERS:
                raise _too_large(path)
            if not any(part.startswith((".", "/", "__MACOSX")) for part in name.parts):
                yield member
    except DAMAGE as error:
        raise _damaged(path.name, error) from error


def _reader_of(path: Path) -> Callable[[Path], Iterator[Member]]:
    if path.is_dir():
        return _folder
    check_file(path, MAX_FILE_BYTES, "data set")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise cannot_read(path, error) from error
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip
    if head.startswith(b"\x1f\x8b"):
        return _gzipped_tar
    if head[257:262] == b"ustar":
        return _tar
    page = head.lstrip().lower().startswith((b"<!doctype", b"<html"))
    raise UserError(
        f"{path.name} is {'a web page' if page else 'neither a zip nor a tar archive'}.",
        "Download it again." if page else "Give a .zip, .tar or .tar.gz file, or a folder.",
    )


def _folder(path: Path) -> Iterator[Member]:
    for file in sorted(path.rglob("*")):
        if file.is_file():
            name = file.relative_to(path).as_posix()
            yield Member(name, file.stat().st_size, partial(_open_file, file))


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _zip(path: Path) -> Iterator[Member]:
    with open_zip(path) as archive:
        for info in archive.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("it is packed in a way that needs memory without bounds")
            if not info.is_dir():
                yield Member(info.filename, info.file_size, partial(archive.open, info))


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip archive whose table of contents has a bounded size.

    Raises:
        BadZipFile: it has not, or is no such archive.
        OSError: it cannot be read.
    """
    if _directory_size(path) > MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile("its table of contents is larger than that of any data set")
    return zipfile.ZipFile(path)


def _directory_size(path: Path) -> int:
    """Bytes that a zip archive's table of contents may have, by whatever says so at its end."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 2**17, 0))
        end = file.read()
    found = [0]
    for mark, kind, place in ((b"PK\5\6", "<I", 12), (b"PK\6\6", "<Q", 40)):
        at = end.find(mark)
        while at >= 0:
            size = end[at + place : at + place + struct.calcsize(kind)]
            found += struct.unpack(kind, size) if len(size) == struct.calcsize(kind) else ()
            at = end.find(mark, at + 1)
    return max(size for size in found if size != 2**32 - 1)  # that says: look elsewhere


def _tar(path: Path) -> Iterator[Member]:
    with path.open("rb") as file:
        yield from _tar_members(_Bounded(file))


def _gzipped_tar(path: Path) -> Iterator[Member]:
    with gzip.open(path, "rb") as file:
        yield from _tar_members(_Bounded(cast("IO[bytes]", file)))
        while file.read(MAX_HEADER_BYTES):  # to the very end, where gzip compares its checksum
            if file.tell() > 2 * MAX_BYTES:
                raise _too_large(path)


def _tar_members(stream: _Bounded) -> Iterator[Member]:
    count, archive = 0, tarfile.TarFile(fileobj=cast("IO[bytes]", stream))
    while (info := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined] # tarfile remembers them all
        count += 1
        if count > MAX_MEMBERS:  # folders and links count, too
            raise tarfile.ReadError("it has too many entries")
        if info.issparse():
            raise tarfile.ReadError(f"{shortened(info.name, 80)} has holes")
        if info.isreg():
            stream.most = MAX_HEADER_BYTES
            yield Member(info.name, info.size, partial(_extract, archive, info, stream))
            stream.most = MAX_HEADER_BYTES


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo, stream: _Bounded) -> IO[bytes]:
    stream.most = MAX_MEMBER_BYTES
    content = archive.extractfile(info)
    if content is None:
        raise tarfile.ExtractError(f"{info.name} is not a file")
    return content


class _Bounded:
    """A stream that is not read without end, as for the long names that a header may announce.

    Args:
        stream: a file, or what one expands to.

    Attributes:
        most: bytes that may be read at once.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.most = MAX_HEADER_BYTES
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes.

        Raises:
            EOFError: they are more than the bounds allow.
        """
        if size is None or not 0 <= size <= self.most or self.tell() > MAX_BYTES:
            raise EOFError("it expands to more bytes than any image set has")
        return self._stream.read(size)


def classic_name(member_name: str) -> str | None:
    """Which of the four classic files a member is, if any; gzip or not, ``.idx3`` or ``-idx3``."""
    name = PurePosixPath(member_name).name.removesuffix(".gz").replace(".idx", "-idx")
    return name if name in CLASSIC_NAMES else None


def parse_idx(data: bytes, name: str, most: int = MAX_MEMBER_BYTES) -> Images:
    """Decode an IDX file of unsigned bytes, gzipped or not.

    Args:
        data: the whole file.
        name: of the file, for messages.
        most: bytes that it may hold behind its header.

    Returns:
        uint8, in the shape that the file says.

    Raises:
        UserError: not such a file, damaged, or too large.
    """
    plain = io.BytesIO(data)
    stream = gzip.GzipFile(fileobj=plain) if data.startswith(GZIP_MAGIC) else plain
    try:
        zeros, kind, dimensions = struct.unpack(">HBB", stream.read(4))
        shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
        if zeros or kind != UNSIGNED_BYTE or not 0 < dimensions <= MAX_DIMENSIONS:
            raise ValueError("it is not an IDX file of unsigned bytes")
        size = math.prod(shape)
        if size > most:
            raise ValueError(f"it claims {size:,} bytes")
        content = stream.read(size + 1)  # one more than there should be
    except (struct.error, EOFError, OSError, ValueError, zlib.error) as error:
        raise _damaged(name, error) from error
    if len(content) != size:
        raise _damaged(name, f"it should hold {size:,} bytes after its header")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def parse_idx_files(members: Iterable[Member]) -> dict[str, Images]:
    """Decode those of the four classic files that are among the members.

    Raises:
        UserError: one of them is damaged.
    """
    return {
        name: parse_idx(member.read(), member.name)
        for member in members
        if (name := classic_name(member.name))
    }


def assemble_idx(arrays: Mapping[str, Images], source: str) -> RawDataset:
    """Make a data set of the four classic files' arrays.

    Raises:
        UserError: one of the four is missing, or images are not grey images.
    """
    missing = [name for name in CLASSIC_NAMES if name not in arrays]
    if missing:
        raise UserError(
            f"IDX files are missing: {', '.join(missing)}.", "Give the folder that holds all four."
        )
    train_images, train_labels, test_images, test_labels = (arrays[name] for name in CLASSIC_NAMES)
    return RawDataset(
        _with_channel(train_images),
        train_labels.astype(np.int64),
        _with_channel(test_images),
        test_labels.astype(np.int64),
        source,
    )


def _with_channel(images: Images) -> Images:
    if images.ndim != 3:
        raise UserError(
            f"The IDX images have {images.ndim} dimensions, not 3.",
            "Are the files for images and labels swapped?",
        )
    return images[:, np.newaxis]


def _too_large(path: Path) -> UserError:
    return UserError(
        f"{path.name} holds more than {MAX_MEMBERS:,} files or {MAX_BYTES // 2**30} GiB, or a file "
        f"of more than {MAX_MEMBER_BYTES // 2**20} MiB.",
        "Give an archive with nothing but the data set in it.",
    )


def _damaged(name: str, error: Exception | str) -> UserError:
    return UserError(
        f"{shortened(name, 80)} is damaged or incomplete: {shortened(str(error), 200)}.",
        "Download it again.",
    )
