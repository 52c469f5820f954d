"""What holds for every kind of artefact: whole or not there, and of a known format."""

import subprocess
import sys

import pytest
from store_artefacts import KINDS, set_format

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.formats import check_format

EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=str)


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@EVERY_KIND
@pytest.mark.parametrize(
    ("number", "maker"),
    [(None, "format 1, made by pclbench 0.1"), (3, "format 3, made by a newer")],
)
def test_another_format_is_answered_in_one_line_and_nothing_is_changed(paths, kind, number, maker):
    path = kind.save(paths)
    check_format(paths)
    set_format(path, number)
    before = content_of(paths.root)
    for place, ask in ((paths.root, check_format), (path, kind.read)):
        with pytest.raises(UserError) as raised:
            ask(paths)
        assert raised.value.cause.startswith(f"{place} has {maker}")
        assert "--home NEW" in raised.value.cure
        assert "\n" not in str(raised.value)
    assert content_of(paths.root) == before


def test_an_empty_folder_has_this_version_s_format(paths):
    check_format(paths)
    assert list(paths.root.iterdir()) == []


@EVERY_KIND
def test_damage_is_no_other_format(paths, kind):
    path = kind.save(paths)
    path.write_bytes(path.read_bytes()[:100])
    check_format(paths)
    with pytest.raises(UserError, match=r"not a|damaged"):
        kind.read(paths)


def test_files_of_others_are_no_other_format(paths):
    for folder, name in (
        (paths.checkpoints, "theirs.safetensors"),
        (paths.measurements, "list.json"),
        (paths.adversarial_sets, "set.h5"),
    ):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"[1]")
    check_format(paths)


@EVERY_KIND
def test_what_is_stored_is_found_and_half_written_files_are_not(paths, kind):
    assert not kind.read(paths)
    path = kind.save(paths)
    whole = kind.read(paths)
    for name in (f".{path.name}", f".{path.name}.abc.tmp"):
        path.with_name(name).write_bytes(b"{")
    assert whole
    assert kind.read(paths) == whole


@EVERY_KIND
def test_a_truncated_file_of_any_length_is_named_and_not_believed(paths, kind):
    path = kind.save(paths)
    content = path.read_bytes()
    step = max(1, len(content) // 40)
    for length in {0, 1, 7, 8, *range(step, len(content) - 2, step), len(content) - 2}:
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as raised:
            kind.read(paths)
        assert str(path) in raised.value.cause
        assert "Move it away" in raised.value.cure
        assert "\n" not in str(raised.value)


@EVERY_KIND
@pytest.mark.parametrize("content", [b"<!DOCTYPE html>404", b"PK\x03\x04", bytes(5000), b"null"])
def test_another_kind_of_file_is_named_and_not_believed(paths, kind, content):
    path = kind.save(paths)
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        kind.read(paths)
    assert str(path) in raised.value.cause
    assert "\n" not in str(raised.value)


def test_reading_and_writing_artefacts_imports_no_torch():
    modules = "adversarial_sets, checkpoints, embeddings, records"
    code = f"import sys; from robustbench_pcl.store import {modules}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
