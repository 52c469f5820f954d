"""Every code that is printed is explained."""

import subprocess
import sys
import tomllib
from importlib import resources

import pytest

from robustbench_pcl.diagnosis import codes
from robustbench_pcl.diagnosis.checks import CHECKS
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.diagnoses import CODES


def test_every_verdict_and_every_check_is_explained_and_nothing_else():
    assert set(codes.explanations()) == {*CODES.values(), *CHECKS}
    assert list(codes.explanations()) == sorted(codes.explanations())


@pytest.mark.parametrize("verdict", CODES)
def test_a_verdicts_code_has_its_name(verdict):
    assert codes.explanation(CODES[verdict]).name == verdict


@pytest.mark.parametrize("code", codes.explanations())
def test_an_explanation_says_everything(code):
    found = codes.explanation(code.lower())
    assert found.code == code
    assert found.meaning.endswith(".")
    assert "\n" not in found.meaning
    assert found.evidence
    assert found.cures
    assert found.literature


@pytest.mark.parametrize("verdict", CODES)
def test_codes_that_an_explanation_names_exist(verdict):
    found = codes.explanation(CODES[verdict])
    words = " ".join([found.meaning, *found.evidence, *found.cures]).replace(",", " ")
    named = {word.strip(":.") for word in words.split() if word.startswith("PCL")}
    assert named <= set(codes.explanations())


def test_no_paper_is_listed_for_nothing():
    text = resources.files(codes.__package__).joinpath("codes.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    papers = content.pop("literature")
    assert set(papers) == {key for entry in content.values() for key in entry["literature"]}


def test_an_unknown_code_names_the_nearest():
    with pytest.raises(UserError, match=r"no code called 'PCL130'.*PCL103"):
        codes.explanation("pcl130")


def test_explanations_do_not_wait_for_torch():
    program = "import sys; from robustbench_pcl.diagnosis.codes import explanation; " \
        "explanation('PCL103'); assert 'torch' not in sys.modules"  # fmt: skip
    subprocess.run([sys.executable, "-c", program], check=True)
