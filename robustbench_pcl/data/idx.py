"""The IDX format of MNIST's files: a magic number, the sizes, then bytes."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import numpy as np

from robustbench_pcl.data.archives import MAX_MEMBER_BYTES, Member
from robustbench_pcl.data.dataset import Images, RawDataset
from robustbench_pcl.errors import UserError

CLASSIC_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 8


def classic_name(member_name: str) -> str | None:
    """Which of the four classic files a member is, if any; gzip or not, ``.idx3`` or ``-idx3``."""
    name = PurePosixPath(member_name).name.removesuffix(".gz").replace(".idx", "-idx")
    return name if name in CLASSIC_NAMES else None


def parse(data: bytes, name: str) -> Images:
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
        raise _damaged(name, str(error)) from error
    if len(content) != size:
        raise _damaged(name, f"it should hold {size:,} bytes after its header")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def parse_members(members: Iterable[Member]) -> dict[str, Images]:
    """Decode those of the four classic files that are among the members.

    Raises:
        UserError: one of them is damaged.
    """
    return {
        name: parse(member.read(), member.name)
        for member in members
        if (name := classic_name(member.name))
    }


def assemble(arrays: Mapping[str, Images], source: str) -> RawDataset:
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


def _damaged(name: str, reason: str) -> UserError:
    return UserError(f"{name} is damaged: {reason.rstrip('.')}.", "Download it again.")
