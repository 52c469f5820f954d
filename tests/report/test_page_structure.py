"""The page: each measured number has its evidence, each part its anchor, and nothing is outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from fabricated import (
    make_answer,
    make_answers,
    make_attack,
    make_diagnosis,
    make_evidence,
    make_measurement,
    make_model,
)
from reading import parsed

from robustbench_pcl.paper.tables import published
from robustbench_pcl.report.page import full_page
from robustbench_pcl.report.summary import summary_rows

OURS, ODD = make_model("ours"), "<img src=x onerror=alert(1)>"
PGD, STRONGEST = make_attack("pgd"), make_attack("strongest")
CLEAN = make_measurement(OURS, correct=900)
BY_PGD = make_measurement(OURS, OURS, PGD, correct=270)
BY_STRONGEST = make_measurement(OURS, OURS, STRONGEST, correct=30, mode="early-stop")
JUDGED = make_diagnosis(OURS, PGD)


class Page(HTMLParser):
    """Numbers that are links, tables and captions, and the text of each piece of evidence."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tables, self.captions, self.regions = [], 0, [], []
        self.heads, self.levels, self.evidence, self.inside = [], [], {}, None
        self.ids, self.images = [], []
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        if tag == "a" and "data-ref" in given:
            self.links.append(given["href"].removeprefix("#evidence-"))
        if tag == "article":
            self.inside = given["id"].removeprefix("evidence-")
            self.evidence[self.inside] = ""
        if re.fullmatch(r"h\d", tag):
            self.levels.append(int(tag[1]))
        self.tables += tag == "table"
        self.captions += [""] if tag == "caption" else []
        self.heads += [given] if tag == "th" else []
        self.images += [given] if tag == "img" else []
        assert "tabindex" not in given or (tag, given["tabindex"]) == ("article", "-1")

    def handle_endtag(self, tag):
        if tag == "article":
            self.inside = None
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside:
            self.evidence[self.inside] += data
        if "caption" in self.open:
            self.captions[-1] += data


@pytest.fixture(scope="module")
def whole():
    """Every cell of every table on two data sets."""
    answers = [record for number in (3, 5, 12, 13) for record in make_answers(number, ["cifar10"])]
    answers += make_answers(3, ["mnist"])
    found = {getattr(each, "id", None) or each.checkpoint: each for each in answers}
    return make_evidence(found.values())


@pytest.fixture(scope="module")
def page(whole):
    return full_page(whole)


def test_every_measured_number_opens_evidence_that_is_there(page):
    read = Page(page)
    assert set(read.links) == set(read.evidence)
    cells = re.findall(r"<td[^>]* data-value=[^>]*>(.*?)</td>", page, re.DOTALL)
    measured = [cell for cell in cells if "<i style" in cell]
    assert len(measured) > 100
    assert all('href="#evidence-' in cell for cell in measured)


def test_evidence_says_all_that_made_the_number():
    read = Page(full_page(make_evidence([CLEAN, BY_PGD, BY_STRONGEST, JUDGED])))
    assert {CLEAN.id, BY_PGD.id, BY_STRONGEST.id} <= set(read.evidence)
    text = " ".join(read.evidence[BY_PGD.id].split())
    for words in (
        "PGD, eps 0.03 on ours (CIFAR-10, quick scale): 27.0 %",
        "27.0 % (270 of 1,000 images)",
        "24.3 to 29.8 (Wilson)",
        *(f"{name} = {value:g}" for name, value in PGD.items() if isinstance(value, float | int)),
        "exact (all steps",
        "attack seed0",
        "ours, seed 0, quick scale",
        "the first 1,000 test images; torchvision",
        "made2025-01-01T00:00:00+00:00 on CPU, 2 threads, Linux x86_64",
        "pclbench 0.2.0, torch 2.6.0, Python 3.11.9",
        *(BY_PGD.id, BY_PGD.adversarial_set, OURS.checkpoint, OURS.weights, BY_PGD.data.digest),
        f"Verdict: {JUDGED.code}",
        f"diagnosis{JUDGED.id}",
        "--dataset cifar10 --scale quick --images 1000 --seed 0 --attack pgd --exact",
    ):
        assert words in text
    assert "Shown in Summary, Table 3, CIFAR-10" in text


