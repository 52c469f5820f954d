"""The summary: of each model the claim, what is left of it, and the verdict, at one budget."""

from __future__ import annotations

import pytest
from documents import read_document
from fabricated import (
    ENVIRONMENT,
    make_attack,
    make_diagnosis,
    make_evidence,
    make_measurement,
    make_model,
)
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.report.summary import findings, render_summary, summary_rows
from robustbench_pcl.store.records import Paths, save_measurement

SOFTMAX, OURS, OTHER = make_model("softmax"), make_model("ours"), make_model("other", weights="b")
PGD, STRONGEST = make_attack("pgd"), make_attack("strongest")
JUDGED = make_diagnosis(OURS, PGD)


def attacked(model, pgd, strongest=None, **changes):
    """Clean, under PGD and under `strongest`, 1000 images each."""
    yield make_measurement(model, correct=900, **changes)
    yield make_measurement(model, model, PGD, correct=pgd, **changes)
    if strongest is not None:
        yield make_measurement(model, model, STRONGEST, correct=strongest, **changes)


def test_a_row_is_the_numbers_of_one_model_and_the_claim():
    records = list(attacked(OURS, 270, 30))
    (row,) = summary_rows(make_evidence([*records, JUDGED]))
    assert (row.dataset, row.target, row.scale, row.eps) == ("cifar10", "ours", "quick", 0.03)
    assert (row.claimed, row.claimed_table) == (27.2, 3)
    assert (row.clean, row.pgd, row.strongest, row.n) == (90.0, 27.0, 3.0, 1000)
    clean, pgd, strongest = (record.id for record in records)
    assert row.measurements == (pgd, strongest, clean)
    assert (row.strongest_low, row.strongest_high) == pytest.approx((2.11, 4.25), abs=0.01)
    assert (row.verdict, row.verdict_name, row.diagnosis) == (
        JUDGED.code,
        JUDGED.verdict,
        JUDGED.id,
    )
    assert row.of_the_paper


def test_a_number_of_other_images_says_how_many_there_were():
    clean, pgd, strongest = attacked(OURS, 270, 30)
    few = make_measurement(OURS, OURS, PGD, correct=54, n=200)
    evidence = make_evidence([make_measurement(OURS, correct=180, n=200), few, strongest])
    (row,) = summary_rows(evidence)
    assert (row.clean_n, row.pgd_n, row.strongest_n, row.n) == (200, 200, 1000, 1000)
    text, table = (render_summary([row], form) for form in ("text", "md"))
    assert text.count("(n = 200)") == 2
    assert "| 90.0 (n = 200) |" in table
    assert "33.5\\] (n = 200) |" in table
    assert "(n" not in render_summary(summary_rows(make_evidence([clean, pgd, strongest])), "text")


@pytest.mark.parametrize(
    ("verdict", "strongest", "code"),
    [
        ("holds", 651, "PCL101"),
        ("holds", 650, None),  # 5 points less than PGD: PGD's number does not hold
        ("holds", None, "PCL101"),
        ("saturated", 0, "PCL103"),
        ("attack too weak", 0, "PCL102"),  # the summary speaks of PGD's number
    ],
)
def test_that_pgds_number_holds_is_not_said_where_the_strongest_leaves_much_less(
    verdict, strongest, code
):
    diagnosis = make_diagnosis(OURS, PGD, verdict)
    (row,) = summary_rows(make_evidence([*attacked(OURS, 700, strongest), diagnosis]))
    assert row.verdict == code


def test_the_claim_is_answered_scale_by_scale():
    short = make_model("ours", scale="demo")
    within = attacked(make_model("ours-fgsm"), 430, 420)  # 39.0 to 45.1 % are left of 42.5 %
    found = [*attacked(OURS, 270, 30), *within, *attacked(SOFTMAX, 0, 0), *attacked(short, 272)]
    said = list(findings(summary_rows(make_evidence(found))))
    assert said == [
        "At quick scale, 1 of 2 models with the paper's loss keep less than the paper claims, by "
        "more than the 95 % interval. It claims up to 42.5\N{NO-BREAK SPACE}% under PGD; the "
        "attack `strongest` leaves at most 42.0\N{NO-BREAK SPACE}%."
    ]
    assert list(findings(summary_rows(make_evidence(attacked(SOFTMAX, 0, 0))))) == []


