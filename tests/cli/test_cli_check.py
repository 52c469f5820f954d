"""``pclbench check``: exit codes, and what it prints as text, JSON and SARIF."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from documents import read_document
from fabricated import make_attack, make_certificate, make_diagnosis, make_measurement, make_model
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.store.records import Paths, save_measurement, save_record

STRING, LIST, OBJECT = str, list, dict
REQUIRED = {
    "": {"$schema": STRING, "version": STRING, "runs": LIST},
    "runs": {"tool": OBJECT, "results": LIST},
    "runs.tool": {"driver": OBJECT},
    "runs.tool.driver": {"name": STRING, "rules": LIST},
    "runs.tool.driver.rules": {"id": STRING, "name": STRING, "shortDescription": OBJECT},
    "runs.tool.driver.rules.shortDescription": {"text": STRING},
    "runs.results": {"ruleId": STRING, "level": STRING, "message": OBJECT, "locations": LIST},
    "runs.results.message": {"text": STRING},
    "runs.results.locations": {"physicalLocation": OBJECT},
    "runs.results.locations.physicalLocation": {"artifactLocation": OBJECT, "region": OBJECT},
    "runs.results.locations.physicalLocation.artifactLocation": {"uri": STRING},
    "runs.results.locations.physicalLocation.region": {"startLine": int},
}
"""Of SARIF 2.1.0's schema, and of what GitHub's code scanning asks for besides."""
LEVELS = {"none", "note", "warning", "error"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """80 % of `ours` withstand PGD, 30 % are certified, and a diagnosis doubts the former."""
    home = tmp_path_factory.mktemp("home")
    ours, attack = make_model("ours"), make_attack("pgd")
    for measurement in (
        make_measurement(ours, correct=95, n=100),
        make_measurement(ours, ours, attack, correct=80, n=100),
    ):
        save_measurement(Paths(home), measurement)
    certificate = make_certificate(ours, [(0.04, None)] * 3 + [(0.0, None)] * 7)
    save_record(Paths(home).certificates, certificate.id, certificate)
    doubted = make_diagnosis(ours, attack)
    save_record(Paths(home).diagnoses, doubted.id, doubted)
    return home


def check(home, *words, code):
    result = CliRunner().invoke(app, ["check", "--home", str(home), *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def required(*texts):
    return [word for text in texts for word in ("--require", text)]


MET = ("ours.pgd >= 80", "ours.clean.low >= 80", "ours.certified == 30", "ours.pgd.n == 100")
NOT_MET = ("ours.pgd > 80", "ours.strongest >= 0", "ours.verdict == holds")


@pytest.mark.parametrize("form", ["text", "json", "sarif"])
def test_the_exit_code_says_whether_all_hold(home, form):
    check(home, *required(*MET), "--format", form, code=0)
    for text in NOT_MET:
        check(home, *required(*MET, text), "--format", form, code=1)


def test_text_says_what_was_measured_within_80_columns(home):
    out = check(home, "--table", 3, *required(*MET, *NOT_MET), code=1).stdout
    assert "holds             ours.pgd >= 80\n" in out
    assert "does not hold     ours.pgd > 80\n" in out
    assert "80.0 % (71.1 to 86.7), n = 100. PGD, eps 0.03" in out
    assert "nothing measured  ours.strongest >= 0\n" in out
    assert "pclbench attack ours --attack strongest" in out
    assert "PCL103            ours: saturated\n" in out
    assert "Requirements that hold: 4 of 7.\n" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json_has_every_number(home):
    printed = check(home, *required("ours.pgd.low >= 75"), "--format=json", code=1).stdout
    content = read_document(printed, "requirements")
    (found,) = content["rows"]
    assert content["holds"] is False
    assert (found["status"], found["accuracy"], found["n"]) == ("does not hold", 80, 100)
    assert found["value"] == found["low"] < 75 < found["high"]
    for file in (*found["files"], content["doubts"][0]["file"]):
        assert (home / file).is_file()


def check_required(content, path=""):
    """Every field of :data:`REQUIRED` is there and of its type, wherever the path leads."""
    for name, kind in REQUIRED.get(path, {}).items():
        assert isinstance(content[name], kind), f"{path}.{name}"
        children = content[name] if kind is LIST else [content[name]]
        for child in children:
            if isinstance(child, dict):
                check_required(child, f"{path}.{name}".lstrip("."))


def test_sarif_is_as_its_schema_says(home, tmp_path):
    path = tmp_path / "check.sarif"
    check(home, *required(*MET, *NOT_MET), "--format", "sarif", "-o", path, code=1)
    content = json.loads(path.read_text())
    check_required(content)
    assert content["version"] == "2.1.0"
    assert content["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = content["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in LEVELS
        assert result["locations"]
    found = [(result["ruleId"], result["level"]) for result in run["results"]]
    errors = [("PCL301", "error"), ("PCL302", "error"), ("PCL301", "error")]
    assert found == [*errors, ("PCL103", "warning")]
    marks = [result["partialFingerprints"]["requirement/v1"] for result in run["results"]]
    assert len(set(marks)) == len(marks)


def test_sarif_points_to_the_measurement_and_to_the_line_that_asks(home, tmp_path):
    path = tmp_path / "required of ours.txt"
    path.write_text("# lowest\nours.pgd > 80\nours.auto > 0\n")
    out = check(home, "--requirements", path, "--format", "sarif", code=1).stdout
    places = [
        [
            (
                place["physicalLocation"]["artifactLocation"]["uri"],
                place["physicalLocation"]["region"],
            )
            for place in (*result["locations"], *result["relatedLocations"])
        ]
        for result in json.loads(out)["runs"][0]["results"]
    ]
    (measurement, line), (missing,), _ = places
    assert (home / measurement[0]).is_file()
    assert line == (path.as_posix().replace(" ", "%20"), {"startLine": 2})
    assert missing == (path.as_posix().replace(" ", "%20"), {"startLine": 3})


def test_nothing_to_report_is_an_empty_run(home):
    softmax = make_measurement(make_model("softmax"), correct=95, n=100)
    save_measurement(Paths(home), softmax)
    out = check(home, *required("softmax.clean >= 90"), "--format", "sarif", code=0).stdout
    assert json.loads(out)["runs"][0]["results"] == []


def test_a_model_can_be_named_once(home):
    check(home, "--model", "ours", *required("pgd >= 80", "clean >= 95"), code=0)


WRONG = {
    "nothing asked": ([], "There is no requirement"),
    "no such model": (required("ourz.pgd >= 3"), "Did you mean ours"),
    "no such quantity": (required("ours.pdg >= 3"), "Did you mean pgd"),
    "no such table": (["--table", "2", *required("ours.pgd >= 3")], "There is no table 2"),
    "no such data set": (["--dataset", "cifar", *required("ours.pgd >= 3")], "cifar10"),
    "a budget of 8": (["--eps", "8", *required("ours.pgd >= 3")], "8/255"),
    "no such file": (["--requirements", "missing.txt"], "Cannot read missing.txt"),
    "another format": (["--format", "xml", *required("ours.pgd >= 3")], "json"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_used_is_refused_in_two_lines(wrong, home):
    words, said = WRONG[wrong]
    result = check(home, *words, code=2)
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert result.stdout == ""


def test_a_damaged_measurement_is_as_good_as_none(home, tmp_path):
    folder = Paths(tmp_path).measurements
    folder.mkdir(parents=True)
    (folder / "0123456789ab.json").write_text("{")
    assert "is not a measurement" in check(tmp_path, *required("ours.pgd >= 3"), code=1).stderr


def test_a_folder_without_results_has_nothing_measured(tmp_path):
    out = check(tmp_path, "--table", 3, *required("ours.pgd >= 3"), code=1).stdout
    assert "pclbench attack ours --attack pgd" in out


def test_it_does_not_wait_for_torch(home):
    words = ["check", "--home", str(home), "--table", "3", *required("ours.pgd >= 3")]
    program = (
        "import sys; from typer.testing import CliRunner; from robustbench_pcl.cli.app import app; "
        f"result = CliRunner().invoke(app, {words!r}); assert result.exit_code == 0; "
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
