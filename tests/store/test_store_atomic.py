"""Files that are either whole or not there, whatever happens meanwhile."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.atomic import (
    bring_back,
    filling_folder,
    replacing,
    replacing_folder,
    require_writable,
    sweep,
    write_bytes,
)

WRITER = """
import json, sys
from pathlib import Path
from robustbench_pcl.store.atomic import write_bytes
folder, number = Path(sys.argv[1]), 0
while True:
    content = json.dumps({"number": number, "text": str(number) * 20_000}).encode()
    write_bytes(folder / f"{number:06d}.json", content)
    write_bytes(folder / "latest.json", content)
    print(number, flush=True)
    number += 1
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "deep" / "folder" / "file.json"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["file.json"]


def test_readers_see_the_old_content_until_the_end(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"ne")
        assert path.read_bytes() == b"old"
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def write_half(path, error):
    with replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_the_old_content_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    for _ in range(3):
        with pytest.raises(error):
            write_half(path, error)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("round_", range(4))
def test_what_a_killed_writer_acknowledged_is_there_whole(tmp_path, round_):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        acknowledged = [int(process.stdout.readline()) for _ in range(10 + 7 * round_)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    found = {path.name: json.loads(path.read_bytes()) for path in tmp_path.glob("[!.]*")}
    for content in found.values():
        assert content["text"] == str(content["number"]) * 20_000
    assert {f"{number:06d}.json" for number in acknowledged} <= found.keys()
    assert found["latest.json"]["number"] >= acknowledged[-1]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "may not write there"),
    ],
)
@pytest.mark.parametrize("numbered", [True, False])
def test_what_the_disk_refuses_is_said_plainly(tmp_path, monkeypatch, number, words, numbered):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def refuse(_):
        if numbered:
            raise OSError(number, os.strerror(number))
        raise OSError(f"unable to write (errno = {number}, message = '{os.strerror(number)}')")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=words) as raised:
        write_bytes(path, b"new")
    assert str(path) in raised.value.cause
    assert "--home" in raised.value.cure
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_other_errors_are_not_dressed_up(tmp_path):
    with pytest.raises(OSError, match=r"^something else$"), replacing(tmp_path / "file"):
        raise OSError("something else")


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.checkpoints import save_arrays
from robustbench_pcl.store.parts import Part, save_part

folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise, rows = np.random.default_rng(0).random((64, 1, 28, 28), np.float32), np.arange(64)
every = rows >= 0
part = Part(0, rows, rows, rows * 1.0, every, every, ~every, noise)
for write in (
    lambda: write_bytes(folder / "record.json", bytes(100_000)),
    lambda: save_arrays(folder / "model.safetensors", {"noise": noise}, {}),
    lambda: save_part(folder, "set", part),
):
    try:
        write()
    except UserError as error:
        print(error.cause)
"""


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path):
    """For real: a limit on the size of files stands for a disk that fills up."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all("larger than this system allows" in line for line in lines)
    assert [path.name for path in tmp_path.rglob("*")] == ["set.parts"]


@pytest.mark.parametrize("parts", [("file",), ("file", "below"), ("file", "further", "below")])
def test_a_file_where_a_folder_is_needed(tmp_path, parts):
    (tmp_path / "file").write_text("mine")
    folder = tmp_path.joinpath(*parts)
    for attempt in (lambda: write_bytes(folder / "new", b""), lambda: require_writable(folder)):
        with pytest.raises(UserError, match="is a file, not a folder"):
            attempt()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that refuses everyone")
def test_a_folder_that_cannot_be_made():
    with pytest.raises(UserError, match="its folder cannot be made there"):
        require_writable(Path("/proc/self/pclbench"))


def test_writable_folders_are_made_and_left_empty(tmp_path):
    require_writable(tmp_path / "one" / "two")
    assert list((tmp_path / "one" / "two").iterdir()) == []
    require_writable(tmp_path)
    assert names(tmp_path) == ["one"]


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "record.json").mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        write_bytes(tmp_path / "record.json", b"")
    assert names(tmp_path) == ["record.json"]


