"""pclbench: train a defence, attack it, measure transfer, report from stored evidence."""

__version__ = "0.1.0"
