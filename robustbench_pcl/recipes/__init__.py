"""Recipes by name: rows of the paper's tables and a user's own, at three scales, on any data set.

A recipe is data: ``presets.toml`` says what each differs in from its base, ``scales.toml`` how
large it is at each scale; :mod:`~robustbench_pcl.recipes.load` makes it complete.
"""
