"""HDF5 as pclbench writes it, read without the HDF5 library.

The library believes a file: it follows links into other files, takes the memory that a header
declares, and never returns from some heaps. Sets and parts need little of the format: one group of
arrays of a few types, in one piece or in chunks of whole rows, and attributes. That much is read
here; all else is refused. Nothing read is longer than the file, or than a chunk may be.

The numbers in comments are sections of the HDF5 File Format Specification 3.0:
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Attribute = str | bool | int | float | list[float]

UNREADABLE = (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError)
"""What reading a damaged file raises: it depends on which byte is wrong."""
VERSION = "earliest"
"""What h5py calls the version of HDF5 that is read here."""
SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_OBJECTS = 32
"""Arrays and attributes of a file, nodes of its group."""
MOST_CHUNKS = 2**17
LARGEST_HEADER = 2**20
"""Bytes that are read of the file's structure at a time."""
LARGEST_CHUNK = 2**27
"""Bytes of a chunk before it is packed."""
NUMBERS: dict[bytes, np.dtype[Any]] = {
    bytes.fromhex("1008000008000000 0000 4000"): np.dtype("<i8"),
    bytes.fromhex("11201f0004000000 0000 2000 1708 0017 7f000000"): np.dtype("<f4"),
    bytes.fromhex("11203f0008000000 0000 4000 340b 0034 ff030000"): np.dtype("<f8"),
    bytes.fromhex("1802000001000000 1008000001000000 0000 0800")
    + b"FALSE\0\0\0TRUE\0\0\0\0\0\1": np.dtype(bool),
}
"""The types of numbers that are written, as IV.A.2.d encodes them."""
TEXT, ANY_LENGTH = 0x13, 0x19
"""Types of text: of a fixed length, and of any."""
DATASPACE, DATATYPE, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, GROUP = 1, 3, 8, 11, 12, 16, 17
PASSED_OVER = (0, 4, 5, 14, 18)
"""Messages without meaning here: nothing, values of what is missing, comments and times."""
GZIP, FLETCHER32 = 1, 3


class Chunk(NamedTuple):
    """Where some rows of an array lie: how many bytes, and which filters were left out."""

    size: int
    skipped: int
    address: int


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Contents]:
    """A file that pclbench wrote; its arrays can be read as long as it is open.

    Raises:
        OSError: the system does not open it.
        ValueError: it is no regular file, or not HDF5 as pclbench writes it.
    """
    # Not blocking: opening a named pipe waits for somebody to write into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        about = os.fstat(file.fileno())
        _require(stat.S_ISREG(about.st_mode), "it is no regular file")
        try:
            yield Contents(file, about.st_size)
        except (struct.error, UnicodeError, zlib.error) as error:
            raise ValueError("its bytes are damaged") from error


