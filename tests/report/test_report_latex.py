"""LaTeX that compiles in a two-column article: it fits, is cited, and labels are unique."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from fabricated import (
    make_answers,
    make_attack,
    make_certificate,
    make_diagnosis,
    make_evidence,
    make_measurement,
    make_model,
)
from reading import filled

from robustbench_pcl.paper.references import bibliography, cited
from robustbench_pcl.paper.tables import Heading, published, published_numbers
from robustbench_pcl.report.certificate_formats import render_certificates
from robustbench_pcl.report.certified import stored_certificates
from robustbench_pcl.report.described import TITLES, described_table
from robustbench_pcl.report.diagnosis_formats import render_diagnoses
from robustbench_pcl.report.latex import COLUMN, PAGE, Grid, Line, laid_out
from robustbench_pcl.report.latex_text import escape_latex, width
from robustbench_pcl.report.model_formats import render_models
from robustbench_pcl.report.model_report import stored_budgets
from robustbench_pcl.report.render import render
from robustbench_pcl.report.table import report_table

HOSTILE = r"_a&b%c#d$e{f}g~h^i\j`k<l>m|n--o é ∞ 网 ẞ" + "x" * 70
LONG = "/home/somebody/models/a_model_with_a_long_name-and-a-longer-one.py:make_model"
WRONG = re.compile(
    r"^!.*|Overfull.*|.*[Uu]ndefined.*|.*multiply.*|.*too large.*|Missing character.*", re.MULTILINE
)
"""What a log says of tables that do not fit, of mistakes, and of references to nothing."""
ARTICLE = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs}
\begin{document}
%s
\clearpage
\bibliographystyle{plain}
\bibliography{refs}
\end{document}
"""


def labels(latex: str) -> list[str]:
    return re.findall(r"\\label\{([^}]*)\}", latex)


def tables():
    """Every table: of words, without and with numbers, of several seeds, with models beneath."""
    for number in TITLES:
        yield render(described_table(number), "latex")
    for number in published_numbers():
        datasets = published(number).datasets
        yield render(report_table(number, make_evidence([]), datasets), "latex")
        evidence = make_evidence(make_answers(number, datasets[:2], n=100))
        whole = report_table(number, evidence, datasets[:1], models=())
        yield render(whole, "latex", interval=True)
    yield render(report_table(3, over_seeds(), ["cifar10"], seeds=[0, 1], models=[LONG]), "latex")
    chosen = report_table(3, over_seeds(), ["cifar10"], columns=["Clean", "pgd"], models=[HOSTILE])
    yield render(chosen, "latex")


def over_seeds():
    """Two trainings of Ours and of models with names that no table expects, diagnosed."""
    models = [make_model(name, seed=seed) for name in ("ours", LONG, HOSTILE) for seed in (0, 1)]
    pgd = make_attack()
    records = [
        make_measurement(model, model if attack else None, attack, correct=60 + place)
        for place, model in enumerate(models)
        for attack in (None, pgd, make_attack("fgsm"))
        if attack or not place
    ]
    return make_evidence([*records, *(make_diagnosis(model, pgd) for model in models)])


def of_models():
    """What is stored of models, with their diagnoses, and certificates."""
    evidence = over_seeds()
    budgets = stored_budgets(evidence, [LONG, HOSTILE])
    yield render_models(budgets, "latex")
    yield render_diagnoses([each for each in evidence.diagnoses if each.seed == 0][:1], "latex")
    certified = make_evidence([make_certificate(make_model(HOSTILE))])
    yield render_certificates(stored_certificates(certified.certificates, [HOSTILE]), "latex")


