"""The version, apart from all that a notebook imports from the top of the package."""

__version__ = "0.2.0.dev0"
