"""The page in Chromium, wide and narrow, light, dark and printed; axe-core finds nothing wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fabricated import make_answers, make_attack, make_evidence, make_measurement, make_model

from robustbench_pcl.report.page import full_page

pytestmark = [pytest.mark.slow, pytest.mark.page]
SCRIPT = Path(__file__).with_name("page_in_chromium.mjs")
PACKAGES = ("puppeteer-core@24", "axe-core@4")


@pytest.fixture(scope="session")
def chromium():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
    if found is None or shutil.which("node") is None:
        pytest.skip("Chromium or node is not installed.")
    return found


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A folder with node_modules: PCLBENCH_NODE names one, else npm fetches them."""
    if folder := os.environ.get("PCLBENCH_NODE"):
        return Path(folder)
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--silent", "--prefix", str(folder), *PACKAGES]
    try:
        subprocess.run(command, check=True, timeout=300, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"npm does not fetch {' and '.join(PACKAGES)}: {error}")
    return folder


def demo():
    """A small workspace, at demo scale."""
    for name in ("softmax", "ours"):
        model = make_model(name, dataset="digits", scale="demo")
        attack = make_attack("pgd", "digits", "demo", eps=0.1)
        yield make_measurement(model, correct=950)
        yield make_measurement(model, model, attack, correct=400)


def tables():
    """Many tables, on two data sets."""
    answers = [each for number in (3, 5, 12, 13) for each in make_answers(number, ["cifar10"])]
    answers += make_answers(3, ["mnist"])
    return {getattr(each, "id", None) or each.checkpoint: each for each in answers}.values()


@pytest.mark.parametrize("records", [demo, tables])
def test_a_page_serves_its_readers(records, tmp_path, chromium, packages):
    page = tmp_path / "page.html"
    page.write_text(full_page(make_evidence(records())), encoding="utf-8")
    command = ["node", str(SCRIPT), str(page), chromium, str(packages)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["errors"], found["requests"]) == ([], [])
    for view in found["views"]:
        assert view["wide"] <= view["width"]
        assert (view["closed"], view["open"]) == ([], [])
        assert view["opened"]["hash"].startswith("#evidence-")
        assert view["opened"]["focused"]
        assert view["opened"]["inside"]
        assert view["returned"]
    known = [float(value) for value in found["rising"] if value != "–"]
    assert known == sorted(known)
    assert [value for value in found["falling"] if value != "–"] == [
        value for value in reversed(found["rising"]) if value != "–"
    ]
    assert found["sorted"] == "descending"
    assert set(found["filtered"]) == {"softmax"}
    assert found["count"].startswith(f"{len(found['filtered'])} of ")
    assert found["print"] == {
        "evidence": True,
        "controls": False,
        "background": "rgb(255, 255, 255)",
        "drawings": ["rgb(31, 35, 40)"],
    }
