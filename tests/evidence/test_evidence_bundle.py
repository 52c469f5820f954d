"""A bundle: what is in it, that it is always the same, and what it leaves alone."""

from conftest import bundle_of  # noqa: F401
