"""One published cell of Table 3, made again from nothing, lies in its published interval."""

import pytest

from robustbench_pcl import Workspace
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.data.loader import load
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.tables import published as paper_table
from robustbench_pcl.report.results import load_evidence
from robustbench_pcl.store.published import published_paths
from robustbench_pcl.store.records import Measurement, find_record

TABLE, DATASET, TARGET = 3, "fmnist", "softmax"
"""The cheapest row of the table: one training with cross-entropy, of the small network."""


@pytest.fixture(scope="module")
def published_cells():
    """The published accuracies of the row, clean and under FGSM and PGD."""
    try:
        paths = published_paths()
        here = load(DATASET, download=False).test.digest
    except UserError as error:
        pytest.skip(error.cause)
    cells = [
        position.cell
        for position in paper_table(TABLE).positions(DATASET)
        if position.cell.target == TARGET and position.cell.source in (None, TARGET)
    ]
    rows = load_evidence(paths).answers(cells).records
    found = [find_record(paths.measurements, row.id, Measurement) for row in rows if row]
    cheap = [
        each
        for each in found
        if each and (each.attack is None or each.attack["name"] in ("fgsm", "pgd"))
    ]
    if not cheap or any(each.data.digest != here for each in cheap):
        pytest.skip(f"no published accuracies of {TARGET} on the images of {DATASET} that are here")
    return cheap


@pytest.mark.slow
def test_a_published_cell_made_again_lies_in_its_interval(published_cells, tmp_path):
    workspace = Workspace(tmp_path, device="cpu")
    for each in published_cells:
        attack = each.attack and ATTACKS.read(each.attack)
        again = workspace.measure(
            each.target.recipe, attack, images=each.n, seed=each.seed, mode=each.mode
        )
        low, high = each.interval
        near = 1e-12  # the interval of 0 begins at 4e-19
        assert low - near <= again.accuracy <= high + near, each.attack