def test_recipes_that_carry_the_claim_come_first():
    found = [*attacked(OTHER, 500), *attacked(SOFTMAX, 10), *attacked(OURS, 270)]
    rows = summary_rows(make_evidence(found))
    assert [row.target for row in rows] == ["ours", "softmax", "other"]
    assert [row.claimed for row in rows] == [27.2, 0.01, None]
    assert [row.strongest for row in rows] == [None] * 3


def test_the_claim_is_of_the_same_budget_only():
    weak = make_attack("pgd", eps=0.017)
    (row,) = summary_rows(make_evidence([make_measurement(OURS, OURS, weak, correct=270)]))
    assert (row.eps, row.claimed, row.pgd) == (0.017, None, 27.0)


def test_of_several_attacks_the_tables_pgd_and_the_lowest_strongest_are_shown():
    longer = make_attack("pgd", steps=100)
    quick = make_attack("strongest", budget="quick")
    found = [
        *attacked(OURS, 270, 30),
        make_measurement(OURS, OURS, longer, correct=200),
        make_measurement(OURS, OURS, quick, correct=20),
    ]
    (row,) = summary_rows(make_evidence(found))
    assert (row.pgd, row.strongest) == (27.0, 2.0)


def test_images_of_other_models_and_other_norms_are_no_white_box_numbers():
    far = make_attack("pgd", norm="l2", eps=0.5)
    found = [
        make_measurement(OURS, correct=900),
        make_measurement(OURS, SOFTMAX, PGD, correct=800),
        make_measurement(OURS, OURS, far, correct=100),
    ]
    assert summary_rows(make_evidence(found)) == ()


def test_seeds_and_devices_are_told_apart_where_there_are_several():
    other = make_model("ours", seed=1)
    fast = ENVIRONMENT.model_copy(update={"device": "Accelerator"})
    plain = render_summary(summary_rows(make_evidence(attacked(OURS, 270))), "md")
    assert "Seed" not in plain
    assert "Device" not in plain
    found = [*attacked(OURS, 270), *attacked(other, 280, environment=fast)]
    rows = summary_rows(make_evidence(found))
    assert [(row.seed, row.device) for row in rows] == [(0, "CPU"), (1, "Accelerator")]
    both = render_summary(rows, "md")
    assert "Seed" in both
    assert "Device" in both
    assert "ours, seed 1" in render_summary(rows, "text")
    assert [row.seed for row in summary_rows(make_evidence(found), seed=1)] == [1]


def test_text_fits_a_terminal_and_other_formats_hold_the_same():
    rows = summary_rows(make_evidence([*attacked(OURS, 270, 30), *attacked(SOFTMAX, 0), JUDGED]))
    text = render_summary(rows, "text")
    assert max(map(len, text.splitlines())) <= 80
    assert "CIFAR-10 (eps = 0.03), quick scale" in text
    assert "24.3 to 29.8" in text
    assert JUDGED.code in text
    read = read_document(render_summary(rows, "json"), "summary")
    assert [row["strongest"] for row in read["rows"]] == [3.0, None]
    first = render_summary(rows, "csv").splitlines()[1]
    assert first.startswith("cifar10,ours,quick,0,")
    assert "27.0 \\[24.3 to 29.8\\]" in render_summary(rows, "md")


def test_the_command_prints_it(tmp_path):
    for record in attacked(OURS, 270, 30):
        save_measurement(Paths(tmp_path), record)
    words = ["report", "--summary", "--home", str(tmp_path)]
    printed = CliRunner().invoke(app, words)
    assert printed.exit_code == 0, printed.stderr
    assert printed.stdout == render_summary(
        summary_rows(make_evidence(attacked(OURS, 270, 30))), "text"
    )
    refused = CliRunner().invoke(app, [*words, "--format", "latex"])
    assert refused.exit_code == 2
    assert "--format text, md, csv or json" in refused.stderr
    empty = CliRunner().invoke(app, ["report", "--summary", "--home", str(tmp_path / "none")])
    assert "pclbench attack" in empty.stdout
