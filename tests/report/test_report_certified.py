"""Two-sided numbers: what is counted within a budget, in words, in every format, as a picture."""

from __future__ import annotations

import csv
import json
import re

import pytest
from fabricated import (
    make_attack,
    make_certificate,
    make_data,
    make_evidence,
    make_measurement,
    make_model,
)
from reading import parsed

from robustbench_pcl.errors import UserError
from robustbench_pcl.report.certificate_figure import certificate_figure
from robustbench_pcl.report.certificate_formats import render_certificates
from robustbench_pcl.report.certified import stored_certificates, two_sided
from robustbench_pcl.report.model_formats import render_models
from robustbench_pcl.report.model_report import stored_budgets
from robustbench_pcl.report.page import certificate_page, full_page
from robustbench_pcl.report.render import FORMATS
from robustbench_pcl.store.rules import wilson

OURS = make_model("ours")
RADII = (
    (0.0, 0.0),  # wrong when clean
    (0.0, 0.01),  # nothing certified, fooled soon
    (0.0, None),  # nothing known
    (0.01, 0.03),
    (0.03, 0.031),
    (0.03, None),
    (0.06, None),  # certified as far as was looked
    (0.02, 0.030005),  # float32 pixels may leave the budget by a rounding error
)
CERTIFICATE = make_certificate(OURS, RADII, reason="bound too loose: of layer 3")
COUNTED = {
    0: (7, 7),
    0.005: (5, 7),
    0.01: (5, 6),
    0.02: (4, 6),
    0.03: (3, 4),
    0.031: (1, 3),
    0.06: (1, 3),
}


@pytest.mark.parametrize("eps", COUNTED)
def test_images_are_counted_from_below_and_from_above(eps):
    band = two_sided(CERTIFICATE).at(eps)
    certified, withstood = COUNTED[eps]
    assert (band.certified, band.withstood, band.n) == (certified, withstood, 8)
    assert band.lower == pytest.approx(100 * certified / 8)
    assert band.upper == pytest.approx(100 * withstood / 8)
    assert band.not_known == pytest.approx(100 * (withstood - certified) / 8)
    for (low, high), count in zip(band.intervals, COUNTED[eps], strict=True):
        assert (low / 100, high / 100) == pytest.approx(wilson(count, 8))


def test_a_sentence_says_between_what_the_truth_lies():
    (said,) = two_sided(CERTIFICATE, [0.03]).sentences
    assert said.replace("\N{NO-BREAK SPACE}", " ") == (
        "At eps 0.03, between 37.5 and 50.0 % of 8 images withstand every perturbation; "
        "12.5 points are not known."
    )


def test_where_both_ends_meet_it_says_exactly():
    certificate = make_certificate(OURS, [(0.0, 0.0), (0.05, None)])
    found = two_sided(certificate)
    (said,) = found.sentences
    assert "exactly 50.0" in said
    assert found.why == []


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("bound too loose: of layer 3", "bound too loose: of layer 3"),
        ("", "the largest certified radius is 0.02"),
    ],
)
def test_where_nothing_is_certified_it_says_why(reason, said):
    certificate = make_certificate(OURS, [(0.02, None), (0.01, 0.05)], reason=reason)
    (why,) = two_sided(certificate, [0.03]).why
    assert why.replace("\N{NO-BREAK SPACE}", " ") == f"Certified 0 %: {said}."
    assert two_sided(certificate, [0.01]).why == []


def test_a_ladder_leads_from_no_budget_to_the_largest_radius():
    eps = [band.eps for band in two_sided(CERTIFICATE, [0.03]).ladder]
    assert eps == pytest.approx([0, 0.03 / 8, 0.03 / 4, 0.03 / 2, 0.03, 0.06])
    beyond = [band.eps for band in two_sided(CERTIFICATE, [0.04]).ladder]
    assert beyond == pytest.approx([0, 0.005, 0.01, 0.02, 0.04])
    certified = [band.certified for band in two_sided(CERTIFICATE).ladder]
    assert certified == sorted(certified, reverse=True)


def test_without_a_budget_it_is_the_data_sets():
    assert two_sided(CERTIFICATE).budgets == (0.03,)
    assert two_sided(make_certificate(OURS, RADII, largest_eps=0.02)).budgets == (0.02,)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_every_number(form):
    written = render_certificates([two_sided(CERTIFICATE)], form)
    assert written.endswith("\n")
    for number in ("37.5", "50.0", "12.5", "87.5"):
        assert number in written


def test_text_begins_with_the_sentence_and_fits_80_columns():
    loose = make_certificate(OURS, [(0.0, None)], reason="bound too loose: " + "of a layer " * 20)
    text = render_certificates([two_sided(CERTIFICATE), two_sided(loose)], "text")
    assert text.startswith("At eps 0.03, between 37.5 and 50.0")
    assert "Why no more is certified: bound too loose: of layer 3." in text
    assert max(map(len, text.splitlines())) <= 80


def test_json_has_the_radii_of_each_image():
    printed = json.loads(render_certificates([two_sided(CERTIFICATE)], "json"))
    (one,) = printed["certificates"]
    radii = zip(one["certified_radii"], one["fooling_radii"], strict=True)
    assert list(map(tuple, radii)) == [*RADII]
    assert {row["eps"]: row["certified"] for row in printed["rows"]}[0.03] == 37.5
    assert one["sentences"][0].startswith("At eps 0.03, between 37.5 and 50.0 %")
    assert (
        len(json.loads(render_certificates([two_sided(CERTIFICATE)] * 2, "json"))["certificates"])
        == 2
    )


