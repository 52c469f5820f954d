"""A diagnosis as it is shown: in every format, as a picture, a page and part of a report."""

from __future__ import annotations

import json
from html import unescape
from io import StringIO

import pandas as pd
import pytest
from fabricated import (
    CHECKS,
    ENVIRONMENT,
    make_attack,
    make_diagnosis,
    make_evidence,
    make_measurement,
    make_model,
)
from reading import parsed

from robustbench_pcl.errors import UserError
from robustbench_pcl.report.diagnosis_figure import diagnosis_figure
from robustbench_pcl.report.diagnosis_formats import check_lines, commands_of, render_diagnoses
from robustbench_pcl.report.model_formats import heads, lines, render_models
from robustbench_pcl.report.model_report import newest_diagnoses, stored_budgets
from robustbench_pcl.report.page import diagnosis_page, full_page
from robustbench_pcl.report.render import FORMATS

OURS, SOFTMAX = make_model("ours"), make_model("softmax")
PGD, FGSM = make_attack("pgd"), make_attack("fgsm")
DIAGNOSIS = make_diagnosis(OURS, PGD)
HEADING = "PCL103 saturated: ours on CIFAR-10, quick scale, L-infinity, eps = 0.03, n = 200"
LATER = "2025-06-01T00:00:00+00:00"


def words(text):
    """Text whose line breaks, quotes and escapes do not matter."""
    return " ".join(unescape(text).replace("\\", "").split())


@pytest.mark.parametrize("form", ["text", "md", "latex", "html"])
def test_people_are_shown_the_verdict_first_then_the_numbers_then_the_checks(form):
    text = render_diagnoses([DIAGNOSIS], form)
    shown = words(text).replace("$epsilon = 0.03$, $n = 200$", "eps = 0.03, n = 200")
    parts = [
        HEADING,
        DIAGNOSIS.sentence,
        "Clean",
        "95.0 to 99.2",
        "All attacks that were tried",
        "0.3 to 3.6",
        "PCL201",
        "PCL204",
        "PCL209",
        "Competence of",
        "7.8 to 16.7",
    ]
    places = [shown.index(part) for part in parts]
    assert places == sorted(places)
    assert "pclbench explain PCL103" in shown
    assert text.endswith("\n")


def test_each_check_is_a_question_with_an_answer():
    assert list(check_lines(DIAGNOSIS)) == [
        (check.code, check.name, answer, check.sentence)
        for check, answer in zip(CHECKS, ("yes", "no", "–"), strict=True)
    ]


def test_a_terminal_of_80_columns_is_enough():
    long = CHECKS[1].changed(sentence="Unaccountably " * 20, name="a question of many words " * 3)
    wide = make_diagnosis(make_model("ours-l45-nearest"), PGD, checks=(*CHECKS, long))
    text = render_diagnoses([wide], "text")
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("Unaccountably") == 20
    (judged,) = [line for line in text.splitlines() if "61.2 to 74.1" in line]
    assert judged.split() == ["PGD,", "eps", "0.03", "68.0", "61.2", "to", "74.1", "200"]


def test_json_has_the_shares_of_a_diagnosis_in_per_cent():
    one, two = (json.loads(render_diagnoses([DIAGNOSIS] * count, "json")) for count in (1, 2))
    assert two["diagnoses"] == one["diagnoses"] * 2
    (found,) = one["diagnoses"]
    assert found["diagnosis"] == DIAGNOSIS.id
    assert (found["verdict"], found["verdict_name"]) == ("PCL103", "saturated")
    assert found["accuracy"] == 100 * DIAGNOSIS.correct / DIAGNOSIS.n
    assert found["withstood_low"] < found["withstood"] < found["withstood_high"]
    assert [check["figures"] for check in found["checks"]] == [each.measured for each in CHECKS]
    assert [row["check"] for row in one["rows"]] == [check.code for check in CHECKS]


