"""Totals of the printed numbers, added up from the paper, so that a misread digit is noticed."""

from __future__ import annotations

import pytest

from robustbench_pcl.paper.tables import published, published_numbers

# (table, data set): totals of the rows, totals of the columns; a dash counts nothing.
TOTALS = {
    (3, "mnist"): (
        (192.22, 599.83, 710.04, 730.78),
        (396.96, 138.9, 100.2, 116.2, 103.11, 94.2, 272.1, 253.4, 263.9, 253.5, 240.4),
    ),
    (3, "cifar10"): (
        (273.71, 699.25, 742.48, 802.89),
        (364.42, 239.8, 124.5, 95.4, 127.2, 116.41, 301.9, 289.7, 290.7, 289.5, 278.8),
    ),
    (3, "cifar100"): (
        (280.14, 564, 588.51, 601.32),
        (281.98, 199.1, 98.6, 104.1, 99.22, 93.57, 238.2, 230.1, 233.6, 231.9, 223.6),
    ),
    (3, "fmnist"): (
        (262.81, 606.02, 738.13, 747.6),
        (365.16, 140, 99.7, 110.4, 103.7, 96.3, 308.8, 283.3, 285.9, 284.1, 277.2),
    ),
    (3, "svhn"): (
        (319.05, 685.66, 797.18, 813.26),
        (376.35, 256.5, 139.5, 153, 141, 131.5, 304.3, 279, 285, 283.7, 265.3),
    ),
    (4, "cifar10"): (
        (409.27, 503.56, 520.01),
        (273.62, 215.45, 120.19, 123.92, 113.16, 218.4, 124.5, 127.2, 116.4),
    ),
    (4, "fmnist"): (
        (274.02, 422.83, 427.1),
        (273.65, 127.4, 97.8, 100.3, 93.9, 131.3, 99.6, 103.7, 96.3),
    ),
    (5, "cifar10"): (
        (796.2, 533.9, 399.7, 439, 289, 393.9, 264.9, 715.4, 517.5, 317.4, 392.4, 250.2),
        (329.6, 389.5, 457.9, 379.4, 604, 742.4, 717.2, 822.8, 866.7),
    ),
    (6, "mnist"): (
        (891.9, 798.9, 574, 623.3, 443.8, 576.3, 391.6, 797.4, 654.6, 213.4, 639.8, 438.6),
        (428.4, 620.7, 631.4, 788.8, 903.2, 672.7, 956.8, 1014.6, 1027),
    ),
    (7, "cifar100"): (
        (352.1, 203.4, 157.8, 213.5, 158.7, 209.5, 153),
        (178, 208.2, 324.3, 364.6, 372.9),
    ),
    (8, "fmnist"): (
        (301.1, 337.4),
        (176.8, 164.8, 148.9, 148),
    ),
    (8, "svhn"): (
        (247.2, 344.4),
        (177.3, 144.3, 136.1, 133.9),
    ),
    (8, "cifar10"): (
        (262.6, 316.7),
        (176.7, 146, 129.1, 127.5),
    ),
    (8, "cifar100"): (
        (144.4, 200.3),
        (133.5, 78.4, 68, 64.8),
    ),
    (9, "cifar10"): (
        (444.19, 239.68, 101.44, 103.6, 84.14),
        (112.2, 139.6, 228.1, 242, 251.15),
    ),
    (9, "cifar100"): (
        (347.5, 140.9, 70.3, 70.5, 50.3),
        (100.5, 110.4, 124.5, 132.7, 211.4),
    ),
    (11, "cifar10"): (
        (112.21, 98.02, 120.92, 132.96, 142.31, 151.69, 166.69, 185.39),
        (698.47, 319.8, 91.92),
    ),
    (12, "cifar10"): (
        (502.4, 1564),
        (189.9, 402, 533.5, 538.1, 402.9),
    ),
    (13, "cifar10"): (
        (157.71, 134.76, 241.65, 227.13),
        (121.65, 144.54, 212.91, 282.15),
    ),
}


def total(values) -> float:
    return sum(value or 0 for value in values)


@pytest.mark.parametrize(("number", "dataset"), TOTALS)
def test_rows_and_columns_add_up_to_the_papers_totals(number, dataset):
    rows, columns = TOTALS[number, dataset]
    values = published(number).section(dataset).values
    assert [total(row) for row in values] == pytest.approx(rows, abs=1e-6)
    assert [total(column) for column in zip(*values, strict=True)] == pytest.approx(
        columns, abs=1e-6
    )


def test_every_section_has_its_totals():
    sections = {(n, dataset) for n in published_numbers() for dataset in published(n).datasets}
    assert sections == set(TOTALS)