def test_csv_has_a_row_for_each_step_of_the_ladder():
    found = two_sided(CERTIFICATE)
    rows = list(csv.DictReader(render_certificates([found], "csv").splitlines()))
    assert [float(row["certified"]) for row in rows] == [band.lower for band in found.ladder]
    assert {row["target"] for row in rows} == {"ours"}


def test_there_is_no_other_format():
    with pytest.raises(UserError, match="format"):
        render_certificates([two_sided(CERTIFICATE)], "xml")


def words(drawing):
    return re.findall(r"<text[^>]*>([^<]*)", drawing.svg())


def test_a_picture_has_both_curves_the_band_the_budget_n_and_scale():
    figure = certificate_figure([two_sided(CERTIFICATE)])
    said = words(figure.drawing)
    for expected in ("certified", "withstood the attacks", "not known", "eps = 0.03"):
        assert expected in said
    assert "ours" in said
    assert any("CIFAR-10, quick scale, n = 8 images." in each for each in said)
    assert figure.drawing.svg() == certificate_figure([two_sided(CERTIFICATE)]).drawing.svg()
    assert figure.drawing.png().startswith(b"\x89PNG")


def test_several_models_are_side_by_side():
    others = [make_certificate(make_model(name), RADII) for name in ("softmax", "ibp", "madry")]
    figure = certificate_figure([two_sided(each) for each in (CERTIFICATE, *others)])
    said = " ".join(words(figure.drawing))
    for name in ("ours", "softmax", "ibp", "madry"):
        assert f" {name} " in said
        assert f"{name}: At eps 0.03" in figure.caption


def stored(*names, certificates=(CERTIFICATE,), **selection):
    return [each.certificate for each in stored_certificates(certificates, names, **selection)]


def test_the_newest_certificate_of_each_model_is_taken():
    newer = make_certificate(OURS, RADII[:4], created="2026-01-01T00:00:00+00:00")
    other = make_certificate(make_model("ours", seed=1), RADII)
    mnist = make_certificate(make_model("ours", dataset="mnist"), data=make_data("mnist"))
    known = (CERTIFICATE, newer, other, mnist)
    assert stored("ours", certificates=known) == [newer, other, mnist]
    assert stored("ours", certificates=known, seed=1) == [other]
    assert stored("ours", certificates=known, datasets=["mnist"]) == [mnist]


def test_what_is_not_certified_is_refused_with_the_command():
    with pytest.raises(UserError, match=r"pclbench certify softmax. Stored: ours"):
        stored("ours", "softmax")
    with pytest.raises(UserError, match="scale"):
        stored("ours", scale="demo")


def evidence():
    attack = make_attack("pgd")
    return make_evidence(
        [
            make_measurement(OURS, correct=90, n=100),
            make_measurement(OURS, OURS, attack, correct=50, n=100),
            make_measurement(make_model("softmax"), correct=90, n=100),
            make_certificate(OURS, [(0.0, None)] * 8, reason="bound too loose: of layer 3"),
            CERTIFICATE,
        ]
    )


@pytest.mark.parametrize("form", ["text", "md", "html", "json", "latex"])
def test_a_models_report_says_it(form):
    said = render_models(stored_budgets(evidence(), ["ours"]), form)
    if form == "json":
        said = json.dumps(json.loads(said), ensure_ascii=False)
    said = re.sub(r"\s+", " ", re.sub(r"[~\\]", " ", said))
    assert "between 37.5 and 50.0 % of 8 images" in said
    other = render_models(stored_budgets(evidence(), ["softmax"]), form)
    assert "every perturbation" not in other


def test_a_report_says_once_why_nothing_is_certified():
    loose = make_certificate(OURS, [(0.0, None)] * 8, reason="bound too loose: of layer 3")
    attacks = [make_attack("pgd", eps=eps) for eps in (0.01, 0.02, 0.03)]
    records = [make_measurement(OURS, OURS, attack) for attack in attacks]
    text = render_models(stored_budgets(make_evidence([*records, loose]), ["ours"]), "text")
    assert text.count("withstand every") == 3
    assert text.count("bound too loose") == 1


def test_what_was_not_looked_for_is_not_said():
    far = make_attack("pgd", eps=0.07)
    records = [make_measurement(OURS, OURS, far), CERTIFICATE]
    assert "every perturbation" not in render_models(
        stored_budgets(make_evidence(records), ["ours"]), "text"
    )


def test_the_page_has_sentence_and_picture():
    page = full_page(evidence(), [3], models=["ours"])
    parsed(page)
    assert "ours: what withstands every perturbation, and what is not known" in page
    assert page.count("between 37.5 and 50.0") == 3  # description, caption and table
    assert "not known</text>" in page


def test_certificates_have_a_page_of_their_own():
    page = certificate_page([two_sided(CERTIFICATE)])
    parsed(page)
    assert "What is certified: ours" in page
    assert "pclbench certify ours --dataset cifar10 --scale quick --images 8" in page
    assert ">37.5<" in page