def test_what_killed_writers_left_is_swept_after_a_day(tmp_path):
    left, recent = tmp_path / ".record.json.abc.tmp", tmp_path / ".record.json.def.tmp"
    for path in (left, recent):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    write_bytes(tmp_path / "record.json", b"whole")
    assert names(tmp_path) == [".record.json.def.tmp", "record.json"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
def test_a_file_has_the_permissions_that_the_user_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "record.json", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_another_process_put_back_first_is_left_there(tmp_path, monkeypatch):
    """Both found it moved aside; the slower one's rename meets a folder that is whole again."""
    folder, aside = tmp_path / "set", tmp_path / ".set-old-1"
    aside.mkdir()
    rename = Path.rename

    def slower(path, target):
        if path == aside:
            (folder / "part").mkdir(parents=True)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", slower)
    bring_back(folder)
    assert [path.name for path in folder.iterdir()] == ["part"]
    assert aside.exists()


def test_what_another_process_moves_aside_meanwhile_is_left_for_it(tmp_path, monkeypatch):
    """It may be killed before its own folder stands there: then this is all there is."""
    folder = tmp_path / "set"
    later = tmp_path / ".set-old-later"
    with replacing_folder(folder) as new:
        (new / "one").touch()
    rename = Path.rename

    def and_another(path, target):
        moved = rename(path, target)
        if target == folder:
            rename(folder, later)
        return moved

    monkeypatch.setattr(Path, "rename", and_another)
    with replacing_folder(folder) as new:
        (new / "two").touch()
    monkeypatch.undo()
    bring_back(folder)
    assert [path.name for path in folder.iterdir()] == ["two"]
    assert not later.exists()


def test_a_folder_is_filled_whole_or_not_at_all(tmp_path):
    def fill(error=None):
        with filling_folder(tmp_path / "new") as folder:
            (folder / "inner").mkdir()
            (folder / "inner/whole").write_text("whole")
            assert not (tmp_path / "new").exists()
            if error:
                raise error

    with pytest.raises(ZeroDivisionError):
        fill(ZeroDivisionError())
    assert list(tmp_path.iterdir()) == []
    fill()
    assert (tmp_path / "new/inner/whole").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_is_put_into_a_folder_while_it_is_filled_stays(tmp_path):
    def fill():
        with filling_folder(tmp_path / "new"):
            (tmp_path / "new").mkdir()
            (tmp_path / "new/mine").write_text("mine")

    with pytest.raises(UserError, match="not empty"):
        fill()
    assert (tmp_path / "new/mine").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


LEFT = """
import os, signal, sys
from pathlib import Path
from robustbench_pcl.store.atomic import filling_folder, replacing
with replacing(Path(sys.argv[1], "record.json")), filling_folder(Path(sys.argv[1], "bundle")):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_process_of_this_machine_left_is_swept_when_it_is_dead(tmp_path):
    process = subprocess.run([sys.executable, "-c", LEFT, str(tmp_path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    assert all(name.startswith(".") for name in names(tmp_path))
    with replacing(tmp_path / "other.json") as mine:
        sweep(tmp_path)
        assert mine.exists()  # that of a process that lives
    assert names(tmp_path) == ["other.json"]


def test_what_a_process_of_another_machine_left_is_swept_after_a_day(tmp_path):
    left = [tmp_path / f".record.json.00000000-{pid}-5-0123abcd.tmp" for pid in (11, 12)]
    for path in left:
        path.touch()
    os.utime(left[0], (0, 0))
    sweep(tmp_path)
    assert names(tmp_path) == [left[1].name]


def test_only_what_is_ours_is_swept(tmp_path):
    others = [".vimrc.tmp", ".record.json.tmp", "record.json.tmp", ".git-new-branch", ".x.abc.tmp"]
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path)
    assert names(tmp_path) == sorted(others)


def test_a_long_name_of_a_file_fits_while_it_is_written_too(tmp_path):
    path = tmp_path / ("ä" * 120 + ".json")
    write_bytes(path, b"")
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("number", "words", "cure"),
    [
        (errno.ENOSPC, "the disk is full", "Free some space"),
        (errno.EDQUOT, "quota", "Remove what you need no more"),
        (errno.EROFS, "read-only", "--home"),
        (errno.ENAMETOOLONG, "a name is longer", "shorter"),
        (errno.EMFILE, "too many files are open", "ulimit -n"),
        (errno.ENFILE, "too many files are open", "ulimit -n"),
        (errno.EIO, "the disk or the network fails", "dmesg"),
        (errno.EAGAIN, "another process has locked it", "Wait"),
        (errno.ESTALE, "the network's disk has let go of it", "again"),
    ],
)
def test_each_cause_has_its_cure(tmp_path, number, words, cure):
    def fail():
        with replacing(tmp_path / "file"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=words) as raised:
        fail()
    assert cure in raised.value.cure
    assert names(tmp_path) == []


SMALL_DISK = """
import sys
from pathlib import Path
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.atomic import write_bytes
folder = Path(sys.argv[1])
write_bytes(folder / "old", bytes(1000))
try:
    write_bytes(folder / "old", bytes(10**6))
except UserError as error:
    print(error.cause)
print(sorted(path.name for path in folder.iterdir()), (folder / "old").read_bytes() == bytes(1000))
"""


def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path):
    """For real: a small disk in memory, in a name space of its own."""
    program, folder = tmp_path / "program.py", tmp_path / "disk"
    program.write_text(SMALL_DISK)
    folder.mkdir()
    shell = (
        f"mount -t tmpfs -o size=64k none {folder} && {sys.executable} {program} {folder}; "
        f"mount -o remount,ro {folder} && {sys.executable} {program} {folder}"
    )
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", shell]
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "mount:" in result.stderr or "unshare:" in result.stderr:
        pytest.skip(f"nothing can be mounted here: {result.stderr.splitlines()[0]}")
    full, there, *read_only = result.stdout.splitlines()
    assert full.endswith("the disk is full.")
    assert there == "['old'] True"
    assert read_only == []
    assert "the disk is read-only" in result.stderr


def test_a_pipe_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="a device or a pipe"):
        write_bytes(pipe, b"content")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
