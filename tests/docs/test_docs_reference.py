"""The reference that is generated from the code leaves nothing out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from robustbench_pcl import __all__ as public
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.cli.app import app
from robustbench_pcl.configuration import SCALES
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.diagnosis.codes import explanations
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipes.load import load_attack, load_recipe
from robustbench_pcl.recipes.presets import recipe_names

ROOT = Path(__file__).parents[2]
EXTENSIONS = ROOT / "docs" / "_extensions"
sys.path.append(str(EXTENSIONS))

import reference  # noqa: E402 - it lies beside the documents
from reference import facts, formats, members, recipes  # noqa: E402

LAST = {"attacks": ATTACKS, "losses": LOSSES, "defenses": DEFENSES, "recipes": recipe_names()}
PLAIN = ("none",)
"""Members that minimise nothing of their own, so that there is no equation."""


@pytest.fixture(scope="module")
def pages():
    return reference.pages()


def commands(command, words="pclbench"):
    """Every command, with the words that are typed for it."""
    below = getattr(command, "commands", None)
    if below is None:
        return [(words, command)]
    return [each for word, one in below.items() for each in commands(one, f"{words} {word}")]


def test_every_command_is_there_with_every_option_and_what_it_says(pages):
    found = commands(typer.main.get_command(app))
    assert len(found) > 20
    for words, command in found:
        page = pages[f"commands/{words.split()[1]}"]
        _, _, section = page.partition(f"\n{words}\n")
        assert section, words
        for parameter in command.params:
            written = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
            assert written.lower() in section.lower(), f"{words}: {written}"
            help_text = (parameter.help or "").replace("\\b", "").split()
            assert not help_text or help_text[0].strip("`*_,.:;") in section, f"{words}: {written}"


@pytest.mark.parametrize("family", LAST)
def test_every_member_of_a_family_has_a_page_and_a_line_in_the_list(pages, family):
    listed = pages[f"{family}/index"]
    for name in LAST[family]:
        assert f"{family}/{name}" in pages
        assert re.search(rf"^   {re.escape(name)}$", listed, re.MULTILINE), name
        assert f":ref:`{name} <" in listed


@pytest.mark.parametrize("family", ["attacks", "losses", "defenses"])
def test_every_member_has_its_equation_and_every_parameter_with_its_default(pages, family):
    for name in LAST[family]:
        page, kind = pages[f"{family}/{name}"], LAST[family][name]
        assert ".. math::" in page or name in PLAIN, name
        for parameter, (default, what) in kind.parameters().items():
            row = page.partition(f"   * - ``{parameter}``\n")[2].split("   * -")[0]
            assert members.value(default) in row, f"{name}: {parameter}"
            assert what.split()[0].rstrip(":,") in row, f"{name}: {parameter}"


def test_an_attack_says_what_holds_on_each_data_set_at_each_scale(pages):
    for name in ATTACKS:
        page = pages[f"attacks/{name}"]
        known = [load_attack(name, data, scale).dump() for data in DATASETS for scale in SCALES]
        for parameter in known[0]:
            values = {members.value(given[parameter]) for given in known}
            assert all(f"``{value}``" in page for value in values if len(values) > 1), name


def test_every_loss_of_attacks_is_said(pages):
    assert all(f"   * - ``{loss}``" in pages["attacks/index"] for loss in AttackLoss)


def test_a_recipe_has_every_hyper_parameter_at_every_scale_and_its_source(pages):
    for name in recipe_names():
        page = pages[f"recipes/{name}"]
        for scale in SCALES:
            for field, value in recipes.leaves(load_recipe(name, "cifar10", scale).content()):
                row = page.rpartition(f"   * - ``{field}``\n")[2].split("   * -")[0]
                assert members.value(value) in row, f"{name}: {field}"
                assert row.count("     - ") == len(SCALES) + 1, f"{name}: {field}"


def test_a_source_is_the_source_of_the_published_value_only():
    recipe = dict(recipes.leaves(load_recipe("ours", "cifar10", "paper").content()))
    assert recipes.published("schedule.batch_size", 256, "cifar10", recipe) == "Section 6"
    assert recipes.published("schedule.batch_size", 128, "cifar10", recipe) == recipes.OURS
    assert recipes.published("model", "conv6", "cifar10", recipe) == recipes.OURS
    assert recipes.published("model", "conv6", "mnist", recipe) == "Section 6, Table 1"


def test_every_source_is_that_of_some_recipe():
    """A value that no recipe has any more is not quoted."""
    used = set()
    for name in [*recipe_names(), "ours-pgd", "ours-fgsm"]:
        for data in DATASETS:
            recipe = dict(recipes.leaves(load_recipe(name, data, "paper").content()))
            for number, source in enumerate(recipes.SOURCES):
                if any(source.says(*leaf, data, recipe) for leaf in recipe.items()):
                    used.add(number)
    unused = [each for number, each in enumerate(recipes.SOURCES) if number not in used]
    assert unused == []


def test_models_data_sets_codes_and_the_python_interface_are_complete(pages):
    assert all(f".. _model-{name}:" in pages["models"] for name in MODELS)
    assert all(f"``{name}``" in pages["datasets"] for name in DATASETS)
    assert all(f"{code}: {each.name}" in pages["codes"] for code, each in explanations().items())
    documented = re.findall(r"^\.\. auto\w+:: robustbench_pcl\.(\w+)$", pages["python"], re.M)
    assert documented == public


def test_every_field_of_a_file_says_what_it_is():
    kinds = [kind for _, _, classes in formats.FILES.values() for kind in classes]
    for kind in (*kinds, *formats.PARTS):
        for name, type_name, words in formats.fields(kind):
            assert type_name, f"{kind.__name__}: {name}"
            assert words or kind.__name__ == "Process", f"{kind.__name__}: {name}"


def test_every_variable_that_the_code_reads_is_documented():
    source = "".join(path.read_text() for path in (ROOT / "robustbench_pcl").rglob("*.py"))
    assert set(re.findall(r"PCLBENCH_[A-Z_]*[A-Z]", source)) == set(facts.VARIABLES)


def test_pages_link_to_labels_that_exist(pages):
    labels = set(re.findall(r"^\.\. _([\w-]+):$", "\n".join(pages.values()), re.MULTILINE))
    for name, text in pages.items():
        for label in re.findall(r":ref:`[^<`]+ <([^>]+)>`", text):
            assert label in labels, f"{name}: {label}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "reference" / "attacks" / "pgd.html").read_text().count("<math") >= 1