def test_csv_has_a_row_for_each_check():
    frame = pd.read_csv(StringIO(render_diagnoses([DIAGNOSIS], "csv")))
    assert list(frame["check"]) == [check.code for check in CHECKS]
    assert frame["passed"].astype(object).where(frame["passed"].notna(), None).tolist() == [
        check.passed for check in CHECKS
    ]
    assert set(frame["verdict"]) == {"PCL103"}
    assert json.loads(frame["figures"][1]) == CHECKS[1].measured


def test_html_closes_what_it_opens_and_escapes():
    hostile = make_diagnosis(OURS, PGD, sentence="<script>alert(1)</script>")
    text = render_diagnoses([hostile], "html")
    parsed(text)
    assert "<script>" not in text


def test_there_is_no_other_format():
    with pytest.raises(UserError, match="no format called 'xml'"):
        render_diagnoses([DIAGNOSIS], "xml")


MARGINS = CHECKS[1].changed(
    code="PCL212",
    measured={
        "lost": 91.0,
        "margin, percentile 5": 3.25,
        "margin, percentile 50": 120.5,
        "margin, percentile 95": 343.0,
    },
)
LOSSES = CHECKS[1].changed(
    code="PCL213", measured={"PGD": 68.0, "PGD on mifpe": 1.5, "PGD on margin": 2.0}
)


def test_the_picture_shows_answers_margins_and_what_attempts_leave():
    checks = (*CHECKS, MARGINS, LOSSES)
    svg = diagnosis_figure(make_diagnosis(OURS, PGD, checks=checks)).drawing.svg()
    for check, answer in zip(checks, ("yes", "no", "–", "no", "no"), strict=True):
        assert f">{check.code} {check.name}: {answer}<" in svg
    assert ">1.5<" in svg
    assert "clean images: 3.25 to 343, median 120<" in svg
    assert ">2.0<" not in svg  # only the least of a check
    assert diagnosis_figure(make_diagnosis(OURS, PGD, checks=checks)).drawing.svg() == svg


@pytest.mark.parametrize("checks", [CHECKS[:1], CHECKS], ids=["one", "without margins"])
def test_a_picture_is_drawn_of_whatever_was_asked(checks):
    drawing = diagnosis_figure(make_diagnosis(OURS, PGD, checks=checks)).drawing
    assert ">not measured<" in drawing.svg()
    assert drawing.png().startswith(b"\x89PNG")


def test_a_page_has_picture_tables_and_commands_and_needs_nothing_else():
    others = make_diagnosis(SOFTMAX, PGD, "holds")
    text = diagnosis_page([DIAGNOSIS, others])
    cells = parsed(text.removeprefix("<!DOCTYPE html>"))
    assert {reference[1:] for reference in cells.references} <= set(cells.ids)
    assert text.count("<figure") == text.count("</svg>") == 2
    assert "saturated (PCL103) and holds (PCL101)" in text
    assert text.count(ENVIRONMENT.torch) == 1
    assert (
        "pclbench diagnose ours --dataset cifar10 --scale quick --attack pgd --eps 0.03 "
        "--images 200\n" in text
    )


def test_the_command_makes_the_same_diagnosis_again():
    attack = make_attack("pgd", steps=40, norm="l2", eps=0.5)
    found = make_diagnosis(OURS, attack, seed=3, sources=(SOFTMAX,))
    assert commands_of(found) == (
        "pclbench diagnose ours --dataset cifar10 --scale quick --attack pgd --eps 0.5 "
        "--images 200 --seed 3 --set norm=l2 --set steps=40 "
        "--set relative_step_size=0.0625 --source softmax",
        "pclbench explain PCL103",
    )


RECORDS = [
    make_measurement(OURS, correct=900),
    make_measurement(OURS, OURS, PGD, correct=680),
    make_measurement(OURS, OURS, FGSM, correct=750),
    make_measurement(OURS, OURS, make_attack("strongest", eps=0.1), correct=10),
]


