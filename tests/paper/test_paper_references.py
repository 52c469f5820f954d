"""Publications: every attack, loss, defence, model and data set that has a source is cited."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.paper.references import (
    PAPER,
    Family,
    bibliography,
    cited,
    key_of_number,
    keys_of,
    references,
)
from robustbench_pcl.paper.tables import published, published_numbers

FAMILIES = {
    "attacks": [*ATTACKS],
    "attack_losses": [each.value for each in AttackLoss],
    "losses": [*LOSSES],
    "defenses": [*DEFENSES],
    "models": [*MODELS],
    "datasets": [*DATASETS],
}
OF_NOBODY = {"cross-entropy", "none"}
"""Without a source: cross-entropy, and a training without a defence."""


def test_whatever_has_a_source_has_an_entry_and_no_entry_is_of_what_is_not_there():
    assert set(FAMILIES) == set(get_args(Family))
    for family, names in FAMILIES.items():
        assert {name for name in names if not keys_of(family, name)} <= OF_NOBODY
        known = {name for each in references().values() for name in getattr(each, family)}
        assert known <= set(names)


def test_every_reference_in_a_heading_of_the_paper_is_known():
    numbers = {
        int(number)
        for table in map(published, published_numbers())
        for heading in (*table.rows, *table.columns)
        for number in re.findall(r"\[(\d+)\]", heading.label)
    }
    assert len(numbers) == 9
    assert None not in map(key_of_number, numbers)


def test_bibtex_has_each_entry_once_and_whole():
    text = bibliography([*references(), PAPER])
    assert re.findall(r"@\w+\{(\w+),", text) == sorted(references())
    for entry in text.split("\n\n"):
        assert entry.count("{") == entry.count("}")
        for field in ("author", "title", "year"):
            assert f"  {field} = {{" in entry
    assert text.isascii()


@pytest.mark.parametrize("key", references())
def test_what_is_known_of_a_publication_is_plausible(key):
    each = references()[key]
    assert re.fullmatch(r"[a-z]+(\d{4})[a-z]*", key)[1] == str(each.year)
    assert key.startswith(re.split(r"[,\W]", each.author.lower())[0])
    assert bool(each.place or each.arxiv)
    assert re.fullmatch(r"(\d{4}\.\d{4,5})?", each.arxiv)


def test_keys_are_found_in_text():
    assert cited(r"a~\cite{x2000,y2001} and \cite{z}") == {"x2000", "y2001", "z"}
