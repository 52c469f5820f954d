"""A table of the paper with what was measured, ready to be rendered."""