@pytest.mark.latex
def test_all_tables_compile_in_a_two_column_article_and_fit(tmp_path):
    for name in ("pdflatex", "bibtex", "kpsewhich"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is missing: apt-get install texlive-latex-recommended")
    if not run(tmp_path, "kpsewhich", "booktabs.sty"):
        pytest.skip("booktabs is missing: apt-get install texlive-latex-recommended")
    texts = [*tables(), *of_models()]
    (tmp_path / "all.tex").write_text(ARTICLE % "\n\\clearpage\n".join(texts), encoding="utf-8")
    keys = set().union(*map(cited, texts))
    (tmp_path / "refs.bib").write_text(bibliography(keys), encoding="utf-8")
    run(tmp_path, "pdflatex", "-draftmode", "-interaction=nonstopmode", "all")
    assert "Warning" not in run(tmp_path, "bibtex", "all")
    run(tmp_path, "pdflatex", "-draftmode", "-interaction=nonstopmode", "all")
    said = run(tmp_path, "pdflatex", "-interaction=nonstopmode", "all")
    assert "Output written on all.pdf" in said.replace("\n", "")
    assert WRONG.findall((tmp_path / "all.log").read_text(errors="replace")) == []


def run(folder, *command):
    options = {"capture_output": True, "text": True, "errors": "replace", "timeout": 300}
    return subprocess.run(command, cwd=folder, check=False, **options).stdout


def test_labels_are_unique_by_table_data_set_part_scale_and_seeds():
    assert labels(render(filled(3), "latex")) == [
        "tab:pclbench-3-cifar10-white-box-quick",
        "tab:pclbench-3-cifar10-black-box-quick",
    ]
    paper = report_table(3, make_evidence([]), ["cifar10", "mnist"])
    assert "tab:pclbench-3-cifar10-white-box" in labels(render(paper, "latex"))
    seeds = report_table(3, over_seeds(), ["cifar10"], seeds=[0, 1])
    assert labels(render(seeds, "latex"))[0].endswith("-quick-seed-0-1")
    columns = report_table(3, over_seeds(), ["cifar10"], columns=["Clean"])
    assert labels(render(columns, "latex")) == ["tab:pclbench-3-cifar10-clean-quick"]
    every = [label for text in [*tables(), *of_models()] for label in labels(text)]
    assert len(set(every)) == len(every) > 60


def test_the_first_lines_say_what_made_it_and_how_it_is_used():
    table = report_table(3, over_seeds(), ["cifar10"], "quick", [0], models=[HOSTILE])
    first, second, *_ = render(table, "latex", interval=True).splitlines()
    assert first.startswith("% pclbench report --table 3 --dataset cifar10 --scale quick --seed 0")
    assert "--interval --format latex (pclbench " in first
    assert r"\usepackage{booktabs}" in second


def test_a_caption_says_data_set_scale_budget_and_n():
    text = render(filled(13), "latex")
    (caption,) = re.findall(r"\\caption\{(.*)\}", text)
    assert caption == (
        r"Transferability of PGD adversaries: CIFAR-10~\cite{krizhevsky2009} ($\epsilon = 0.03$), "
        "quick scale, $n = 10{,}000$."
    )


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("eps = 8/255, n = 500.", r"$\epsilon = 8/255$, $n = 500$."),
        ("within eps", r"within $\epsilon$"),
        ("PGD eps 0.1", r"PGD $\epsilon = 0.1$"),
        ("eps-net of steps", "eps-net of steps"),
        ("Yu [45]*, [99]", r"Yu~\cite{yu2018}*, [99]"),
        ("a--b", r"a-{}-b"),
        ("José", r"Jos\'{e}"),
        ("网", "(U+7F51)"),
        ("a\x07\nb", "a b"),
        ("Run: pclbench run --table 3.", r"Run: \texttt{pclbench run -{}-table 3}."),
    ],
)
def test_text_is_written_as_papers_do(text, latex):
    assert escape_latex(text) == latex


@pytest.mark.parametrize("columns", [3, 8, 20, 60])
def test_what_is_too_wide_is_parted_by_columns_and_nothing_is_lost(columns):
    heads = ("", *(f"Column {place}" for place in range(columns)))
    rows = tuple((Line((f"Row {row}", *["98.71"] * columns)),) for row in range(4))
    floats = laid_out([Grid("Caption", "tab:x", heads, rows, notes=("Note.",))])
    sizes = {r"\small": 4.0, r"\footnotesize": 3.0}
    seen = 0
    for each in floats:
        own = len(each.columns) - 1
        seen += own
        gap = next(gap for size, gap in sizes.items() if each.type.startswith(size))
        room = COLUMN if each.environment == "table" else PAGE
        assert own * (width("98.71", 8.0) + 2 * gap) < room
    assert seen == columns
    assert [each.notes for each in floats] == [["Note."], *[[]] * (len(floats) - 1)]
    assert [each.label for each in floats] == [
        "tab:x",
        *(f"tab:x-{n}" for n in range(2, seen + 1)),
    ][: len(floats)]


def test_what_is_too_high_is_parted_by_rows_and_nothing_is_lost():
    rows = tuple((Line((f"Row {row}", "1.0")),) for row in range(200))
    floats = laid_out([Grid("Caption", "tab:x", ("", "Number"), rows)])
    assert len(floats) > 3
    assert [line for each in floats for (line,) in each.rows] == [
        f"Row {n} & 1.0" for n in range(200)
    ]
    assert floats[1].caption == f"Caption (part 2 of {len(floats)})."


def test_a_heading_that_no_table_expects_is_still_one_column():
    table = filled(11)
    hostile = replace(table, columns=(Heading(label=HOSTILE), *table.columns[1:]))
    text = render(hostile, "latex")
    body = [line for line in text.splitlines() if line.endswith((r"\\", r"\tabularnewline"))]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(table.columns)}
