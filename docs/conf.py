"""Settings of the documentation site: ``make docs``, or ``sphinx-build -W docs site``. Builds without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))

from egopose import __version__  # noqa: E402

project = "egopose"
author = "The egopose authors"
project_copyright = "The egopose authors, Apache-2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "site_parts"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

# a reference that leads nowhere is an error; other projects cannot be asked without a network
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(np|numpy|npt|torch|pathlib|collections|typing|types|concurrent|datetime|enum|os)(\..*)?"),
    (r"py:class", r"(NDArray|Mapping|Any)(\[.*)?|(dict|tuple|list)\[.*"),
]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"egopose {release}"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options: dict[str, Any] = {"navigation_with_keys": True}
