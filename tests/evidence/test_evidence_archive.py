"""Archives of artefacts that somebody else wrote: nothing of a wrong one is ever seen."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import zipfile

import h5py
import pytest
from archives import export, refused

from robustbench_pcl.evidence.archive import CONTENTS


@pytest.fixture(scope="module")
def whole(evidence_home, tmp_path_factory):
    """An archive of all of the workspace; to be read only."""
    return export(evidence_home, tmp_path_factory.mktemp("archives") / "all.tar")


def entries(whole):
    """The members of the good archive, the manifest first."""
    with tarfile.open(whole) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


def manifest_of(members, **changes):
    """A manifest that names some members, as far as nothing else is said."""
    content = json.loads(members[CONTENTS])
    content["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in members.items()
        if name != CONTENTS
    }
    return json.dumps({**content, **changes}).encode()


def with_member(name, data=b"{}"):
    def change(members):
        changed = {**members, name: data}
        return {**changed, CONTENTS: manifest_of(changed)}

    return change


def changed(kind, change):
    """Change the first record of a kind, with a manifest that fits."""

    def both(members):
        name = next(each for each in members if f"/{kind}/" in f"/{each}")
        data = change(members[name])
        others = {**members, name: data}
        return {**others, CONTENTS: manifest_of(others)}

    return both


def without_manifest(members):
    return {name: data for name, data in members.items() if name != CONTENTS}


def other_digest(members):
    name = next(each for each in members if each != CONTENTS)
    return {**members, name: members[name] + b" "}


def other_images(data):
    """The same set with one other pixel."""
    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        file["images"][0, 0, 0, 0] = 0.123
    return stream.getvalue()


def json_with(**fields):
    return lambda data: json.dumps({**json.loads(data), **fields}).encode()


RECORD = "results/measurements/0123456789ab.json"
CHANGES = {
    "no manifest": (without_manifest, "does not begin with"),
    "a manifest that is no JSON": (lambda m: {**m, CONTENTS: b"{"}, "not a manifest"),
    "a manifest of a newer format": (
        lambda m: {**m, CONTENTS: manifest_of(m, format=9)},
        "not a manifest",
    ),
    "a wrong digest": (other_digest, "what the manifest says|larger than it should be"),
    "a member too many": (lambda m: {**m, RECORD: b"{}"}, "does not name"),
    "a member too few": (lambda m: dict(list(m.items())[:-1]), "is missing"),
    "a name that climbs out": (with_member("results/measurements/../../x.json"), "no place"),
    "a name that climbs far out": (with_member("../../etc/0123456789ab.json"), "no place"),
    "an absolute name": (with_member("/tmp/0123456789ab.json"), "no place"),
    "a drive": (with_member("C:\\results\\measurements\\0123456789ab.json"), "no place"),
    "an unknown folder": (with_member("results/surprises/0123456789ab.json"), "no place"),
    "an unknown suffix": (with_member("results/measurements/0123456789ab.py"), "no place"),
    "a hidden file": (with_member("results/measurements/.0123456789ab.json"), "no place"),
    "a doubled slash": (with_member("results//measurements/0123456789ab.json"), "no place"),
    "a name with an escape": (with_member("checkpoints/\x1b[2J-0123456789ab.safetensors"), "no pl"),
    "a name of 300 characters": (
        with_member(f"checkpoints/{'a' * 300}-0123456789ab-0123456789ab.safetensors"),
        "no place",
    ),
    "no id": (with_member("results/measurements/x.json"), "no place"),
    "a record that is none": (with_member(RECORD), "0123456789ab.json: the file"),
    "a measurement that counts wrongly": (
        changed("measurements", json_with(correct=999)),
        "correct: 999",
    ),
    "a model of other weights": (
        changed("checkpoints", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        "the file",
    ),
    "images that were changed": (
        changed("adversarial_sets", other_images),
        "adversarial_sets",
    ),
}
"""A change of the members, and what is said of it."""


def pack_tar(members, path):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def pack_zip(members, path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_as_it_should_be_is_refused_whole(change, whole, tmp_path):
    do, cause = CHANGES[change]
    pack = (pack_tar, pack_zip)[list(CHANGES).index(change) % 2]
    pack(do(entries(whole)), tmp_path / "bad")
    refused(tmp_path / "bad", tmp_path / "home", cause)


def tar_with(kind, **fields):
    """A tar whose record is of another type."""

    def write(members, path):
        with tarfile.open(path, "w") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                if name.startswith("results/measurements"):
                    info.type, info.size = kind, 0
                    for field, value in fields.items():
                        setattr(info, field, value)
                archive.addfile(info, io.BytesIO(data[: info.size]))

    return write


def twice(members, path):
    last = list(members)[-1]
    with tarfile.open(path, "w") as archive:
        for name in (*members, last):
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            archive.addfile(info, io.BytesIO(members[name]))


def zipped_link(members, path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name != CONTENTS else 0o100644) << 16
            archive.writestr(info, data)


IMAGES = "results/adversarial_sets/0123456789ab.h5"


def bomb(name, size):
    """Much of nothing, which the manifest admits."""

    def write(members, path):
        data = bytes(size)
        manifest = manifest_of({CONTENTS: members[CONTENTS], name: data})
        pack_tar({CONTENTS: manifest, name: data}, path)
        path.write_bytes(gzip.compress(path.read_bytes(), 9))

    return write


def long_header(_members, path):
    """A header that announces a name of a gigabyte, and a gigabyte of zeros that is its."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    with gzip.open(path, "wb", 9) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(2**20))


def truncated(members, path):
    pack_tar(members, path)
    path.write_bytes(path.read_bytes()[:-20_000])


FORMS = {
    "a symbolic link": (tar_with(tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link"),
    "a hard link": (tar_with(tarfile.LNKTYPE, linkname=CONTENTS), "is a link"),
    "a device": (tar_with(tarfile.CHRTYPE, devmajor=1, devminor=3), "a device"),
    "a pipe": (tar_with(tarfile.FIFOTYPE), "no plain file"),
    "a folder": (tar_with(tarfile.DIRTYPE), "a folder"),
    "a link in a zip": (zipped_link, "is a link"),
    "a member twice": (twice, "twice"),
    "a bomb": (bomb(IMAGES, 100 * 2**20), "expands to far more bytes"),
    "a record of 20 megabytes": (bomb(RECORD, 20 * 2**20), "too large for a record"),
    "a header without end": (long_header, "more than it can hold"),
    "a truncated archive": (truncated, "damaged"),
    "an empty file": (lambda _, path: path.write_bytes(b""), "neither"),
    "a web page": (lambda _, path: path.write_text("<!doctype html>"), "neither"),
    "a zip of nothing": (lambda _, path: pack_zip({}, path), "does not begin"),
    "a pipe instead": (lambda _, path: os.mkfifo(path), "pipe"),
    "a folder instead": (lambda _, path: path.mkdir(), "folder"),
    "nothing there": (lambda _, path: None, "no such file"),
}
"""What writes an archive, and what is said of it."""


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_of_another_form_is_refused(form, whole, tmp_path):
    write, cause = FORMS[form]
    write(entries(whole), tmp_path / "bad")
    refused(tmp_path / "bad", tmp_path / "home", cause)
