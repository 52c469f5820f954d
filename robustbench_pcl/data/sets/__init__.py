"""One file a data set: each defines ``SPEC`` and is listed in the catalogue."""
