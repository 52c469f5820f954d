"""A process of its own that reads HDF5 of other tools, so that what a file costs is bounded.

The library believes a file: it takes the memory that a header declares, and does not return from
some. Here it may do so, and is stopped. Nothing is read that does not lie in the file itself.

``python -m robustbench_pcl.data.hdf5_worker FILE BYTES`` writes one line of JSON, ``{name: [shape,
type]}``; for each line of input, a name, it writes the bytes of that array.
"""

from __future__ import annotations

import json
import math
import sys
from itertools import islice
from pathlib import Path

import h5py

if sys.platform != "win32":
    import resource

SECONDS = 10
"""Of the processor's time to open a file; each gigabyte that is read takes as long again."""
MEMORY = 2**30
"""Bytes that may be taken."""
BLOCK = 2**24
"""Bytes that are read at once, or else one row of chunks."""
MOST_NAMES = 100
"""Arrays of a file that are looked at."""


def lies_inside(file: h5py.File, name: str, largest_chunk: int) -> bool:
    """Whether a name is that of an array of numbers that are in the file, in usual chunks."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return False
    item = file[name]
    if not isinstance(item, h5py.Dataset) or item.shape is None or item.dtype.kind not in "biuf":
        return False
    chunk = math.prod(item.chunks or ()) * item.dtype.itemsize
    return not item.is_virtual and not item.external and chunk <= largest_chunk


def write_bytes(array: h5py.Dataset) -> None:
    """Write an array's bytes to the output, some rows at a time."""
    if not array.shape:
        sys.stdout.buffer.write(array[()].tobytes())
        return
    step = array.chunks[0] if array.chunks else 1
    row = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
    step *= max(1, BLOCK // (row * step))
    for start in range(0, array.shape[0], step):
        sys.stdout.buffer.write(array[start : start + step].tobytes())


def limit_costs(size: int) -> None:
    """Have the system stop this process where it takes too much memory or time.

    Args:
        size: bytes that may be read.
    """
    if sys.platform != "win32":
        seconds = SECONDS * (1 + math.ceil(size / 2**30))
        for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, seconds)):
            resource.setrlimit(kind, (most, most))


def main(path: str, size: str) -> None:
    """Serve the arrays of one file."""
    limit_costs(int(size))
    with h5py.File(Path(path), "r") as file:
        names = [name for name in islice(file, MOST_NAMES) if lies_inside(file, name, int(size))]
        arrays = {name: file[name] for name in names}
        held = {name: (array.shape, array.dtype.str) for name, array in arrays.items()}
        print(json.dumps(held), flush=True)
        for line in sys.stdin:
            write_bytes(arrays[json.loads(line)])
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        print(json.dumps(str(error) or type(error).__name__), flush=True)
