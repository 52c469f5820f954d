"""Whoever changes a number, a verdict or an image of a bundle is found out."""

import hashlib

import pytest
from bundles import ALWAYS
from tampering import MANIFEST, sign_again, tamper

from robustbench_pcl.errors import UserError

QUICK, ALL = 30, 500


NUMBERS = [
    pytest.param(number, marks=[] if number <= QUICK else [pytest.mark.slow])
    for number in range(1, ALL + 1)
]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_single_change_is_found(number, bundle, verifier):
    before = (bundle / MANIFEST).read_bytes()
    what = tamper(bundle, number)
    alone = (bundle / MANIFEST).read_bytes() != before and "signed" not in what
    # Of a change to the manifest alone, which has no numbers but digests, its own digest tells.
    digest = hashlib.sha256(before).hexdigest() if alone else ""
    try:
        found = verifier.bundle(bundle, digest)
    except UserError:
        return  # the manifest cannot be read
    assert not found.holds, what


def test_signing_again_what_is_unchanged_changes_nothing(bundle, verifier):
    before = (bundle / MANIFEST).read_bytes()
    sign_again(bundle)
    assert (bundle / MANIFEST).read_bytes() == before
    found = verifier.bundle(bundle, hashlib.sha256(before).hexdigest())
    assert found.findings == []
    assert found.unchecked == ALWAYS
