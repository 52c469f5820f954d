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
from typing import IO

import numpy as np

from robustbench_pcl.data.dataset import Images, RawDataset
from robustbench_pcl.errors import UserError

MAX_MEMBERS = 1_000_000
MAX_BYTES = 2 * 2**30
MAX_MEMBER_BYTES = 256 * 2**20

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
UNSIGNED_BYTE = 8


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

    def read(self) -> bytes:
        """The whole content.

        Raises:
            UserError: damaged.
        """
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
        UserError: not there, none of these, damaged, or beyond the limits.
    """
    read = _reader_of(path)
    count = total = 0
    try:
        for member in read(path):
            count += 1
            total += member.size
            if count > MAX_MEMBERS or total > MAX_BYTES or member.size > MAX_MEMBER_BYTES:
                raise _too_large(path)
            parts = PurePosixPath(member.name).parts
            if not any(part.startswith((".", "/", "__MACOSX")) for part in parts):
                yield member
    except DAMAGE as error:
        raise _damaged(path.name, error) from error


def _reader_of(path: Path) -> Callable[[Path], Iterator[Member]]:
    if path.is_dir():
        return _folder
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}.", "Check the name of the file or folder."
        ) from error
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
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield Member(info.filename, info.file_size, partial(archive.open, info))


def _tar(path: Path) -> Iterator[Member]:
    with tarfile.open(path, "r:") as archive:
        yield from _tar_members(archive)


def _gzipped_tar(path: Path) -> Iterator[Member]:
    with (
        _BoundedGzip(path, "rb") as stream,
        tarfile.open(fileobj=stream, mode="r:") as archive,
    ):
        yield from _tar_members(archive)
        stream.read(MAX_MEMBER_BYTES)  # to the very end, where gzip compares its checksum


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for count, info in enumerate(archive):
        if count > MAX_MEMBERS:  # folders and links count too: tarfile remembers them all
            raise tarfile.ReadError("it has too many entries")
        if info.isreg():
            yield Member(info.name, info.size, partial(_extract, archive, info))


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    if stream is None:
        raise tarfile.ExtractError(f"{info.name} is not a file")
    return stream


class _BoundedGzip(gzip.GzipFile):
    """Refuses to expand without end, as for the long names that a header may announce."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_MEMBER_BYTES or self.tell() > MAX_BYTES:
            raise EOFError("it expands to more bytes than any image set has")
        return super().read(size)


def classic_name(member_name: str) -> str | None:
    """Which of the four classic files a member is, if any; gzip or not, ``.idx3`` or ``-idx3``."""
    name = PurePosixPath(member_name).name.removesuffix(".gz").replace(".idx", "-idx")
    return name if name in CLASSIC_NAMES else None


def parse_idx(data: bytes, name: str) -> Images:
    """Decode an IDX file of unsigned bytes, gzipped or not.

    Args:
        data: the whole file.
        name: of the file, for messages.

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
        if zeros or kind != UNSIGNED_BYTE or not dimensions:
            raise ValueError("it is not an IDX file of unsigned bytes")
        size = math.prod(shape)
        if size > MAX_MEMBER_BYTES:
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
        f"{name} is damaged or incomplete: {' '.join(str(error).split()).rstrip('.')}.",
        "Download it again.",
    )
