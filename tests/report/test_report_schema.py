"""The fields that programs read: declared once, the same in JSON, CSV, frames, schema and text."""

from __future__ import annotations

import csv
import json
import math
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documents import SCHEMA, read_document, validator
from fabricated import make_answers, make_attack, make_evidence, make_measurement, make_model
from jsonschema import Draft202012Validator, ValidationError

from robustbench_pcl.report.diagnosed import Diagnosed
from robustbench_pcl.report.model_formats import render_models
from robustbench_pcl.report.model_report import stored_budgets
from robustbench_pcl.report.render import render, tables_json
from robustbench_pcl.report.results import COLUMNS, measurement_frame, measurement_rows
from robustbench_pcl.report.schema import (
    DOCUMENTS,
    FIELDS,
    JSON_TYPES,
    OBJECTS,
    csv_rows,
    json_schema,
    json_text,
    reference,
)
from robustbench_pcl.report.table import report_table
from robustbench_pcl.report.text import overview

DOCS = Path(__file__).parents[2] / "docs"
OURS, SOFTMAX = make_model("ours"), make_model("softmax")
MEASUREMENTS = [
    make_measurement(OURS, correct=905),
    make_measurement(OURS, OURS, make_attack("pgd"), correct=272, mode="fast"),
    make_measurement(OURS, SOFTMAX, make_attack("cw", c=0.1), correct_8bit=None),
]


def test_the_published_schema_and_reference_are_those_of_the_code():
    """``python -m robustbench_pcl report --schema -o docs/schema/pclbench-1.schema.json``."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json_schema()
    assert reference() in (DOCS / "json.md").read_text(encoding="utf-8")
    Draft202012Validator.check_schema(json_schema())


def test_every_field_has_a_type_and_a_meaning_and_is_in_use():
    assert all(field.kind in JSON_TYPES and field.meaning for field in FIELDS.values())
    lists = [*OBJECTS.values(), *((*each.columns, *each.members) for each in DOCUMENTS.values())]
    assert {column.name for each in lists for column in each if column.field} == set(FIELDS)
    for columns in lists:
        assert len({column.name for column in columns}) == len(columns)


def test_a_measurement_has_the_same_fields_in_json_csv_and_frame():
    rows = measurement_rows(MEASUREMENTS, Diagnosed())
    names = [column.name for column in COLUMNS]
    printed = read_document(json_text("measurements", rows), "measurements")["rows"]
    table = list(csv.DictReader(StringIO(csv_rows("measurements", rows))))
    frame = measurement_frame(MEASUREMENTS)
    assert [*printed[0]] == [*table[0]] == list(frame.columns) == names
    for name in names:
        for value, text, stored in zip(
            (row[name] for row in printed), (row[name] for row in table), frame[name], strict=True
        ):
            if isinstance(value, dict | list):
                assert json.loads(text) == value
            elif value is None:
                assert text == ""
                assert pd.isna(stored)
            else:
                assert (text, value) == (str(value), stored)


def test_what_is_not_known_is_null_and_numbers_are_numbers():
    clean, pgd, black_box = read_document(
        json_text("measurements", measurement_rows(MEASUREMENTS, Diagnosed())), "measurements"
    )["rows"]
    assert (clean["eps"], clean["source"], clean["parameters"]) == (None, None, None)
    assert (pgd["eps"], pgd["parameters"]["eps"]) == (0.03, 0.03)
    assert black_box["correct_8bit"] is None
    row = {"name": np.float64("nan"), "summary": np.int64(3)}
    assert json.loads(json_text("recipes", [row]))["rows"] == [{"name": None, "summary": 3}]
    with pytest.raises(KeyError, match="summary"):
        json_text("recipes", [{"name": math.inf}])


@pytest.mark.parametrize("change", [{"accuracy": "90.5 %"}, {"n": None}, {"created": 7}])
def test_the_schema_refuses_other_types(change):
    content = json.loads(json_text("measurements", measurement_rows(MEASUREMENTS[:1], Diagnosed())))
    content["rows"][0] |= change
    if change == {"n": None}:
        del content["rows"][0]["n"]
    with pytest.raises(ValidationError):
        validator("measurements").validate(content)


@pytest.mark.parametrize("number", [3, 9, 12, 13], ids=["rows", "columns", "times", "matrix"])
def test_every_table_follows_the_schema_and_a_script_can_rebuild_it(number):
    evidence = make_evidence(make_answers(number, ["cifar10"]))
    table = report_table(number, evidence, ["cifar10", "digits"])
    content = read_document(render(table, "json"), "table")
    cells = [entry for section in table.sections for entry in section.entries]
    assert [row["measured"] for row in content["rows"]] == [each.measured for each in cells]
    for section in table.sections:
        own = [row for row in content["rows"] if row["dataset"] == section.dataset]
        places = [(row["row"], row["group"], row["column"]) for row in own]
        assert len(set(places)) == len(places) == len(section.entries)
    for row, entry in zip(content["rows"], cells, strict=True):
        if entry.measured is not None and entry.cell.quantity == "accuracy":
            assert row["measurements"]
            assert row["low"] <= row["measured"] <= row["high"]
            assert (row["parameters"] is None) == (row["attack"] in ("Clean", "Worst case"))
    table_rows = list(csv.DictReader(StringIO(render(table, "csv"))))
    assert [*table_rows[0]] == [*content["rows"][0]]


def test_several_tables_are_one_document():
    tables = [report_table(number, make_evidence([]), ["cifar10"]) for number in (3, 13)]
    content = read_document(tables_json(tables), "table")
    assert [each["table"] for each in content["tables"]] == [3, 13]
    assert {row["table"] for row in content["rows"]} == {3, 13}


def test_a_cell_names_its_attack_as_the_row_of_attack_does():
    table = report_table(3, make_evidence(MEASUREMENTS), ["cifar10"])
    measured = {row["id"]: row for row in measurement_rows(MEASUREMENTS, Diagnosed())}
    shared = {"attack", "eps", "norm", "parameters", "mode", "target", "dataset", "scale"}
    cells = read_document(render(table, "json"), "table")["rows"]
    found = [cell for cell in cells if cell["measurements"] and cell["attack"] != "Worst case"]
    assert found
    for cell in found:
        row = measured[cell["measurements"][0]]
        assert {name: cell[name] for name in shared} == {name: row[name] for name in shared}
        assert (cell["measured"], cell["low"], cell["high"]) == (
            row["accuracy"],
            row["low"],
            row["high"],
        )
        assert (cell["seeds"], cell["checkpoints"]) == ([row["seed"]], [row["checkpoint"]])


def test_models_and_the_overview_follow_the_schema():
    evidence = make_evidence(MEASUREMENTS)
    read_document(render_models(stored_budgets(evidence, ["ours"]), "json"), "models")
    read_document(json_text("overview", overview(evidence)), "overview")
