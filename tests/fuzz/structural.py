"""Files that somebody might make who means harm, one line each; and readers that do harm."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from damages import OF_ANY_FILE, OF_RECORDS
from hostile_sets import HOSTILE as HOSTILE_SETS
from readers import READERS, Reader, classic, idx, pictures, tarred, zipped

CANARY = "what-lies-outside-the-workspace"
Make = Callable[[Path, bytes], object]
RECORDS = ("measurement", "training", "diagnosis", "certificate", "evidence")
OF_THE_WORKSPACE = (*RECORDS, "checkpoint", "embedding", "adversarial set", "part of a set")
OF_TEXT = ("values", "IDX", "gzipped IDX", "image", "manifest", *OF_THE_WORKSPACE)
"""Readers of bytes; of a folder; and those that are given all of that anyway."""
GIB = 2**30


def _outside(path: Path, _: bytes) -> None:
    """A link to a file beside the workspace."""
    root = next(each for each in path.parents if each.name == "workspace")
    path.unlink()
    path.symlink_to(root.parents[1] / "outside")


def _text(change: Callable[[str], str]) -> Make:
    return lambda path, content: path.write_text(change(content.decode()), encoding="utf-8")


def _bytes(make: Callable[[], bytes]) -> Make:
    return lambda path, _: path.write_bytes(make())


def _recipe(line: str) -> Make:
    return _text(lambda text: text.replace('base = "ours"\n', f'base = "ours"\n{line}\n', 1))


def _pgd(line: str) -> Make:
    return _text(lambda text: text.replace('eps = "8/255"\nsteps = 10', line, 1))


SUITES: dict[str, Make] = {
    "byte order mark": _text(lambda text: "\ufeff" + text),
    "a string for a list": _text(lambda text: text.replace('["digits"]', '"digits"')),
    **{
        f"attack with {line[:30]}": _pgd(line)
        for line in (
            *("eps = true", "eps = [0.1]", "eps = 1e99999999", 'eps = "1e99999999"', "eps = nan"),
            *('eps = "0.1e-999999999"', f'eps = "{"9" * 10**5}/255"', f"eps = {'9' * 10**5}"),
            *("eps = 2020-01-01", f"eps = 0x{'f' * 10**5}", "eps = { a = 1 }", "steps = [1]"),
            *("steps = 1000000000000", 'name = "x"', 'loss = "\\u0000"', 'eps = "1/0"'),
        )
    },
    **{
        f"recipe with {line[:30]}": _recipe(line)
        for line in (
            *("members = 1000000", "embedding = 1000000000", "width = 1e9", 'model = ["conv6"]'),
            *("in_place_of = 3", "length = [1]", 'loss = { name = ["pcl"] }', "defense = {}"),
            *("start = 3", 'start = "mine"', "train_images = 0", "feature_layers = [[1]]"),
            *("feature_layers = [1e300]", "seed = 18446744073709551616", "inference = 3"),
        )
    },
    "epochs": _text(lambda text: text.replace("epochs = 3", "epochs = 1000000000000000000")),
    "at that is no table": _text(lambda text: text.replace("{ width = 0.2 }", "3")),
    "a base that is a list": _text(lambda text: text.replace('base = "ours"', 'base = ["ours"]')),
    "a schedule that is none": _text(lambda text: text.replace("epochs = [1, 3]", "schedule=3")),
    "a long trajectory": _text(lambda text: text.replace("[1, 3]", str(list(range(1, 3000))))),
    "recipes on each other": _text(
        lambda text: (
            text
            + "".join(f'[recipes.m-{i}]\nbase = "m-{i - 1}"\n' for i in range(1, 900))
            + '[recipes.m-0]\nbase = "ours"\n'
        )
    ),
    "thousands of recipes": _text(
        lambda text: text + "".join(f'[recipes.m-{i}]\nbase = "ours"\n' for i in range(5000))
    ),
    "thousands of tasks": _text(
        lambda text: text.replace("seed = [0, 1]", f"seed = {[*range(99999)]}")
    ),
    "deep": _text(lambda text: f"x = {'[' * 5000}{']' * 5000}\n{text}"),
    "deep tables": _text(lambda text: f"x = {'{a=' * 900}1{'}' * 900}\n{text}"),
    "dots": _text(lambda text: f"{'.'.join('a' * 10**5)} = 1\n{text}"),
    "a header of dots": _text(lambda text: f"{text}\n[{'.'.join('a' * 10**5)}]\nx = 1\n"),
    "large": _text(lambda text: text + "# \n" * 10**6),
    "parts that are none": _text(lambda _: "part = 3\n"),
    "no parts": _text(lambda _: "part = []\n"),
    "a part that is none": _text(lambda _: "part = [3]\n"),
    "a part in a part": _text(lambda text: text.replace("[[part]]", "[part]", 1)),
    "a device as target": _text(lambda text: text.replace('["ours"]', '["/dev/zero"]')),
    "latin": lambda path, _: path.write_bytes(b'title = "\xe9"'),
}


def _member(files: Callable[[], dict[str, bytes]], **more: bytes) -> Make:
    return lambda path, _: zipped(path, {**files(), **more})


def _twice(path: Path, _: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in [*pictures().items()] * 2:
            archive.writestr(zipfile.ZipInfo(name), content)


def _tar_of(*infos: tarfile.TarInfo) -> Make:
    def make(path: Path, _: bytes) -> None:
        tarred(path, pictures())
        with tarfile.open(path, "a") as archive:
            for info in infos:
                archive.addfile(info, io.BytesIO(bytes(info.size)))

    return make


def _info(
    name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def _picture(width: int, height: int) -> bytes:
    """A PNG that says that it is so large."""
    content = bytearray(pictures()["digits/train/0/0.png"])
    content[16:24] = struct.pack(">II", width, height)
    return bytes(content)


def _empty_tar(entries: int) -> bytes:
    """A tar archive of folders."""
    entry = tarfile.TarInfo("x")
    entry.type = tarfile.DIRTYPE
    return entry.tobuf() * entries + bytes(1024)


ZIPS: dict[str, Make] = {
    "every image twice": _twice,
    "an image under two names": _member(
        lambda: {**pictures(), "./digits//train/0/0.png": pictures()["digits/train/0/0.png"]}
    ),
    "a huge list of classes": lambda path, _: zipped(
        path, {**pictures(), "digits/classes.txt": b"a\n" * 10**7}
    ),
    "long names": lambda path, _: zipped(
        path, {**pictures(), **{f"{'a/' * 32_000}{n}": b"" for n in range(50)}}
    ),
    "a huge picture": lambda path, _: zipped(
        path, {**pictures(), "digits/train/0/0.png": _picture(2**31 - 1, 2**31 - 1)}
    ),
    "a picture of 4 GiB": lambda path, _: zipped(
        path, {**pictures(), "digits/train/0/0.png": _picture(2**16, 2**16)}
    ),
    "a bomb": lambda path, _: zipped(path, {**pictures(), "digits/train/0/0.png": bytes(2**26)}),
    "many members": lambda path, _: zipped(
        path, {str(n): b"" for n in range(20_000)}, zipfile.ZIP_STORED
    ),
    "packed by LZMA": lambda path, _: zipped(path, pictures(), zipfile.ZIP_LZMA),
    "names that climb": _member(
        lambda: {f"../../{name}": each for name, each in pictures().items()}
    ),
    "huge IDX": lambda path, _: zipped(
        path,
        {**classic(), "train-images-idx3-ubyte": struct.pack(">HBBIII", 0, 8, 3, *[2**32 - 1] * 3)},
    ),
    "IDX of 30 MB": lambda path, _: zipped(
        path,
        {**classic(), "train-images-idx3-ubyte": idx(np.zeros((30_000, 32, 32), dtype=np.uint8))},
    ),
    "IDX of 255 dimensions": lambda path, _: zipped(
        path,
        {**classic(), "train-images-idx3-ubyte": bytes([0, 0, 8, 255]) + b"\0\0\0\1" * 255 + b"x"},
    ),
    "IDX packed again": lambda path, _: zipped(
        path, {**classic(), "train-labels-idx1-ubyte.gz": gzip.compress(bytes(2**25), 1)}
    ),
}
TARS: dict[str, Make] = {
    "a link": _tar_of(_info("digits/train/0/9.png", tarfile.SYMTYPE, link="/etc/passwd")),
    "a hard link": _tar_of(_info("digits/train/0/9.png", tarfile.LNKTYPE, link="/etc/passwd")),
    "a device": _tar_of(_info("digits/train/0/9.png", tarfile.CHRTYPE)),
    "a pipe": _tar_of(_info("digits/train/0/9.png", tarfile.FIFOTYPE)),
    "holes": _tar_of(_info("digits/train/0/9.png", tarfile.GNUTYPE_SPARSE)),
    "twice": lambda path, _: [tarred(path, pictures(), mode) for mode in ("w", "a")],
    "a long name": _tar_of(_info("a/" * 2**19)),
    "many long names": lambda path, _: tarred(
        path, {f"{'a/' * 30_000}{n}": b"" for n in range(100)}
    ),
}
GZIPPED: dict[str, Make] = {
    "a bomb": _bytes(lambda: gzip.compress(bytes(2**28), 1) * 8),
    "many entries": _bytes(lambda: gzip.compress(_empty_tar(160_000), 1)),
    "a long name": lambda path, _: tarred(path, {"a/" * 2**20: b""}, "w:gz"),
}


def _npy(header: str) -> bytes:
    """An array file with that header."""
    text = header.encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(64)


NPYS: dict[str, Make] = {
    name: _bytes(lambda header=header: _npy(header))
    for name, header in {
        "10^12 items": "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1, 1000, 10)}",
        "digits' shape, 10^12 of them": "{'descr': '<f4', 'fortran_order': False, "
        "'shape': (1000000000000, 1, 8, 8)}",
        "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (50, 1, 8, 8)}",
        "a shape below zero": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 1, 8, 8)}",
        "a structure": "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (50, 1, 8, 8)}",
        "a huge item": "{'descr': '<V2147483647', 'fortran_order': False, 'shape': (50, 1, 8, 8)}",
        "deep": "{'descr': " + "(" * 4000 + ")" * 4000 + "}",
        "many signs": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "-" * 9000 + "1,)}",
        "an expression": "{'descr': '<f4', 'fortran_order': False, 'shape': (2**2**2**30,)}",
        "a long header": "{" + " " * 60_000,
    }.items()
}


def _torch(content: Callable[[], object]) -> Make:
    return lambda path, _: torch.save(content(), path)


def _wide() -> dict[str, torch.Tensor]:
    return {"images": torch.zeros(1).expand(10**6, 1, 1000, 1000), "labels": torch.zeros(50)}


class _Runs:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


TORCH: dict[str, Make] = {
    "a view of 10^12": _torch(_wide),
    "code": lambda path, _: torch.save({"images": _Runs()}, path, pickle_module=pickle),
    "a bare pickle": _bytes(lambda: pickle.dumps(_Runs())),
    "packed": lambda path, _: zipped(
        path, {"a/data.pkl": b"\x80\2}.", "a/data/0": bytes(2**27), "a/version": b"3\n"}
    ),
}


def _tensors(header: object, data: bytes = b"", length: int | None = None) -> Make:
    text = json.dumps(header).encode()
    size = len(text) if length is None else length
    return _bytes(lambda: struct.pack("<Q", size) + text + data)


SAFETENSORS: dict[str, Make] = {
    "a header of 2^63": _tensors({}, length=2**63),
    "a header of 2^26": lambda path, _: path.write_bytes(
        struct.pack("<Q", 2**26) + b"{" + bytes(2**26)
    ),
    "10^12 items": _tensors(
        {"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    ),
    "a shape that overflows": _tensors(
        {"x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}, bytes(4)
    ),
    "deep": _bytes(lambda: struct.pack("<Q", 20_000) + b"[" * 10_000 + b"]" * 10_000),
    "a hole of 64 GiB": lambda path, _: _hole(path, 2**36),
    "a deep description": _tensors({"__metadata__": {"pclbench": "[" * 20_000}}),
    "a wide description": _tensors({"__metadata__": {"pclbench": f"[{'[],' * 10**6}[]]"}}),
}


def _hole(path: Path, size: int) -> None:
    header = {"x": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + size)


def _spoilt(damage: Callable[[Path], None]) -> Make:
    return lambda path, _: damage(path)


_LISTS: dict[str, tuple[tuple[str, ...], dict[str, Make]]] = {
    "any": (
        tuple(name for name in READERS if name not in OF_TEXT and "cache" not in name),
        {
            name: _spoilt(damage)
            for name, damage in OF_ANY_FILE.items()
            if name in ("a pipe", "a folder", "a socket", "a link that leads nowhere", "empty")
        },
    ),
    "file": (OF_THE_WORKSPACE, {name: _spoilt(each) for name, each in OF_ANY_FILE.items()}),
    "link": (OF_THE_WORKSPACE, {"out": _outside}),
    "record": (RECORDS, {name: _spoilt(each) for name, each in OF_RECORDS.items()}),
    "suite": (("suite",), SUITES),
    "recipes": (
        ("recipes",),
        {
            name: each
            for name, each in SUITES.items()
            if "recipe" not in name and "attack" not in name
        },
    ),
    "set": (("adversarial set",), {name: _spoilt(each) for name, each in HOSTILE_SETS.items()}),
    "zip": (("zip of images", "zip of IDX"), ZIPS),
    "tar": (("tar",), TARS),
    "gzip": (("gzipped tar",), GZIPPED),
    "npy": (("npy", "cache's images"), NPYS),
    "torch": (("pt", "weights of torch", "weights of old torch"), TORCH),
    "safetensors": (
        ("safetensors", "weights in safetensors", "checkpoint", "embedding"),
        SAFETENSORS,
    ),
}
HOSTILE: dict[str, tuple[str, Make]] = {
    f"{reader}: {name}": (reader, make)
    for readers, makes in _LISTS.values()
    for reader in readers
    for name, make in makes.items()
}
"""By title: which reader is given what."""


def _a_file(root: Path) -> Path:
    path = root / "file"
    path.write_text("whole")
    return path


def _sleeps(_: Path) -> list[str]:
    time.sleep(60)
    return []


SELF_TESTS: dict[str, Reader] = {
    "raises": Reader(_a_file, lambda path: [json.loads(path.read_text())]),
    "sleeps": Reader(_a_file, _sleeps),
    "takes memory": Reader(_a_file, lambda _: [np.ones(3 * GIB, dtype=np.uint8)]),
    "looks outside": Reader(_a_file, lambda path: [(path.parents[2] / "outside").read_text()[:0]]),
    "tells": Reader(_a_file, lambda _: [CANARY]),
    "ends": Reader(_a_file, lambda _: os._exit(3)),
}
"""Readers that do harm: what they do has to be noticed."""