def budgets(*diagnoses):
    evidence = make_evidence([*RECORDS, *diagnoses])
    return evidence, stored_budgets(evidence, ["ours"])


def test_a_models_report_has_the_code_beside_each_number():
    _, (small, large) = budgets(DIAGNOSIS)
    place = heads(small).index("Verdict")
    assert {line[0]: line[place] for line in lines(small)} == {
        "Clean": "",
        "FGSM": "PCL103",
        "PGD": "PCL103",
        "Worst case": "PCL103",
    }
    # The larger budget was not diagnosed: what is left of it has no code.
    assert {line[0]: line[place] for line in lines(large)} == {
        "Clean": "",
        "FGSM, eps 0.03": "PCL103",
        "PGD, eps 0.03": "PCL103",
        "Strongest": "",
        "Worst case": "",
    }


def test_without_a_diagnosis_a_models_report_has_no_verdicts():
    _, found = budgets()
    assert "Verdict" not in heads(found[0])
    for form in set(FORMATS) - {"csv", "json"}:
        assert "verdict" not in render_models(found, form).lower()


@pytest.mark.parametrize("form", FORMATS)
def test_a_models_report_ends_with_its_diagnosis(form):
    evidence, found = budgets(DIAGNOSIS)
    text = render_models(found, form, newest_diagnoses(evidence, ["ours"]))
    match form:
        case "csv":
            frame = pd.read_csv(StringIO(text))
            assert frame["verdict"].value_counts().to_dict() == {"PCL103": 5}
        case "json":
            content = json.loads(text)
            assert [each["diagnosis"] for each in content["diagnoses"]] == [DIAGNOSIS.id]
            assert [row["verdict"] for row in content["rows"]].count("PCL103") == 5
        case "html":
            parsed(text)
            assert HEADING in unescape(text)
        case _:
            assert words(render_diagnoses([DIAGNOSIS], form)) in words(text)
    if form == "text":
        assert max(map(len, text.splitlines())) <= 80


def test_the_newest_diagnosis_of_each_attack_is_shown():
    newer = make_diagnosis(OURS, PGD, "holds", created=LATER)
    assert newest_diagnoses(make_evidence([newer]), ["ours"], ["mnist"]) == []
    assert newest_diagnoses(make_evidence([newer]), ["ours"], ["cifar10"], "paper") == []
    other, elsewhere = make_diagnosis(OURS, FGSM), make_diagnosis(SOFTMAX, PGD)
    evidence, _ = budgets(DIAGNOSIS, other, elsewhere, newer)
    assert newest_diagnoses(evidence, ["ours"]) == [newer, other]


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_that_was_only_diagnosed_is_shown_so(form):
    evidence = make_evidence([DIAGNOSIS])
    found = stored_budgets(evidence, ["ours"], unmeasured=["ours"])
    text = render_models(found, form, [DIAGNOSIS])
    match form:
        case "json":
            content = json.loads(text)
            assert content["rows"] == content["sections"] == []
            assert [each["diagnosis"] for each in content["diagnoses"]] == [DIAGNOSIS.id]
        case "csv":
            assert text.splitlines()[1:] == []
        case _:
            assert text == render_diagnoses([DIAGNOSIS], form)
    with pytest.raises(UserError, match="There are no results for a model called 'ours'"):
        stored_budgets(evidence, ["ours"])


def test_the_page_has_the_picture_and_the_table_of_each_diagnosed_model():
    evidence, _ = budgets(DIAGNOSIS, make_diagnosis(SOFTMAX, PGD))  # softmax was never attacked
    text = full_page(evidence)
    parsed(text.removeprefix("<!DOCTYPE html>"))
    assert text.count(f"<h2>{HEADING}") == 2  # above the picture, and above the table
    assert unescape(text).count(CHECKS[1].sentence) == 1
