"""Figures from stored records, as SVG and PNG."""