def test_anchors_stay_where_they_are(page):
    for text in (page, full_page(make_evidence([CLEAN, BY_PGD]))):
        anchors = {"summary", "figures", "table-3", "table-3-cifar10", "table-12", "evidence"}
        assert anchors <= set(parsed(text.removeprefix("<!DOCTYPE html>")).ids)
        assert "figure-white-box-attacks-on-cifar-10" in Page(text).ids
        assert 'href="#table-3-cifar10" aria-label' in text


def test_every_table_has_a_caption_and_every_head_a_scope(page):
    read = Page(page)
    assert read.tables == len(read.captions)
    assert all(caption.strip() for caption in read.captions)
    assert {head.get("scope") for head in read.heads} == {"col", "row", "colgroup"}
    assert read.levels[0] == 1
    assert read.levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(read.levels))


def test_what_is_not_measured_is_one_list_with_its_commands():
    text = full_page(make_evidence([CLEAN, BY_PGD]))
    folded = re.search(r'id="not-measured">.*?</details>', text, re.DOTALL)[0]
    assert '<li id="table-12">Table 12. Training time of distance-based losses' in folded
    assert "<code>pclbench run --table 12 --dataset cifar10</code>" in folded
    assert '<section class="report-table" id="table-12">' not in text


def test_only_a_page_with_published_numbers_promises_them(page):
    assert "measured beside published</h1>" in page
    demo = make_model("ours", dataset="digits", scale="demo")
    attack = make_attack("pgd", "digits", "demo", eps=0.1)
    text = full_page(make_evidence([make_measurement(demo, demo, attack)]))
    assert "what was measured</h1>" in text
    assert "published" not in text.split("<main")[0].split("</style>")[1]


def test_names_that_others_gave_stay_text():
    model = make_model(ODD, weights="aa")
    found = [make_measurement(model), make_measurement(model, model, PGD, correct=3)]
    text = full_page(make_evidence(found))
    assert "<img" not in text
    assert "&lt;img src=x" in text
    assert not re.search(r'(?:src|href)="(?!#|data:image/png;base64,)', text)
    assert "@import" not in text
    assert "url(http" not in text


def test_a_strip_is_inside_the_page_with_its_words(tmp_path):
    png = bytes.fromhex("89504e470d0a1a0a")
    asked = []

    def strips(identity):
        asked.append(identity)
        return png if identity == BY_PGD.id else None

    read = Page(full_page(make_evidence([CLEAN, BY_PGD, BY_STRONGEST]), strips=strips))
    assert [image["src"] for image in read.images] == ["data:image/png;base64,iVBORw0KGgo="]
    assert all(image["alt"] for image in read.images)
    assert set(asked) == {BY_PGD.id, BY_STRONGEST.id}


def test_numbers_that_share_a_measurement_share_its_evidence():
    cell = published(13).positions("cifar10")[0].cell
    text = full_page(make_evidence([make_answer(cell, 12.5)]), [13])
    assert len(Page(text).links) > len(set(Page(text).links))
    assert text.count('<article class="evidence"') == len(set(Page(text).links))


def test_the_summary_of_the_page_is_that_of_the_records(whole, page):
    rows = summary_rows(whole)
    part = re.search(r'<table class="summary".*?</table>', page, re.DOTALL)[0]
    shown = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in part.split("<tr>")[2:]]
    assert [cells[0].split(" <")[0] for cells in shown] == [row.target for row in rows]
    links = re.findall(r"#evidence-([^\"]+)", part)
    assert links == [identity for row in rows for identity in row.measurements]
