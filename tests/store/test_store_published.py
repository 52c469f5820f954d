"""Where published evidence is found: in a checkout, in an installed package, in a workspace."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.store import published
from robustbench_pcl.store.formats import PUBLISHED
from robustbench_pcl.store.published import (
    PACKAGE,
    PLACES,
    is_published,
    published_instead,
    published_paths,
)
from robustbench_pcl.store.records import Paths

ROOT = Path(__file__).parents[2]


def fill(folder):
    """A folder of published evidence with a file where measurements are."""
    (folder / "measurements").mkdir(parents=True)
    (folder / "measurements" / "0123456789ab.json").write_text("{}")
    (folder / PUBLISHED).write_text("{}")
    return folder


def test_the_wheel_and_the_source_archive_carry_what_is_published():
    """Each place is one of a package: beside its modules, or in the checkout around them."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    inside = build["targets"]["wheel"]["force-include"]
    assert [PACKAGE.parent / place for place in inside.values()] == [PLACES[0]]
    assert [ROOT / place for place in inside] == [PLACES[1]]
    assert {*inside} <= {*build["targets"]["sdist"]["include"]}
    assert all((ROOT / place).is_dir() for place in inside)  # else nothing can be built


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="no checkout")
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("published.json", True),
        ("measurements/0123456789ab.json", True),
        ("strips/0123456789ab.png", True),
        ("embeddings/0123456789ab.safetensors", False),
        ("adversarial_sets/0123456789ab.h5", False),
        ("report.html", False),
    ],
)
def test_git_takes_records_and_strips_and_nothing_else(name, kept):
    words = ["git", "check-ignore", "--quiet", "--no-index", f"results/published/{name}"]
    assert subprocess.run(words, check=False, cwd=ROOT).returncode == int(kept)


def test_the_package_comes_first_then_the_checkout(tmp_path, monkeypatch):
    places = (tmp_path / "package", tmp_path / "checkout")
    monkeypatch.setattr(published, "PLACES", places)
    with pytest.raises(UserError, match="No published numbers came with this pclbench") as error:
        published_paths()
    assert "--home" in error.value.cure
    for place in reversed(places):
        fill(place)
        assert published_paths().root == place
        assert published_paths().measurements == place / "measurements"


def test_a_list_without_numbers_is_no_published_evidence(tmp_path, monkeypatch):
    (tmp_path / PUBLISHED).write_text("{}")
    monkeypatch.setattr(published, "PLACES", (tmp_path,))
    assert is_published(Paths(tmp_path))
    with pytest.raises(UserError, match="No published numbers"):
        published_paths()


@pytest.mark.parametrize("kind", ["measurements", "certificates"])
def test_published_numbers_stand_in_only_where_there_is_no_other(tmp_path, kind):
    paths = Paths(tmp_path)
    assert published_instead(paths) is None
    folder = fill(tmp_path / "results" / "published")
    assert published_instead(paths).root == folder
    (tmp_path / "results" / kind).mkdir()
    (tmp_path / "results" / kind / "ba9876543210.json").write_text("{}")
    assert published_instead(paths) is None
