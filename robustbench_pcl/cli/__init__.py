"""The command line: a command is a frozen set of options that can be called."""

from robustbench_pcl.cli.app import app as main

__all__ = ["main"]