class Contents:
    """What a file holds.

    Args:
        file: the open file.
        size: of it, in bytes.

    Attributes:
        attributes: of the file: text, numbers, truth values or lists of numbers.
        arrays: by name, not yet read.
    """

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file, self.size = file, size
        self._collections: dict[int, dict[int, bytes]] = {}
        head = self.at(0, 96)  # II.A, version 0; its root group's entry: III.C
        _require(head.startswith(SIGNATURE), "it is not HDF5")
        _require(head[8:15] == b"\0\0\0\0\0\x08\x08", "pclbench writes another version of HDF5")
        base, _, end, _, _, root = struct.unpack_from("<6Q", head, 24)
        _require(base == 0 and end <= size, "it is cut off")
        self.attributes: dict[str, Attribute] = {}
        members: dict[str, int] = {}
        for kind, body in self._messages(root):
            if kind == ATTRIBUTE:
                name, value = self._attribute(body)
                _require(name not in self.attributes, f"{name} is in it twice")
                self.attributes[name] = value
            elif kind == GROUP:
                named = [*self._members(*struct.unpack_from("<QQ", body))]
                members = dict(named)
                _require(len(members) == len(named) <= MOST_OBJECTS, "it holds more than a set")
            else:
                raise ValueError("its group is of another kind")
            _require(len(self.attributes) <= MOST_OBJECTS, "it holds more than a set")
        self.arrays = {name: self._array(address) for name, address in members.items()}

    def at(self, address: int, length: int) -> bytes:
        """Bytes of the file.

        Raises:
            ValueError: they are not in it.
        """
        _require(address + length <= self.size, "it is cut off")
        self._file.seek(address)
        found = self._file.read(length)
        _require(len(found) == length, "it is cut off")
        return found

    def _structure(self, address: int, length: int) -> bytes:
        _require(length <= LARGEST_HEADER, "its structure is too large")
        return self.at(address, length)

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """The messages that describe an object, by their kind (IV.A.1.a)."""
        version, count, size = struct.unpack("<BxH4xI", self._structure(address, 12))
        _require(version == 1, "an object in it is of another version")
        blocks = [(address + 16, size)]
        for start, length in blocks:  # which grow as continuations are met
            _require(len(blocks) <= MOST_OBJECTS, "its structure is too large")
            block, position = self._structure(start, length), 0
            while count and position + 8 <= length:
                kind, size, flags = struct.unpack_from("<HHB", block, position)
                body = block[position + 8 : position + 8 + size]
                position, count = position + 8 + size, count - 1
                _require(not flags & 2, "a part of an object lies elsewhere")
                if kind == CONTINUATION:
                    blocks.append(struct.unpack("<QQ", body))
                elif kind not in PASSED_OVER:
                    yield kind, body

    def _members(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Names and addresses of the root group's objects (III.A.1, III.B, III.C, III.D)."""
        mark, length, names = struct.unpack("<4s4xQ8xQ", self._structure(heap, 32))
        _require(mark == b"HEAP", "its names are damaged")
        text = self._structure(names, length)
        for _, node in self.leaves(tree, 0, "<Q", MOST_OBJECTS):
            mark, count = struct.unpack("<4s2xH", self._structure(node, 8))
            _require(mark == b"SNOD" and count <= MOST_OBJECTS, "its group is damaged")
            entries = self._structure(node + 8, 40 * count)
            for start, address, cached in struct.iter_unpack("<QQI20x", entries):
                name = text[start:].partition(b"\0")[0].decode()
                _require(cached != 2, f"{name!r} in it is a link")  # III.C: a soft one
                yield name, address

    def leaves(self, tree: int, kind: int, key: str, most: int) -> Iterator[tuple[int, ...]]:
        """What a tree leads to, in its order: each key with the address behind it (III.A.1).

        Args:
            tree: its address.
            kind: 0 of a group, 1 of an array's chunks.
            key: what comes before each address, as :mod:`struct` has it.
            most: how many there may be.
        """
        entry = struct.Struct(f"{key}Q")
        waiting, seen = [(tree, -1)], 0
        while waiting:
            address, expected = waiting.pop()
            mark, own, level, count = struct.unpack("<4sBBH", self._structure(address, 8))
            seen += 1 + count
            _require(seen <= 3 * most, "a tree in it is too large")
            known = (mark, own) == (b"TREE", kind) and expected in (-1, level)
            _require(known, "a tree in it is damaged")
            found = entry.iter_unpack(self._structure(address + 24, count * entry.size))
            if level:
                waiting += [(child, level - 1) for *_, child in reversed([*found])]
            else:
                yield from found

    def _array(self, address: int) -> StoredArray:
        """An array by the address of what describes it."""
        found: dict[int, bytes] = {}
        for kind, body in self._messages(address):
            if kind != ATTRIBUTE:
                found[kind] = body
        known = {DATASPACE, DATATYPE, LAYOUT}
        _require(known <= {*found} <= {*known, FILTERS}, "something in it is no array of its own")
        shape, dtype = _shape(found[DATASPACE]), _number(found[DATATYPE])
        _require(len(shape) > 0, "something in it is no array")
        version, layout = found[LAYOUT][:2]  # IV.A.2.i
        _require(version == 3 and layout in (1, 2), "an array in it lies in another way")
        if layout == 1:
            _require(FILTERS not in found, "an array is packed in another way")
            start, size = struct.unpack_from("<QQ", found[LAYOUT], 2)
            return StoredArray(self, shape, dtype, start, size)
        rank, tree = struct.unpack_from("<BQ", found[LAYOUT], 2)
        sides = struct.unpack_from(f"<{rank}I", found[LAYOUT], 11)
        whole = sides[1:] == (*shape[1:], dtype.itemsize) and 0 < sides[0] <= shape[0]
        _require(whole, "an array in it has other chunks")
        _require(math.prod(sides) <= LARGEST_CHUNK, "a chunk of it is too large")
        _require(-(-shape[0] // sides[0]) <= MOST_CHUNKS, "an array in it has too many chunks")
        filters = _filters(found[FILTERS]) if FILTERS in found else ()
        return ChunkedArray(self, shape, dtype, tree, 0, sides[0], filters)

    def _attribute(self, body: bytes) -> tuple[str, Attribute]:
        """An attribute's name and value (IV.A.2.m)."""
        version, flags, *sizes = struct.unpack_from("<BBHHH", body)
        _require(version in (1, 2, 3) and (version == 1 or flags == 0), "an attribute is unusual")
        fields, start = [], 9 if version == 3 else 8
        for size in sizes:
            fields.append(body[start : start + size])
            start += -(-size // 8) * 8 if version == 1 else size
        name, kind, data = fields[0].rstrip(b"\0").decode(), fields[1], body[start:]
        shape = _shape(fields[2])
        if kind[0] in (TEXT, ANY_LENGTH):
            _require(shape == (), f"{name} is no text")
            if kind[0] == TEXT:
                text = data[: struct.unpack_from("<I", kind, 4)[0]]
            else:
                _require(kind[1] & 15 == 1, f"{name} is no text")
                text = self._of_any_length(*struct.unpack_from("<IQI", data))
            return name, text.rstrip(b"\0").decode()
        values = np.frombuffer(data, _number(kind), count=math.prod(shape))
        return name, values.tolist() if shape else values[0].item()

    def _of_any_length(self, length: int, collection: int, index: int) -> bytes:
        """Text in the global heap, where versions before 0.5 kept it (III.E)."""
        if collection not in self._collections:
            mark, size = struct.unpack("<4s4xQ", self._structure(collection, 16))
            _require(mark == b"GCOL" and size >= 16, "its text is damaged")
            block, start = self._structure(collection + 16, size - 16), 0
            objects = self._collections[collection] = {}
            while start + 16 <= len(block):
                number, size = struct.unpack_from("<H6xQ", block, start)
                if number == 0:  # the rest is free
                    break
                objects[number] = block[start + 16 : start + 16 + size]
                start += 16 + -(-size // 8) * 8
        text = self._collections[collection].get(index, b"")
        _require(len(text) >= length, "its text is damaged")
        return text[:length]


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in one piece, which is read some rows at a time.

    Attributes:
        contents: of its file.
        shape: of one dimension or more.
        dtype: int64, float32, float64 or boolean.
        address: of its first row, or of the tree of its chunks.
        size: bytes in the file, of an array in one piece.
    """

    contents: Contents
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int
    size: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        """Rows ``start`` to ``stop``, all from there on if that is None.

        Raises:
            ValueError: they are not in the file, or damaged.
        """
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        data = self._bytes(start, stop) if start < stop else b""
        return np.frombuffer(data, self.dtype).reshape(max(stop - start, 0), *self.shape[1:])

    def _bytes(self, start: int, stop: int) -> bytearray:
        _require(self.size == self.shape[0] * self.row_bytes, "a part of it is missing")
        first = self.address + start * self.row_bytes
        return bytearray(self.contents.at(first, (stop - start) * self.row_bytes))


@dataclass(frozen=True, eq=False)
class ChunkedArray(StoredArray):
    """An array in chunks of whole rows.

    Attributes:
        rows: of a chunk.
        filters: that each chunk has been through, in their order.
    """

    rows: int
    filters: tuple[int, ...]

    @cached_property
    def chunks(self) -> dict[int, Chunk]:
        """Each chunk by its number."""
        key, most = f"<II{len(self.shape) + 1}Q", -(-self.shape[0] // self.rows)
        found: dict[int, Chunk] = {}
        for leaf in self.contents.leaves(self.address, 1, key, most):
            size, skipped, first, *others, address = leaf
            number, rest = divmod(first, self.rows)
            wrong = rest or any(others) or number in found or number >= most
            _require(not wrong, "a tree in it is damaged")
            found[number] = Chunk(size, skipped, address)
        return found

    def _bytes(self, start: int, stop: int) -> bytearray:
        data = bytearray()
        for number in range(start // self.rows, -(-stop // self.rows)):
            first = number * self.rows
            chunk = self._unpacked(number)
            own = slice(max(start - first, 0), min(stop - first, self.rows))
            data += chunk[own.start * self.row_bytes : own.stop * self.row_bytes]
        return data

    def _unpacked(self, number: int) -> memoryview:
        """A chunk as it was before its filters (III.A.1, IV.A.2.l)."""
        _require(number in self.chunks, "a part of it is missing")
        chunk, whole = self.chunks[number], self.rows * self.row_bytes
        _require(chunk.size <= LARGEST_CHUNK + LARGEST_HEADER, "a chunk of it is too large")
        data = self.contents.at(chunk.address, chunk.size)
        for place in reversed(range(len(self.filters))):
            if chunk.skipped >> place & 1:
                continue
            if self.filters[place] == GZIP:
                stream = zlib.decompressobj()
                data = stream.decompress(data, whole + 1)
                _require(stream.eof, "a chunk of it has another size")
            else:
                data, kept = data[:-4], data[-4:]
                _require(kept == struct.pack("<I", fletcher32(data)), "its checksum differs")
        _require(len(data) == whole, "a chunk of it has another size")
        return memoryview(data)


def _shape(body: bytes) -> tuple[int, ...]:
    """The sides of an array (IV.A.2.b)."""
    version, rank, _, kind = body[:4]
    _require(version == 1 or (version == 2 and kind < 2), "it has an array of no shape")
    return struct.unpack_from(f"<{rank}Q", body, 8 if version == 1 else 4)


def _number(body: bytes) -> np.dtype[Any]:
    """The type of an array's numbers (IV.A.2.d)."""
    found = next((dtype for encoded, dtype in NUMBERS.items() if body.startswith(encoded)), None)
    if found is None:
        raise ValueError("an array in it is of another type")
    return found


def _filters(body: bytes) -> tuple[int, ...]:
    """The filters of an array, in the order they were applied in (IV.A.2.l)."""
    version, count = body[:2]
    _require(version == 1, "an array is packed in another way")
    found, start = [], 8
    for _ in range(count):
        number, name, _, values = struct.unpack_from("<4H", body, start)
        start += 8 + name + 4 * (values + values % 2)
        found.append(number)
    _require({*found} <= {GZIP, FLETCHER32}, "an array is packed in another way")
    return tuple(found)


def fletcher32(data: bytes) -> int:
    """Fletcher's checksum as HDF5 computes it: of big-endian words, modulo 65,535, zero as itself.

    https://github.com/HDFGroup/hdf5/blob/develop/src/H5checksum.c
    """
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2")
    first, second, step = 0, 0, 2**16  # 64 bits hold the sums of so many
    for start in range(0, len(words), step):
        some = words[start : start + step].astype(np.uint64)
        falling = np.arange(len(some), 0, -1, dtype=np.uint64)
        second += len(some) * first + int((some * falling).sum())
        first += int(some.sum())
    low, high = ((total - 1) % 65535 + 1 if total else 0 for total in (first, second))
    return high << 16 | low


def _require(holds: bool, why: str) -> None:
    if not holds:
        raise ValueError(why)
