"""How Sphinx builds the site: `nox -s docs` writes it to docs/_build."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from robustbench_pcl import __version__

project = "pclbench"
author = "The pclbench authors"
project_copyright = "MIT licence"
smartquotes = False
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "repository",
    "reference",
]
exclude_patterns = ["_build", "_extensions"]
nitpicky = True
# Of other packages, and of what is not part of the public interface: shown as code, not as a link.
nitpick_ignore_regex = [("py:.*", ".*")]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
html_theme = "furo"
html_title = f"pclbench {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
