"""What of a bundle follows from its records: page, tables, recipes and per-image rows."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest

from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import UserError, in_one_line
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.manifest import MANIFEST, Manifest, Selection
from robustbench_pcl.evidence.stored import FOLDERS, Files, Judged, Stored, models_in
from robustbench_pcl.paper.tables import published_numbers
from robustbench_pcl.registry import plain_name
from robustbench_pcl.report.model_formats import render_models
from robustbench_pcl.report.model_report import attacked_models, newest_diagnoses, stored_budgets
from robustbench_pcl.report.model_section import Budget
from robustbench_pcl.report.page import full_page
from robustbench_pcl.report.per_image import COLUMNS, Answered
from robustbench_pcl.report.render import render
from robustbench_pcl.report.results import Evidence, load_evidence
from robustbench_pcl.report.table import report_table
from robustbench_pcl.store.records import Measurement, ModelRecord, Paths, StoredRecord
from robustbench_pcl.store.rules import measurement_id
from robustbench_pcl.version import __version__

SIZES = ("linf", "l2")
OF_IMAGES = ("clean_prediction", "prediction", *SIZES)
"""Columns that are known from the images and their set alone."""
PAGE, TABLES, RECIPES, IMAGES = "report.html", "tables", "recipes", "images"
FORMS = ("json", "md")


def rendered(paths: Paths, selection: Selection) -> dict[str, str]:
    """The page and the tables of what is stored, by their paths in a bundle; the same every time.

    Args:
        paths: where the records are.
        selection: what is shown.

    Raises:
        UserError: nothing is stored of what is selected, or a file is damaged.
    """
    evidence = load_evidence(paths)
    names, scale, models = selection.datasets, selection.scale, selection.models
    seed = selection.seeds[0] if len(selection.seeds) == 1 else None
    page = full_page(
        evidence, selection.tables, names, models=models, scale=scale, seed=seed, interval=True
    )
    tables = {
        f"{TABLES}/table-{number}.{form}": render(table, form, interval=True)
        for number in selection.tables or published_numbers()
        for table in (report_table(number, evidence, names, scale, selection.seeds, models=models),)
        if any(section.measured for section in table.sections)
        for form in FORMS
    }
    of_models = {}
    for part in _models(evidence, selection, seed):
        name = part[0].model.target
        diagnoses = newest_diagnoses(evidence, [name], names, scale, seed)
        for form in FORMS:
            path = f"{TABLES}/model-{plain_name(name)}.{form}"
            of_models[path] = render_models(part, form, diagnoses)
    return {PAGE: page, **tables, **of_models}


def _models(evidence: Evidence, selection: Selection, seed: int | None) -> Iterator[list[Budget]]:
    """All that is stored of each model that is selected, or else was attacked."""
    names, scale = selection.datasets, selection.scale
    if not selection.models:
        yield from attacked_models(evidence, names, scale, seed)
    for model in selection.models:
        yield stored_budgets(evidence, [model], names, scale, seed)


def distinct_models(records: Iterable[Judged]) -> dict[tuple[str, str], ModelRecord]:
    """The models that records talk about, by checkpoint and weights.

    Of several names that lead to the same weights it is the first.
    """
    found = [model for record in records for model in models_in(record)]
    found.sort(key=ModelRecord.model_dump_json, reverse=True)
    return {(model.checkpoint, model.weights): model for model in found}


def recipes(records: Iterable[Judged]) -> dict[str, str]:
    """What each model that records talk about is, complete, by its path in a bundle."""
    texts = {}
    for model in distinct_models(records).values():
        recipe = model.recipe
        words = (recipe.dataset, recipe.name, recipe.scale, model.checkpoint, model.weights)
        name = "-".join(map(plain_name, words))
        texts[f"{RECIPES}/{name}.json"] = json.dumps(model.content(), indent=1) + "\n"
    return texts


def image_rows(answered: Answered) -> str:
    """What is known of each image, as CSV (docs/export.md).

    Raises:
        UserError: a file of images is damaged.
    """
    rows: str = answered.frame().to_csv(index=False, lineterminator="\n")
    return rows


def check_rendered(found: Verification, files: Files, stored: Stored, manifest: Manifest) -> None:
    """Write page, tables, recipes and rows again, from the records, and compare.

    Args:
        found: where findings go.
        files: of the bundle.
        stored: what was read of it.
        manifest: of the bundle.
    """
    if not found.holds:
        found.skip("Page and tables: they are not written again from what does not hold.")
        return
    texts = recipes(stored.judged.values())
    try:
        texts |= rendered(Paths(found.folder), manifest.selection)
    except Exception as error:  # records that hold may still name what no page can show
        found.skip(f"Page and tables: {in_one_line(error)}.")
        return
    same_version = manifest.pclbench == __version__
    for name, text in texts.items():
        if name not in files:
            found.wrong(name, "the file", "there", "gone")
        elif files[name].read_bytes() == text.encode():
            found.checked["pages, tables and recipes"] += 1
        elif same_version:
            found.wrong(name, "the text", "as the records make it", "another")
        else:
            found.skip(f"Page and tables: pclbench {manifest.pclbench} wrote them in its own way.")
    for name, measurement in stored.measurements.items():
        _check_rows(found, files, stored, name, measurement)
    _check_rest(found, files, stored, manifest, texts)


def _check_rows(
    found: Verification, files: Files, stored: Stored, name: str, measurement: Measurement
) -> None:
    """The per-image rows of a measurement are those that follow from it, and from its set."""
    path, dataset = f"{IMAGES}/{measurement.id}.csv", stored.datasets.get(measurement.data.dataset)
    if path not in files or dataset is None:
        found.skip(f"Per-image rows: {'clean images' if path in files else 'some'} are not here.")
        return
    checked = stored.set_of(measurement)
    clean = measurement_id(measurement.target, data=measurement.data.digest, n=measurement.n)
    try:
        images = checked.images if checked else None
        known = stored.measurements.get(f"{FOLDERS.measurements.as_posix()}/{clean}.json")
        text = image_rows(Answered(dataset, images, measurement, known))
    except UserError as error:
        found.skip(f"Per-image rows of {{}}: {error.cause}", name)
        return
    whole = checked is not None or measurement.attack is None
    if not whole:
        found.skip("Per-image classes and perturbations of sets that are not here.")
    expected = list(csv.reader(text.splitlines()))
    given = list(csv.reader(files[path].read_text(encoding="utf-8", errors="replace").splitlines()))
    found.checked["per-image rows"] += len(expected) - 1
    found.compare(path, "the columns", expected[0], given[0] if given else [])
    pairs = zip_longest(expected[1:], given[1:], fillvalue=())
    differ = [place for place, pair in enumerate(pairs) if not _same_row(*pair, whole)]
    found.compare(path, "rows that differ from the records", [], differ[:10])


def _same_row(expected: Sequence[str], given: Sequence[str], whole: bool) -> bool:
    """Whether two rows say the same; without the images, what is known of them alone is not."""
    if len(expected) != len(given) or len(expected) != len(COLUMNS):
        return False
    return all(
        right == said
        or (right == "" and not whole and column.name in OF_IMAGES)
        or (column.name in SIZES and _close(right, said))
        for column, right, said in zip(COLUMNS, expected, given, strict=True)
    )


def _close(expected: str, given: str) -> bool:
    """Whether two numbers differ in their last digits alone: sums depend on the processor."""
    try:
        return math.isclose(float(expected), float(given), rel_tol=1e-9)
    except ValueError:
        return False


def _check_rest(
    found: Verification, files: Files, stored: Stored, manifest: Manifest, texts: Mapping[str, str]
) -> None:
    """The manifest's environments are the records', and every file is some part of a bundle."""
    made_in = environments((*stored.judged.values(), *stored.trainings.values()))
    found.compare(MANIFEST, "environments", made_in, manifest.environments)
    known = {*texts, *stored.made}
    known |= {f"{IMAGES}/{each.id}.csv" for each in stored.measurements.values()}
    for name in sorted(files.keys() - known):
        found.wrong(name, "the file", "no part of this bundle", "there")


def environments(records: Iterable[StoredRecord]) -> tuple[Environment, ...]:
    """Where records were made, each environment once."""
    found = {each.environment.model_dump_json(): each.environment for each in records}
    return tuple(found[key] for key in sorted(found))
